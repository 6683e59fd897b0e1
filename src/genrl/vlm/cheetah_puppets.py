"""Puppetry of the planar cheetah: clips in every behaviour, posed joint by joint, without a simulator.

A pose is (7,) degrees: pitch of the torso (nose down positive), then thigh, shin and foot of the hind and of the front
leg, as in qpos; a joint turns its part backward when positive.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from genrl.vlm.cheetah_figure import FIGURE, NUM_POSITIONS, lowest, points
from genrl.vlm.four_legged_clips import Performance, blended, drifting, leisurely, rising, thrown, tumbling, waving
from genrl.vlm.four_legged_motion import CHEETAH
from genrl.vlm.poses import Rng

_SECONDS = CHEETAH.frame_seconds
_LEVEL = np.nan
"""Pitch that brings both feet to the floor."""
_LOW, _HIGH = np.rad2deg(np.array([FIGURE.joint_ranges[joint] for joint in range(3, NUM_POSITIONS)]).T)
_FOLDED = np.array([-20.0, 46.0, -140.0, -54.0, -45.0, -12.0])
"""Joints of a body whose torso is as low as they let it be."""
_HIND_LEG = ("back_knee", "back_ankle", "back_toe")
_FRONT_LEG = ("front_knee", "front_ankle", "front_toe")


def cheetah_clip(behaviour: str, length: int, rng: Rng) -> np.ndarray:
    """Positions of a clip, (length, 9), that intends a behaviour of `CHEETAH_PUPPETS`."""
    if behaviour in POSES:
        show = Performance(drifting(_solved(POSES[behaviour](rng)), length, _SECONDS, rng))
    else:
        show = MOTIONS[behaviour](length, rng)
    qpos = _positions(show.poses)
    # The lowest spot touches the floor, or is where the performance wants it.
    qpos[:, 1] = show.height - lowest(qpos)
    qpos[:, 0] = rng.uniform(-20, 20) + show.speed * _SECONDS * np.arange(length)
    qpos[:, 2] += 2 * np.pi * rng.integers(-2, 3)
    return qpos


def _stand(rng: Rng) -> np.ndarray:
    joints = rng.uniform([-12, -12, -15, -18, -15, -15], [14, 14, 15, 0, 15, 15])
    return np.array([_LEVEL, *joints])


def _bent(share: float, rng: Rng) -> np.ndarray:
    """Between standing and lying."""
    joints = (1 - share) * _stand(rng)[1:] + share * _FOLDED + rng.uniform(-4, 4, 6)
    return np.array([_LEVEL, *joints])


def _crouch(rng: Rng) -> np.ndarray:
    return _bent(rng.uniform(0.25, 0.55), rng)


def _lie(rng: Rng) -> np.ndarray:
    return _bent(rng.uniform(0.94, 1.0), rng)


def _on_back(rng: Rng) -> np.ndarray:
    # Its nose keeps the front up.
    return np.array([rng.uniform(179, 197), *_any_legs(rng)])


def _rear(rng: Rng) -> np.ndarray:
    pitch = rng.uniform(-90, -40)
    hind = (rng.uniform(-15, 20) - pitch, rng.uniform(-25, 20), rng.uniform(-20, 20))
    return np.array([pitch, *hind, *_any_legs(rng)[3:]])


def _front_stand(rng: Rng) -> np.ndarray:
    pitch = rng.uniform(36, 88)
    front = (rng.uniform(-20, 15) - pitch, rng.uniform(-20, 15), rng.uniform(-15, 15))
    return np.array([pitch, *_any_legs(rng)[:3], *front])


def _tilted(rng: Rng) -> np.ndarray:
    return np.array([rng.uniform(-180, 180), *_any_legs(rng)])


def _any_legs(rng: Rng) -> np.ndarray:
    """(6,) somewhere in the joints' ranges; a hind foot seldom folds back."""
    joints = rng.uniform(0.9 * _LOW, 0.9 * _HIGH)
    if rng.random() < 0.7:
        joints[2] = rng.uniform(-40, 40)
    return joints


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
    rate, swing = rng.uniform(0.14, 0.36), rng.uniform(10, 20)
    cycle = rng.uniform(0, 2 * np.pi) + sign * rate * np.arange(length)
    # About as fast as a leg of half a metre swings back.
    speed = 0.5 * np.deg2rad(swing) * rate / _SECONDS * rng.uniform(0.8, 1.4)
    return Performance(_gait(cycle, swing, rng.uniform(0, 3), rng), speed=sign * speed)


def _run(length: int, rng: Rng, sign: int = 1) -> Performance:
    cycle = rng.uniform(0, 2 * np.pi) + sign * rng.uniform(0.3, 0.75) * np.arange(length)
    poses = _gait(cycle, rng.uniform(20, 36), rng.uniform(2, 12), rng)
    flight = rng.uniform(0, 0.2) * np.abs(np.sin(cycle + rng.uniform(0, np.pi)))
    return Performance(poses, height=flight, speed=sign * rng.uniform(3.7, 11))


def _jump(length: int, rng: Rng) -> Performance:
    first, last = (_solved(_stand(rng)) for _ in range(2))
    first[1:], last[1:] = (rng.uniform(0.4, 1) * p[1:] + rng.uniform(0, 0.6) * _any_legs(rng) for p in (first, last))
    first[0] += rng.uniform(-25, 25)
    last[0] = first[0] + rng.uniform(-10, 10)
    height = thrown(length, _SECONDS, rng.uniform(0.22, 0.9), rng)
    return Performance(blended(first, last, leisurely(length, rng)), height, rng.uniform(-1.5, 3))


