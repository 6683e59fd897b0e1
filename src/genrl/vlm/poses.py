"""Poses that a puppet can hold.

A pose is given in degrees in the world, which say more than joint angles: `lean` of the torso (forward positive), how
far a knee is before its hip (`thigh`), how far an ankle is behind its knee (`shin`), and the pitch of the foot (toes
down positive). Numbers are drawn anew at every call.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Rng = np.random.Generator

Pose = np.ndarray
"""(7,) degrees: lean, then thigh, shin and foot pitch of either leg."""
FLAT = np.nan
"""Pitch of a foot that stays flat on the floor, whatever the leg does."""


def pose(lean: float, first: tuple[float, float, float], second: tuple[float, float, float]) -> Pose:
    """A pose from the lean and two legs, each (thigh, shin, foot pitch)."""
    return np.array([lean, *first, *second])


def straight_leg(thigh: float, bend: float = 0.0, foot: float = FLAT) -> tuple[float, float, float]:
    """A leg from its thigh and the bend of its knee, which is straight at zero."""
    return thigh, bend - thigh, foot


def stand(rng: Rng) -> Pose:
    """Upright on both feet."""
    return pose(
        rng.uniform(-8, 8), *(straight_leg(rng.uniform(-4, 12), rng.uniform(0, 25) * rng.random()) for _ in range(2))
    )


def squat(rng: Rng) -> Pose:
    """Hips low over flat feet."""
    thigh, shin = rng.uniform(58, 100), rng.uniform(15, 42)
    legs = [(thigh + rng.normal(0, 4), shin + rng.normal(0, 4), FLAT) for _ in range(2)]
    return pose(rng.uniform(-5, 38), *legs)


def _sit(rng: Rng) -> Pose:
    bent = rng.random() < 0.35
    lean = rng.uniform(-35, -10) if bent else rng.uniform(-25, 15)
    legs = []
    for _ in range(2):
        thigh = rng.uniform(100, 122) if bent else rng.uniform(87, 95)
        # A bent knee is as high as lets the foot rest on the floor beside the hips.
        shin = -np.rad2deg(np.arccos(0.9 * np.sin(np.deg2rad(thigh - 90)))) if bent else rng.uniform(3, 8) - thigh
        legs.append((thigh, shin, -90.0 * (not bent)))
    return pose(lean, *legs)


def _kneel(rng: Rng) -> Pose:
    thigh = rng.uniform(-8, 52)
    legs = [(thigh + rng.normal(0, 4), rng.uniform(90, 102), 135.0) for _ in range(2)]
    return pose(rng.uniform(-12, 25), *legs)


def _lunge(rng: Rng) -> Pose:
    lean = rng.uniform(-5, 28)
    back = (rng.uniform(-18 - lean, 5), rng.uniform(55, 92), rng.uniform(40, 80))
    # The front thigh is as level as lets the rear knee hang this far above the floor.
    knee_height, shin = rng.uniform(0.0, 0.3), rng.uniform(-10, 25)
    level = np.cos(np.deg2rad(back[0])) + (knee_height - 0.05 - 0.5 * np.cos(np.deg2rad(shin))) / 0.45
    front = (min(np.rad2deg(np.arccos(np.clip(level, -1, 1))), 98 - lean), shin, FLAT)
    return pose(lean, front, back)


def _one_leg_stand(rng: Rng) -> Pose:
    if rng.random() < 0.7:
        thigh = rng.uniform(42, 95)
        lifted = (thigh, rng.uniform(-0.4 * thigh, 65), rng.uniform(-10, 60))
    else:
        lifted = (rng.uniform(-10, 15), rng.uniform(68, 118), rng.uniform(40, 110))
    return pose(rng.uniform(-10, 10), straight_leg(rng.uniform(-4, 6), rng.uniform(0, 12)), lifted)


def leg_high(rng: Rng) -> Pose:
    """One leg stretched out in front, about level."""
    lean = rng.uniform(-40, 5)
    thigh = rng.uniform(80, min(99 - lean, 128))
    return pose(
        lean, straight_leg(rng.uniform(-8, 10), rng.uniform(0, 15)), straight_leg(thigh, rng.uniform(0, 30), -thigh / 2)
    )


def _balance_lean(rng: Rng) -> Pose:
    lean = rng.uniform(45, 90)
    thigh = rng.uniform(-18 - lean, -52)
    return pose(
        lean,
        straight_leg(rng.uniform(-8, 6), rng.uniform(0, 12)),
        straight_leg(thigh, rng.uniform(0, 25), rng.uniform(60, 130)),
    )


def _bend_over(rng: Rng) -> Pose:
    lean = rng.uniform(58, 112)
    thigh = min(rng.uniform(-15, 8), 98 - lean)
    return pose(lean, *(straight_leg(thigh + rng.normal(0, 3), rng.uniform(0, 14)) for _ in range(2)))


def _lie_back(rng: Rng) -> Pose:
    legs = []
    for _ in range(2):
        if rng.random() < 0.25:
            legs.append((rng.uniform(105, 135), rng.uniform(-60, -25), FLAT))
        else:
            legs.append(straight_leg(rng.uniform(84, 98), rng.uniform(0, 12), rng.uniform(-110, -50)))
    return pose(rng.uniform(-97, -82), *legs)


def _lie_front(rng: Rng) -> Pose:
    legs = []
    for _ in range(2):
        bend = rng.uniform(0, 15) if rng.random() < 0.75 else rng.uniform(15, 70)
        legs.append(straight_leg(rng.uniform(-96, -84), bend, rng.uniform(100, 135)))
    return pose(rng.uniform(83, 97), *legs)


def _legs_up(rng: Rng) -> Pose:
    thigh = rng.uniform(135, 188)
    bend = rng.uniform(0, 45) if rng.random() < 0.7 else rng.uniform(45, 100)
    return pose(
        rng.uniform(-98, -82),
        *(straight_leg(thigh + rng.normal(0, 5), bend, rng.uniform(-220, -150)) for _ in range(2)),
    )


def _inverted(rng: Rng) -> Pose:
    lean = rng.uniform(150, 210)
    hip, bend = rng.uniform(-15, 35), rng.uniform(0, 35)
    legs = [straight_leg(hip - lean + rng.normal(0, 10), bend, lean + rng.uniform(-30, 30)) for _ in range(2)]
    return pose(lean, *legs)


def _wide_stance(rng: Rng) -> Pose:
    front, back = rng.uniform(16, 38), rng.uniform(-36, -14)
    return pose(
        rng.uniform(-5 + max(0, -20 - back), 25),
        straight_leg(front, rng.uniform(0, 12)),
        straight_leg(back, rng.uniform(0, 12)),
    )


POSES: dict[str, Callable[[Rng], Pose]] = {
    "stand": stand,
    "squat": squat,
    "sit": _sit,
    "kneel": _kneel,
    "lunge": _lunge,
    "one_leg_stand": _one_leg_stand,
    "kick": leg_high,
    "balance_lean": _balance_lean,
    "bend_over": _bend_over,
    "lie_back": _lie_back,
    "lie_front": _lie_front,
    "legs_up": _legs_up,
    "inverted": _inverted,
    "wide_stance": _wide_stance,
}
"""Poses that are held."""
