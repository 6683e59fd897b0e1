"""The imagined return of one policy while it learns: smoothed, kept, and judged to have settled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SettleConfig:
    """When learning has nothing more to gain: the imagined return has stopped rising."""

    patience: int = 400
    """Updates without progress after which learning stops; 0 never stops early."""
    min_gain: float = 0.01
    """Least rise of the smoothed imagined return that counts as progress, as a share of its value."""
    smoothing: int = 50
    """Updates averaged."""

    def __post_init__(self) -> None:
        if self.patience < 0 or self.smoothing < 1:
            raise ValueError(
                f"settle.patience must be 0 or more and settle.smoothing at least 1, got {self.patience} and "
                f"{self.smoothing}"
            )


class ReturnHistory:
    """Running means of return and reward, and the best so far."""

    def __init__(self, config: SettleConfig) -> None:
        self.config = config
        self.updates = 0
        self.smooth_return = 0.0
        self.smooth_reward = 0.0
        self.best_return = float("-inf")
        self.best_update = 0
        self.history: list[tuple[int, float]] = []

    @property
    def settled(self) -> bool:
        """Whether `patience` updates have passed without progress."""
        return bool(self.config.patience) and self.updates - self.best_update >= self.config.patience

    def add(self, value: float, reward: float) -> None:
        """Takes in return and reward of one update."""
        # A running mean that starts as the plain mean of what there is.
        self.updates += 1
        rate = max(1.0 / self.config.smoothing, 1.0 / self.updates)
        self.smooth_return += rate * (value - self.smooth_return)
        self.smooth_reward += rate * (reward - self.smooth_reward)

    def record(self) -> None:
        """Notes the smoothed return, and whether it is a better one."""
        self.history.append((self.updates, self.smooth_return))
        needed = self.best_return + self.config.min_gain * abs(self.best_return)
        if not self.best_update or self.smooth_return > needed:
            self.best_return, self.best_update = self.smooth_return, self.updates

    def summary(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "updates": self.updates,
            "imagined_return": self.smooth_return,
            "imagined_reward": self.smooth_reward,
            "settled": self.settled,
            "history": self.history,
        }

    def state_meta(self) -> dict[str, Any]:
        """JSON-ready, for `load_state`."""
        best = {"best_return": self.best_return, "best_update": self.best_update} if self.best_update else {}
        own = {name: getattr(self, name) for name in ("updates", "smooth_return", "smooth_reward", "history")}
        return own | best

    def load_state(self, meta: Mapping[str, Any]) -> None:
        """Takes back what `state_meta` gave."""
        for name in ("updates", "smooth_return", "smooth_reward", "best_return", "best_update"):
            setattr(self, name, meta.get(name, getattr(self, name)))
        self.history = [(int(update), float(value)) for update, value in meta["history"]]