def _flip(length: int, rng: Rng, sign: int = 1) -> Performance:
    pitch = rng.uniform(-180, 180) + sign * rng.uniform(210, 700) * _SECONDS * np.arange(length)
    first = _any_legs(rng)
    last = first + rng.uniform(-25, 25, 6)
    poses = np.column_stack([pitch, blended(first, last, leisurely(length, rng))])
    return Performance(poses, tumbling(length, _SECONDS, rng), sign * rng.uniform(-1, 4))


def _fall(length: int, rng: Rng) -> Performance:
    # A clip is too short for the whole of a fall, but for that of legs that give way.
    end, share = rng.uniform(0.5, 0.75), rng.uniform(0.18, 0.32)
    match rng.choice(["backward", "forward", "down", "over"]):
        case "backward":
            first, last = _rear(rng), _on_back(rng) - [360, 0, 0, 0, 0, 0, 0]
        case "over":
            first, last = _front_stand(rng), _on_back(rng)
        case "forward":
            first, last = _rear(rng), _solved(_bent(rng.uniform(0.6, 1), rng))
            end, share = rng.uniform(0.75, 1), rng.uniform(0.3, 0.5)
        case _:
            first, last = _solved(_stand(rng)), _solved(_lie(rng))
            end, share = rng.uniform(0.9, 1), rng.uniform(0.6, 0.9)
    poses = blended(first, last, np.linspace(end - share, end, length))
    return Performance(poses, speed=rng.uniform(-0.8, 0.8))


def _get_up(length: int, rng: Rng) -> Performance:
    first = _solved(_bent(rng.uniform(0.75, 1), rng))
    last = _solved(_stand(rng))
    return Performance(blended(first, last, rising(length, rng)), speed=rng.uniform(-0.4, 0.4))


def _squirm(length: int, rng: Rng) -> Performance:
    start = _solved(POSES[rng.choice(["four_lie", "four_on_back", "tilted"])](rng))
    size = np.array([5, 35, 45, 60, 30, 45, 28])
    return Performance(waving(start, size, length, _SECONDS, rng))


def _slide(length: int, rng: Rng) -> Performance:
    start = _solved(POSES[rng.choice(["four_stand", "four_crouch", "four_lie", "four_on_back", "tilted"])](rng))
    return Performance(drifting(start, length, _SECONDS, rng), speed=rng.uniform(-5, 5))


def _change(length: int, rng: Rng) -> Performance:
    first, last = (_solved(POSES[name](rng)) for name in rng.choice(list(POSES), 2))
    return Performance(blended(first, last, leisurely(length, rng)), speed=rng.uniform(-0.5, 0.5))


MOTIONS: dict[str, Callable[[int, Rng], Performance]] = {
    "four_walk": _walk,
    "four_walk_backward": lambda length, rng: _walk(length, rng, -1),
    "four_run": _run,
    "run_backward": lambda length, rng: _run(length, rng, -1),
    "four_jump": _jump,
    "four_flip_forward": _flip,
    "four_flip_backward": lambda length, rng: _flip(length, rng, -1),
    "four_fall": _fall,
    "four_get_up": _get_up,
    "squirm": _squirm,
    "slide": _slide,
    "change": _change,
}

CHEETAH_PUPPETS = [*POSES, *MOTIONS]


def _gait(cycle: np.ndarray, swing: float, rocking: float, rng: Rng) -> np.ndarray:
    """(L, 7) poses of legs that swing to and fro and are lifted on their way forward."""
    offset, share = rng.uniform(0.3, 1.7) * np.pi, rng.uniform(0.7, 1.1)
    middle = np.array([rng.uniform(-4, 14), rng.uniform(-8, 8), rng.uniform(-10, 10), -swing * share - 3, 0.0, 0.0])
    middle[4:] = rng.uniform(-8, 8, 2)
    joints = np.repeat(middle[None], len(cycle), 0)
    lifted = [np.clip(-np.cos(angle), 0, None) * swing * rng.uniform(0.8, 1.6) for angle in (cycle, cycle + offset)]
    joints[:, 0] += swing * np.sin(cycle)
    joints[:, 1] += lifted[0]
    joints[:, 2] -= lifted[0]
    joints[:, 3] += swing * share * np.sin(cycle + offset)
    joints[:, 4] -= lifted[1]
    pitch = _solved(np.array([_LEVEL, *middle]))[0]
    pitch = pitch + rocking * np.sin(cycle + rng.uniform(0, 2 * np.pi)) + rng.uniform(-4, 4)
    return np.column_stack([pitch, joints])


def _positions(poses: np.ndarray) -> np.ndarray:
    """(L, 7) poses in degrees -> (L, 9) positions with joints in their ranges, the root at the origin."""
    joints = np.clip(poses[:, 1:], _LOW, _HIGH)
    return np.deg2rad(np.column_stack([np.zeros((len(poses), 2)), poses[:, 0], joints]))


def _solved(pose: np.ndarray) -> np.ndarray:
    """A pose with its pitch in place of `_LEVEL`."""
    if not np.isnan(pose[0]):
        return pose
    solved = pose.copy()
    solved[0] = 0.0
    for _ in range(4):
        found = points(_positions(solved[None])[0])
        hind, front = (min((found[name] for name in leg), key=lambda spot: spot[1]) for leg in (_HIND_LEG, _FRONT_LEG))
        forward, up = front - hind
        solved[0] += np.rad2deg(np.arctan2(up, forward))
    return solved
