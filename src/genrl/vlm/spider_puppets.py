"""Puppetry of the four-legged spider: clips in every behaviour, posed joint by joint, without a simulator.

A pose is (18,) degrees: pitch (nose down positive) and roll (left side up positive) of the torso, then yaw, pitch, knee
and ankle of every leg, as in qpos. A leg is drawn as (yaw, thigh, shin): how far thigh and shin are bent down from
straight joints; the tendons keep its foot parallel to the torso's vertical.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from genrl.vlm.four_legged_clips import Performance, blended, drifting, leisurely, rising, thrown, tumbling, waving
from genrl.vlm.four_legged_motion import SPIDER
from genrl.vlm.poses import Rng
from genrl.vlm.spider_figure import LEG_RANGE, lowest

_SECONDS = SPIDER.frame_seconds
_LOW, _HIGH = np.tile(np.rad2deg(LEG_RANGE), (4, 1)).T
_BACKWARD = np.array([1, -1, -1, 1])
"""(4,) sign of the yaw that swings a leg backward."""
# Phases of the legs: diagonal ones together, those of a side, those of an end, one after the other.
_GAITS = np.pi * np.array([[0, 1, 0, 1], [0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 0.5, 1.5]])


def spider_clip(behaviour: str, length: int, rng: Rng) -> np.ndarray:
    """Positions of a clip, (length, 23), that intends a behaviour of `SPIDER_PUPPETS`."""
    if behaviour in POSES:
        show = Performance(drifting(POSES[behaviour](rng), length, _SECONDS, rng))
    else:
        show = MOTIONS[behaviour](length, rng)
    seconds = _SECONDS * np.arange(length)
    heading = np.deg2rad(rng.uniform(-180, 180) + show.turning * seconds)
    qpos = _positions(show.poses, heading)
    # The lowest spot touches the floor, or is where the performance wants it.
    qpos[:, 2] = show.height - lowest(qpos)
    forward = show.speed * seconds
    cos, sin = np.cos(heading[0]), np.sin(heading[0])
    qpos[:, 0] = rng.uniform(-6, 6) + forward * cos - show.sideways * seconds * sin
    qpos[:, 1] = rng.uniform(-6, 6) + forward * sin + show.sideways * seconds * cos
    return qpos


def _pose(pitch: float, roll: float, legs: np.ndarray) -> np.ndarray:
    """A pose from (4, 3) legs: yaw, thigh, shin."""
    yaw, thigh, shin = legs.T
    return np.array([pitch, roll, *np.stack([yaw, thigh, shin - thigh, -shin], 1).ravel()])


def _shin_at(height: float | np.ndarray, thigh: np.ndarray) -> np.ndarray:
    """Degrees that shins must be bent down for level hips to be `height` metres above the floor."""
    knee = 0.11 * np.cos(np.deg2rad(thigh)) - 0.3 * np.sin(np.deg2rad(thigh))
    sine = (height + knee - 0.38) / np.hypot(0.25, 0.25)
    return np.clip(np.rad2deg(np.arcsin(np.clip(sine, -1, 1))) - 45, -55, 45)


def _on_feet(low: float, high: float, thigh: tuple[float, float], rng: Rng) -> np.ndarray:
    """Upright, the hips between two heights above soles on the floor."""
    thighs = rng.uniform(*thigh) + rng.uniform(-4, 4, 4)
    shins = _shin_at(rng.uniform(low, high), thighs)
    legs = np.stack([rng.uniform(-20, 20, 4), thighs, shins], 1)
    return _pose(rng.uniform(-3, 3), rng.uniform(-3, 3), legs)


def _stand(rng: Rng) -> np.ndarray:
    return _on_feet(0.44, 0.68, (-8, 22), rng)


def _crouch(rng: Rng) -> np.ndarray:
    return _on_feet(0.26, 0.35, (-18, 4), rng)


def _lie(rng: Rng) -> np.ndarray:
    return _on_feet(0.02, 0.2, (-20, -10), rng)


def _on_back(rng: Rng) -> np.ndarray:
    return _pose(rng.uniform(-14, 14), rng.choice([-180, 180]) + rng.uniform(-14, 14), _any_legs(rng))


def _rear(rng: Rng) -> np.ndarray:
    legs = _any_legs(rng)
    # The hind legs reach back, which is down.
    legs[2:] = np.stack([_BACKWARD[2:] * rng.uniform(-5, 45), rng.uniform(-20, 25, 2), rng.uniform(-35, 10, 2)], 1)
    return _pose(rng.uniform(-88, -38), rng.uniform(-8, 8), legs)


def _front_stand(rng: Rng) -> np.ndarray:
    legs = _any_legs(rng)
    legs[:2] = np.stack([-_BACKWARD[:2] * rng.uniform(-5, 45), rng.uniform(-20, 25, 2), rng.uniform(-35, 10, 2)], 1)
    return _pose(rng.uniform(36, 85), rng.uniform(-8, 8), legs)


def _tilted(rng: Rng) -> np.ndarray:
    return _pose(rng.uniform(-90, 90), rng.uniform(-180, 180), _any_legs(rng))


def _any_legs(rng: Rng) -> np.ndarray:
    """(4, 3) legs, all alike or each somewhere in its range."""
    legs = rng.uniform([-40, -20, -50], [40, 45, 42], (4, 3))
    if rng.random() < 0.4:
        legs[:, 1:] = legs[0, 1:] + rng.uniform(-8, 8, (4, 2))
    return legs


POSES: dict[str, Callable[[Rng], np.ndarray]] = {
    "four_stand": _stand,
    "four_crouch": _crouch,
    "four_lie": _lie,
    "four_on_back": _on_back,
    "rear": _rear,
    "front_stand": _front_stand,
    "tilted": _tilted,
}


def _walk(length: int, rng: Rng, sign: int = 1) -> Performance:
    rate, swing = rng.uniform(0.15, 0.42), rng.uniform(9, 26)
    cycle = rng.uniform(0, 2 * np.pi) + sign * rate * np.arange(length)
    # About as fast as toes 0.4 m beside the hips swing back.
    speed = 0.4 * np.deg2rad(swing) * rate / _SECONDS * rng.uniform(0.7, 1.3)
    return Performance(_gait(cycle, swing * _BACKWARD, rng), speed=sign * speed)


def _run(length: int, rng: Rng) -> Performance:
    cycle = rng.uniform(0, 2 * np.pi) + rng.uniform(0.45, 1.1) * np.arange(length)
    poses = _gait(cycle, rng.uniform(22, 42) * _BACKWARD, rng)
    poses[:, 0] += rng.uniform(0, 9) * np.sin(cycle + rng.uniform(0, 2 * np.pi))
    flight = rng.uniform(0, 0.18) * np.abs(np.sin(cycle + rng.uniform(0, np.pi)))
    return Performance(poses, height=flight, speed=rng.uniform(1.85, 5))


def _turn(length: int, rng: Rng) -> Performance:
    rate = rng.choice([-1, 1]) * rng.uniform(50, 160)
    cycle = rng.uniform(0, 2 * np.pi) + rng.uniform(0.3, 0.7) * np.arange(length)
    swing = -np.sign(rate) * rng.uniform(10, 28) * np.ones(4)
    return Performance(_gait(cycle, swing, rng), speed=rng.uniform(-0.2, 0.3), turning=rate)


def _jump(length: int, rng: Rng) -> Performance:
    first = _on_feet(0.35, 0.75, (-15, 35), rng)
    last = _pose(first[0] + rng.uniform(-10, 10), first[1] + rng.uniform(-10, 10), _any_legs(rng))
    height = thrown(length, _SECONDS, rng.uniform(0.3, 1.1), rng)
    return Performance(blended(first, last, leisurely(length, rng)), height, rng.uniform(-0.6, 1.2))


def _flip(length: int, rng: Rng, sign: int = 1) -> Performance:
    pitch = rng.uniform(-180, 180) + sign * rng.uniform(210, 620) * _SECONDS * np.arange(length)
    poses = _turning_over(length, rng)
    poses[:, 0], poses[:, 1] = pitch, rng.uniform(-10, 10)
    return Performance(poses, tumbling(length, _SECONDS, rng), sign * rng.uniform(-0.4, 2.2))


def _roll(length: int, rng: Rng) -> Performance:
    sign = rng.choice([-1, 1])
    rate = sign * rng.uniform(125, 430)
    poses = _turning_over(length, rng)
    poses[:, 0] = rng.uniform(-10, 10)
    poses[:, 1] = rng.uniform(-180, 180) + rate * _SECONDS * np.arange(length)
    height = 0.0 if rng.random() < 0.75 else tumbling(length, _SECONDS, rng)
    return Performance(poses, height, rng.uniform(-0.2, 0.2), -np.deg2rad(rate) * rng.uniform(0.15, 0.5))


def _fall(length: int, rng: Rng) -> Performance:
    first = POSES[rng.choice(["four_stand", "rear", "front_stand"])](rng)
    # A steep body falls on its back or belly, one that stands on its belly or over a side.
    last = (_on_back if abs(first[0]) > 30 and rng.random() < 0.5 else _lie)(rng)
    if last[1] > 90 or last[1] < -90:
        last[:2] = np.sign(first[0]) * rng.uniform(160, 195), first[1]
    elif abs(first[0]) < 30 and rng.random() < 0.4:
        first[:2] += rng.uniform(-30, 30, 2)
        last[1] = rng.choice([-1, 1]) * rng.uniform(50, 150)
    end, share = rng.uniform(0.75, 1), rng.uniform(0.4, 0.75)
    poses = blended(first, last, np.linspace(end - share, end, length))
    return Performance(poses, speed=rng.uniform(-0.4, 0.4))


def _get_up(length: int, rng: Rng) -> Performance:
    first = POSES[rng.choice(["four_lie", "four_lie", "four_lie", "four_on_back", "tilted"])](rng)
    return Performance(blended(first, _stand(rng), rising(length, rng)), speed=rng.uniform(-0.3, 0.3))


def _squirm(length: int, rng: Rng) -> Performance:
    start = POSES[rng.choice(["four_lie", "four_on_back", "tilted"])](rng)
    return Performance(waving(start, np.array([5, 5, *[25, 25, 35, 30] * 4]), length, _SECONDS, rng))


def _slide(length: int, rng: Rng) -> Performance:
    start = POSES[rng.choice(["four_stand", "four_crouch", "four_lie", "four_on_back", "tilted"])](rng)
    speed, sideways = rng.uniform(-2, 2, 2) * (1, rng.random() < 0.5)
    return Performance(drifting(start, length, _SECONDS, rng), speed=speed, sideways=sideways)


def _change(length: int, rng: Rng) -> Performance:
    first, last = (POSES[name](rng) for name in rng.choice(list(POSES), 2))
    poses = blended(first, last, leisurely(length, rng))
    return Performance(poses, speed=rng.uniform(-0.3, 0.3), turning=rng.uniform(-30, 30))


MOTIONS: dict[str, Callable[[int, Rng], Performance]] = {
    "four_walk": _walk,
    "four_walk_backward": lambda length, rng: _walk(length, rng, -1),
    "four_run": _run,
    "four_jump": _jump,
    "four_flip_forward": _flip,
    "four_flip_backward": lambda length, rng: _flip(length, rng, -1),
    "four_roll": _roll,
    "four_turn": _turn,
    "four_fall": _fall,
    "four_get_up": _get_up,
    "squirm": _squirm,
    "slide": _slide,
    "change": _change,
}

SPIDER_PUPPETS = [*POSES, *MOTIONS]


def _gait(cycle: np.ndarray, swing: np.ndarray, rng: Rng) -> np.ndarray:
    """(L, 18) poses of legs whose yaw swings by (4,) `swing`, and which are lifted on their way forward."""
    poses = np.repeat(_on_feet(0.4, 0.6, (-8, 18), rng)[None], len(cycle), 0)
    angle = cycle[:, None] + _GAITS[rng.integers(len(_GAITS))] + rng.uniform(-0.3, 0.3, 4)  # (L, 4)
    lifted = rng.uniform(8, 26) * np.clip(-np.cos(angle), 0, None)
    poses[:, 2::4] = 0.5 * poses[:, 2::4] + swing * np.sin(angle)
    poses[:, 3::4] -= lifted
    poses[:, 5::4] += lifted
    return poses


def _turning_over(length: int, rng: Rng) -> np.ndarray:
    """(L, 18) poses of a body whose legs are held somehow."""
    first, last = (_pose(0, 0, _any_legs(rng)) for _ in range(2))
    return blended(first, first + (last - first) * rng.uniform(0, 0.5), leisurely(length, rng))


def _positions(poses: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """(L, 18) poses in degrees, (L,) heading in radians -> (L, 23) positions, the root at the origin."""
    yaw, pitch, roll = heading / 2, np.deg2rad(poses[:, 0]) / 2, np.deg2rad(poses[:, 1]) / 2
    cy, sy, cp, sp, cr, sr = (f(angle) for angle in (yaw, pitch, roll) for f in (np.cos, np.sin))
    quaternion = [
        cy * cp * cr + sy * sp * sr,
        cy * cp * sr - sy * sp * cr,
        cy * sp * cr + sy * cp * sr,
        sy * cp * cr - cy * sp * sr,
    ]
    joints = np.deg2rad(np.clip(poses[:, 2:], _LOW, _HIGH))
    return np.column_stack([np.zeros((len(poses), 3)), *quaternion, joints])
