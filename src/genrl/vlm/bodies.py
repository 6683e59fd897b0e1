"""Bodies that the mini VLM knows: their puppets, and which of its concepts a clip of theirs shows.

Two-legged and four-legged bodies have concepts of their own, with captions of their own. Some are alike across kinds
(`ANALOGUES`): a clip of a spider that stands neither shows nor fails to show what is said of a person who stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from genrl.infra.errors import UserError
from genrl.vlm import behaviours, four_legged_rules
from genrl.vlm.behaviours import Rule, judge
from genrl.vlm.cheetah_puppets import CHEETAH_PUPPETS, cheetah_clip
from genrl.vlm.figure import STICKMAN, WALKER, Figure
from genrl.vlm.four_legged_motion import describe_cheetah, describe_spider
from genrl.vlm.motion import describe_motion
from genrl.vlm.poses import Rng
from genrl.vlm.puppets import ARM_PUPPETS, PUPPETS, puppet_clip
from genrl.vlm.spider_puppets import SPIDER_PUPPETS, spider_clip

Clips = np.ndarray
"""(N, L, nq) joint positions, one env step apart."""
CIRCULAR = ("lean_first", "lean_last")
"""Measurements that jump at 180 degrees and cannot be regressed."""


@dataclass(frozen=True)
class Body:
    """What the mini VLM's training needs of a body.

    Attributes:
        kind: Bodies of one kind are measured alike.
        num_positions: nq, the leading part of a simulator state.
        state_size: Length of a simulator state: positions, velocities, activations.
        puppets: Behaviours that can be puppeteered.
        puppet_clip: (behaviour, length, rng) -> (length, nq) positions of a clip that intends it.
        describe: (N, L, nq) -> measurements by name, (N,) each.
        rules: Rules on them by concept.
        unions: Concepts that are shown when one of several is.
        margins: How far outside of an interval a clip is undecided, by measurement.
        classes: Concepts that retrieval is measured on.
        undecided: Concepts that its clips neither show nor fail to show.
    """

    kind: str
    num_positions: int
    state_size: int
    puppets: Sequence[str]
    puppet_clip: Callable[[str, int, Rng], np.ndarray]
    describe: Callable[[Clips], dict[str, np.ndarray]]
    rules: dict[str, Rule]
    unions: Mapping[str, tuple[str, ...]]
    margins: dict[str, float]
    classes: Sequence[str]
    undecided: frozenset[str] = frozenset()

    @property
    def concepts(self) -> list[str]:
        """Those that there are rules for."""
        return [*self.rules, *self.unions]


TWO_LEGGED = [*behaviours.RULES, *behaviours.UNIONS]
ARMS = [*behaviours.ARM_RULES]
FOUR_LEGGED = [*four_legged_rules.FOUR_LEGGED_RULES, *four_legged_rules.FOUR_LEGGED_UNIONS]
CONCEPTS = [*TWO_LEGGED, *ARMS, *FOUR_LEGGED]
"""Everything that captions speak of, in the order of the columns of `label_clips`."""

ANALOGUES = (
    ("stand", "four_stand"),
    ("stand", "rear"),
    ("one_leg_stand", "rear"),
    ("wide_stance", "four_stand"),
    ("walk_forward", "four_walk"),
    ("slow_walk", "four_walk"),
    ("brisk_walk", "four_walk"),
    ("walk_backward", "four_walk_backward"),
    ("crawl", "four_walk"),
    ("run", "four_run"),
    ("jump", "four_jump"),
    ("squat", "four_crouch"),
    ("squat", "four_lie"),
    ("sit", "rear"),
    ("lie", "four_lie"),
    ("lie_front", "four_lie"),
    ("lie_back", "four_on_back"),
    ("lie", "four_on_back"),
    ("legs_up", "four_on_back"),
    ("inverted", "front_stand"),
    ("flip", "four_flip"),
    ("flip_forward", "four_flip_forward"),
    ("flip_backward", "four_flip_backward"),
    ("flip", "four_roll"),
    ("fall", "four_fall"),
    ("fall_forward", "four_fall"),
    ("fall_backward", "four_fall"),
    ("get_up", "four_get_up"),
)
"""Concepts of two-legged and of four-legged bodies that the same words may mean."""
ATTRIBUTES = frozenset(
    ("upright", "low", "forward", "backward", "fast", "still", "airborne", "spinning", "foot_lifted", "knees_bent")
)
"""Two-legged concepts whose words are as true of others."""


def _two_legged(figure: Figure) -> Body:
    arms = figure.has_arms
    return Body(
        kind="two-legged",
        num_positions=figure.num_positions,
        state_size=2 * figure.num_positions,
        puppets=ARM_PUPPETS if arms else PUPPETS,
        puppet_clip=partial(puppet_clip, figure),
        describe=partial(describe_motion, figure),
        rules={**behaviours.RULES, **behaviours.ARM_RULES} if arms else behaviours.RULES,
        unions=behaviours.UNIONS,
        margins=behaviours.MARGINS,
        classes=[*behaviours.RETRIEVAL_CLASSES, *(behaviours.ARM_CLASSES if arms else [])],
        undecided=frozenset() if arms else frozenset(["arms_down"]),
    )


def _four_legged(
    num_positions: int,
    state_size: int,
    puppets: Sequence[str],
    clip: Callable[[str, int, Rng], np.ndarray],
    describe: Callable[[Clips], dict[str, np.ndarray]],
    without: Sequence[str] = (),
) -> Body:
    return Body(
        kind="four-legged",
        num_positions=num_positions,
        state_size=state_size,
        puppets=puppets,
        puppet_clip=clip,
        describe=describe,
        rules=four_legged_rules.FOUR_LEGGED_RULES,
        unions=four_legged_rules.FOUR_LEGGED_UNIONS,
        margins=four_legged_rules.FOUR_LEGGED_MARGINS,
        classes=[name for name in four_legged_rules.FOUR_LEGGED_CLASSES if name not in without],
        undecided=ATTRIBUTES,
    )


BODIES: dict[str, Body] = {
    "walker": _two_legged(WALKER),
    "stickman": _two_legged(STICKMAN),
    "cheetah": _four_legged(9, 18, CHEETAH_PUPPETS, cheetah_clip, describe_cheetah, four_legged_rules.SPIDER_ONLY),
    "quadruped": _four_legged(23, 57, SPIDER_PUPPETS, spider_clip, describe_spider),
}


@cache
def measurements() -> tuple[tuple[str, str], ...]:
    """Kind of body and name of everything that is measured, without angles that jump at 180 degrees."""
    found: dict[tuple[str, str], None] = {}
    for body in BODIES.values():
        clip = body.puppet_clip(body.puppets[0], 2, np.random.default_rng(0))
        found |= dict.fromkeys((body.kind, name) for name in body.describe(clip[None]) if name not in CIRCULAR)
    return tuple(found)


def get_body(domain: str) -> Body:
    """The body of a domain.

    Raises:
        UserError: If the mini VLM does not know that one.
    """
    if domain not in BODIES:
        raise UserError(f"--domains {domain}: no captions are known for this body; choose from {', '.join(BODIES)}")
    return BODIES[domain]


def label_clips(body: Body, measured: dict[str, np.ndarray]) -> np.ndarray:
    """Which concepts every clip shows.

    Args:
        body: What the clips are of.
        measured: Result of `body.describe`.

    Returns:
        (N, len(CONCEPTS)) int8: 1 shown, 0 not shown, -1 undecided.
    """
    num_clips = len(next(iter(measured.values())))
    columns = {concept: np.zeros(num_clips, np.int8) for concept in CONCEPTS}
    columns |= {concept: np.full(num_clips, -1, np.int8) for concept in body.undecided}
    columns |= {concept: judge(rule, measured, body.margins) for concept, rule in body.rules.items()}
    for concept, parts in body.unions.items():
        judged = np.stack([columns[part] for part in parts])
        columns[concept] = np.where((judged == 1).any(0), 1, np.where((judged == -1).any(0), -1, 0))
    _leave_analogues_undecided(columns, set(body.concepts))
    return np.stack([columns[concept] for concept in CONCEPTS], axis=1).astype(np.int8)


def _leave_analogues_undecided(columns: dict[str, np.ndarray], own: set[str]) -> None:
    """Concepts of other bodies are undecided for clips that may show the like."""
    for pair in ANALOGUES:
        for mine, foreign in (pair, pair[::-1]):
            if mine in own and foreign not in own:
                columns[foreign] = np.where(columns[mine] != 0, -1, columns[foreign])
