"""Actions of other formats: their units, and which frame they belong to.

A store's actions lie in -1 ... 1, and row t holds the action that led to frame t; row 0 holds none. Minari and LeRobot
pair a frame with the action that was taken there, which leads to the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from genrl.data.episode import Array, StoreSpec
from genrl.infra.errors import UserError
from genrl.infra.units import to_units
from genrl.interop.original import ACTION_TOLERANCE, CorruptEpisodeError

ActionKind = Literal["auto", "continuous", "discrete"]
NamedActions = Iterator[tuple[str, Array]]
"""Where actions are from, and (N, A) of them."""


@dataclass(frozen=True)
class ActionUnits:
    """How native actions become those of a store, and back.

    Attributes:
        low: (A,) smallest native action; empty when native actions lie in -1 ... 1 already.
        high: (A,) largest one.
        discrete: Whether a store's actions are one-hot; native ones stay as they are then.
    """

    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    discrete: bool = False

    @classmethod
    def of(cls, spec: StoreSpec) -> ActionUnits:
        """Those that a store remembers."""
        return cls(spec.action_low, spec.action_high, spec.discrete)

    def to_store(self, native: Array) -> Array:
        """(N, A) native actions -> float32 in -1 ... 1; a component that cannot change becomes zero.

        Raises:
            CorruptEpisodeError: If one is not finite or beyond the bounds.
        """
        if not np.isfinite(native).all():
            raise CorruptEpisodeError("action holds NaN or infinity")
        action = native.astype(np.float64)
        if not self._is_unit:
            low, high = self._bounds
            reach = np.where(high > low, high - low, 1.0)
            action = np.where(high > low, 2.0 * (action - low) / reach - 1.0, 2.0 * (action - low))
        if np.abs(action).max(initial=0.0) > 1.0 + ACTION_TOLERANCE:
            bounds = "-1 ... 1" if self._is_unit else f"{list(self.low)} ... {list(self.high)}"
            raise CorruptEpisodeError(f"actions are not within {bounds}")
        return action.clip(-1.0, 1.0).astype(np.float32)

    def to_native(self, action: Array) -> Array:
        """(N, A) actions of a store -> float32 native ones."""
        if self._is_unit:
            return action
        return to_units(action.astype(np.float64), self.low, self.high).astype(np.float32)

    @property
    def _is_unit(self) -> bool:
        return self.discrete or not self.low or set(self.low) == {-1.0} and set(self.high) == {1.0}

    @property
    def _bounds(self) -> tuple[Array, Array]:
        return np.asarray(self.low, np.float64), np.asarray(self.high, np.float64)


def is_one_hot(action: Array) -> bool:
    """Whether each row of (N, A) actions is one of two choices or more: a single 1, all others 0."""
    return action.shape[1] > 1 and bool(np.isin(action, (0, 1)).all() and (action.sum(axis=1) == 1).all())


def told_discrete(found: NamedActions) -> bool:
    """Whether actions that nobody called discrete are, since all of them are one-hot.

    Args:
        found: The actions, part by part; looked at until one is not one-hot.

    Raises:
        UserError: If those of one part are, and of another are not.
    """
    first = None
    for name, action in found:
        if not len(action):
            continue
        if not is_one_hot(action):
            if first is None:
                return False
            raise UserError(
                f"the actions of {first} are one-hot, those of {name} are not; pass --action-kind continuous, "
                "or discrete, which sets such episodes aside"
            )
        first = first or name
    return first is not None


def check_one_hot(action: Array) -> None:
    """Refuse an episode of a store of discrete actions that has others; its first row has none.

    Raises:
        CorruptEpisodeError: If it has.
    """
    if not is_one_hot(action[1:]):
        raise CorruptEpisodeError(
            "its actions are not one-hot, and the store is of discrete ones; import it to another store, "
            "or all of them to a new one with --action-kind continuous"
        )


def choose_units(
    kind: ActionKind, given: ActionUnits | None, known: ActionUnits | None, find: Callable[[], NamedActions]
) -> ActionUnits:
    """Units of actions: first what the user says, then what a store has said, then what the data show.

    Args:
        kind: What the user calls the actions.
        given: Bounds that the user stated.
        known: Units of the store that they were exported from, or are added to.
        find: The actions, part by part.

    Raises:
        UserError: If what the user says does not fit together, or nobody says whether one-hot actions are discrete.
    """
    if kind == "discrete":
        if given is not None:
            raise UserError("discrete actions have no bounds; leave out --action-low and --action-high")
        return ActionUnits(discrete=True)
    if given is not None:
        return given
    if known is not None and not (known.discrete and kind == "continuous"):
        return known
    if kind == "auto" and told_discrete(find()):
        return ActionUnits(discrete=True)
    return fitted_units(action for _, action in find())


def given_units(low: tuple[float, ...], high: tuple[float, ...], action_dim: int) -> ActionUnits | None:
    """Units that the user stated: one bound for all components, or one for each; None when there are none.

    Raises:
        UserError: If the numbers do not fit the actions.
    """
    if not low and not high:
        return None
    for option, bounds in (("--action-low", low), ("--action-high", high)):
        if len(bounds) not in (1, action_dim):
            raise UserError(f"{option} needs 1 number or {action_dim}, one for each component; got {len(bounds)}")
    low, high = (bounds * action_dim if len(bounds) == 1 else bounds for bounds in (low, high))
    if any(below >= above for below, above in zip(low, high, strict=True)):
        raise UserError(f"--action-low must lie below --action-high, got {list(low)} and {list(high)}")
    return ActionUnits(low, high)


def fitted_units(episodes: Iterable[Array]) -> ActionUnits:
    """Units of actions that nobody gave bounds for: as they are if within -1 ... 1, else between least and largest.

    Args:
        episodes: (N, A) native actions each, all of one size; rows that are not finite do not count.
    """
    low = high = None
    for native in episodes:
        rows = native[np.isfinite(native).all(axis=1)]
        if not len(rows):
            continue
        low = rows.min(axis=0) if low is None else np.minimum(low, rows.min(axis=0))
        high = rows.max(axis=0) if high is None else np.maximum(high, rows.max(axis=0))
    if low is None or high is None or max(np.abs(low).max(), np.abs(high).max()) <= 1.0 + ACTION_TOLERANCE:
        return ActionUnits()
    return ActionUnits(tuple(map(float, low)), tuple(map(float, high)))


def after_frames(before: Array) -> Array:
    """(N - 1, ...) what followed each frame but the last -> (N, ...) what led to each; zero for the first."""
    return np.concatenate([np.zeros_like(before, shape=(1, *before.shape[1:])), before])
