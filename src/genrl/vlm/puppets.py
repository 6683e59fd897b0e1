"""Puppetry: clips of a two-legged body in every behaviour, posed joint by joint, without a simulator.

No two clips are alike; what a clip shows is decided by the rules, not by the puppeteer's intention.
"""

from __future__ import annotations

import numpy as np

from genrl.vlm.arms import GESTURES, draw_arms
from genrl.vlm.figure import Figure
from genrl.vlm.motion import FRAME_SECONDS
from genrl.vlm.poses import FLAT, POSES, Pose, Rng, leg_high, pose, squat, stand, straight_leg

GRAVITY = 9.81

MOTIONS = [
    "walk_forward",
    "walk_backward",
    "run",
    "jump",
    "march",
    "kick_swing",
    "flip_forward",
    "flip_backward",
    "fall_forward",
    "fall_backward",
    "get_up",
    "crawl",
    "squirm",
    "change",
]
"""Behaviours that move; `change` goes from any pose to any other."""

PUPPETS = [*POSES, *MOTIONS]
ARM_PUPPETS = [*PUPPETS, *GESTURES]
"""Those of a body with arms. A gesture is mostly made standing."""


def puppet_clip(figure: Figure, behaviour: str, length: int, rng: Rng) -> np.ndarray:
    """Positions of a clip, (length, nq), that intends a behaviour of `PUPPETS` or `ARM_PUPPETS`."""
    legs = _legs_of(behaviour, rng)
    poses, height, speed = (_held if legs in POSES else _moving)(legs, length, rng)
    joints = _joints(figure, poses)
    if rng.random() < 0.5:
        joints[:, 3:9] = joints[:, [6, 7, 8, 3, 4, 5]]  # the legs change places
    if figure.has_arms:
        joints[:, 9:13] = _limited(figure, np.deg2rad(draw_arms(behaviour, length, rng)), 9)
    # The lowest spot touches the floor, or is where `height` wants it.
    joints[:, 0] = height - figure.lowest(joints)
    seconds = FRAME_SECONDS * np.arange(length)
    joints[:, 1] = rng.uniform(-20, 20) + (seconds * speed if speed is not None else _planted(figure, joints))
    joints[:, 2] += 2 * np.pi * rng.integers(-2, 3)
    return joints


def _legs_of(behaviour: str, rng: Rng) -> str:
    """What the legs do in a behaviour; in a gesture they mostly stand."""
    if behaviour not in GESTURES:
        return behaviour
    others = ["wide_stance", "squat", "lunge", "walk_forward", "kneel"]
    return "stand" if rng.random() < 0.8 else str(rng.choice(others))


def _held(behaviour: str, length: int, rng: Rng) -> tuple[np.ndarray, float | np.ndarray, float | None]:
    """A pose with a slow drift or tremble, from none to some."""
    start = POSES[behaviour](rng)
    amplitude = rng.uniform(0, 4) if rng.random() < 0.7 else 0.0
    wave = np.sin(rng.uniform(0, 2 * np.pi, 7) + rng.uniform(0.1, 1.2, 7) * np.arange(length)[:, None])
    return start + amplitude * rng.uniform(-1, 1, 7) * wave, 0.0, 0.0


def _moving(behaviour: str, length: int, rng: Rng) -> tuple[np.ndarray, float | np.ndarray, float | None]:
    """Poses, height of the lowest spot and speed (None: the lower foot does not slip) of a motion."""
    steps = np.arange(length)
    phase = rng.uniform(0, 2 * np.pi)
    poses = np.empty((length, 7))
    match behaviour:
        case "walk_forward" | "walk_backward":
            sign = 1 if behaviour == "walk_forward" else -1
            cycle = phase + sign * rng.uniform(0.15, 0.55) * steps
            return _gait(cycle, rng.uniform(15, 32), rng.uniform(25, 65), rng.uniform(-8, 14), rng), 0.0, None
        case "run":
            cycle = phase + rng.uniform(0.5, 1.1) * steps
            poses = _gait(cycle, rng.uniform(28, 52), rng.uniform(55, 110), rng.uniform(-2, 28), rng)
            return poses, rng.uniform(0, 0.12) * np.abs(np.sin(cycle)), rng.uniform(2.8, 8.5)
        case "jump":
            poses[:] = stand(rng) if rng.random() < 0.6 else 0.5 * (stand(rng) + squat(rng))
            poses[:, [3, 6]] = rng.uniform(-10, 70)
            time = FRAME_SECONDS * steps - rng.uniform(0.1, 0.25)
            height = np.clip(rng.uniform(0.25, 0.8) - GRAVITY / 2 * time**2, 0, None)
            return poses, height, rng.uniform(-0.8, 1.2)
        case "march":
            cycle = phase + rng.uniform(0.3, 0.8) * steps
            lift, shin, lean = rng.uniform(45, 95), rng.uniform(0, 30), rng.uniform(-6, 8)
            for i, angle in enumerate(cycle):
                up = [max(0.0, np.sin(angle + side)) for side in (0, np.pi)]
                poses[i] = pose(lean, *((lift * u, shin * u, FLAT) for u in up))
            return poses, 0.0, 0.0
        case "kick_swing":
            end = leg_high(rng)
            start = end.copy()
            start[4:] = straight_leg(rng.uniform(-25, 10), rng.uniform(0, 60))
            swing = np.sin(np.clip(phase / 4 + rng.uniform(0.15, 0.5) * steps, 0, np.pi)) ** rng.uniform(0.6, 1.5)
            return start + (_without_flat(end) - _without_flat(start)) * swing[:, None], 0.0, 0.0
        case "flip_forward" | "flip_backward":
            sign = 1 if behaviour == "flip_forward" else -1
            leans = np.rad2deg(phase) + sign * rng.uniform(230, 700) * FRAME_SECONDS * steps
            return _turning(leans, rng), _flight(length, rng), sign * rng.uniform(-0.5, 2.5)
        case "fall_forward" | "fall_backward":
            sign = 1 if behaviour == "fall_forward" else -1
            first_lean, last_lean = rng.uniform(-5, 40), rng.uniform(55, 95)
            progress = np.linspace(0, 1, length) ** rng.uniform(1.0, 1.8)
            leans = sign * (first_lean + (last_lean - first_lean) * progress)
            return _turning(leans, rng, loose=0.35), 0.0, None
        case "get_up":
            low = POSES[rng.choice(["lie_back", "lie_front", "sit", "kneel", "squat"])](rng)
            high = POSES[rng.choice(["stand", "stand", "squat", "lunge", "wide_stance"])](rng)
            return _blend(low, high, length, rng), 0.0, 0.0
        case "crawl":
            cycle = phase + rng.uniform(0.25, 0.8) * steps
            lean, swing, bend = rng.uniform(84, 104), rng.uniform(12, 35), rng.uniform(20, 80)
            for i, angle in enumerate(cycle):
                s, c = np.sin(angle), np.cos(angle)
                legs = [
                    straight_leg(-lean + 25 + swing * w, bend + 0.5 * bend * v, 110.0) for w, v in ((s, c), (-s, -c))
                ]
                poses[i] = pose(lean, *legs)
            return poses, 0.0, rng.uniform(0.3, 1.4)
        case "squirm":
            poses[:] = POSES[rng.choice(["lie_back", "lie_front"])](rng)
            rates, phases = rng.uniform(0.5, 1.6, 7), rng.uniform(0, 2 * np.pi, 7)
            size = np.array([6, 45, 60, 40, 45, 60, 40]) * rng.uniform(0.5, 1)
            return _without_flat(poses) + size * np.sin(phases + rates * steps[:, None]), 0.0, 0.0
        case "change":
            first, last = (POSES[name](rng) for name in rng.choice(list(POSES), 2))
            return _blend(first, last, length, rng), 0.0, rng.uniform(-0.3, 0.3)
        case _:
            raise ValueError(f"unknown behaviour {behaviour!r}")


def _gait(cycle: np.ndarray, swing: float, lift: float, lean: float, rng: Rng) -> np.ndarray:
    """Legs that swing against each other; the one that swings forward bends."""
    middle, rest = rng.uniform(0, 12), rng.uniform(3, 20)
    rows = []
    for angle in cycle:
        legs = []
        for side in (0, np.pi):
            bend = rest + lift * max(0.0, np.cos(angle + side)) ** 1.5
            legs.append(straight_leg(middle + swing * np.sin(angle + side), bend))
        rows.append(pose(lean, *legs))
    return np.array(rows)


def _turning(lean: np.ndarray, rng: Rng, loose: float = 1.0) -> np.ndarray:
    """A body that turns as a whole, its legs held somehow; `loose` from straight to tucked."""
    hips, bends = rng.uniform(-15, 15 + 80 * loose, 2), rng.uniform(0, 10 + 110 * loose, 2)
    if rng.random() < 0.5:
        hips[1], bends[1] = hips[0], bends[0]
    change = rng.uniform(-15, 15, 2) * loose
    steps = np.linspace(-1, 1, len(lean))
    rows = []
    for angle, step in zip(lean, steps, strict=True):
        legs = [straight_leg(hips[i] + change[i] * step - angle, bends[i], angle + 20.0) for i in range(2)]
        rows.append(pose(angle, *legs))
    return np.array(rows)


def _flight(length: int, rng: Rng) -> np.ndarray:
    """Height of the lowest spot: on the floor, or thrown."""
    if rng.random() < 0.35:
        return np.zeros(length)
    time = FRAME_SECONDS * np.arange(length) - rng.uniform(0, 0.35)
    return np.clip(rng.uniform(0.1, 0.9) - GRAVITY / 2 * time**2, 0, None)


def _blend(first: Pose, last: Pose, length: int, rng: Rng) -> np.ndarray:
    """From one pose to another within the clip or in more time than it has."""
    begin = rng.uniform(-0.3, 0.5)
    progress = np.clip(begin + rng.uniform(0.08, 0.3) * np.arange(length), 0, 1)[:, None]
    progress = progress * progress * (3 - 2 * progress)
    return _without_flat(first) * (1 - progress) + _without_flat(last) * progress


def _without_flat(poses: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(poses), 0.0, poses)


def _joints(figure: Figure, poses: np.ndarray) -> np.ndarray:
    """(L, nq) joint angles within their ranges for (L, 7) poses in world degrees."""
    poses = np.deg2rad(_without_flat(poses))
    joints = np.zeros((len(poses), figure.num_positions))
    joints[:, 2] = lean = poses[:, 0]
    for first, (thigh, shin, foot) in ((3, poses[:, 1:4].T), (6, poses[:, 4:7].T)):
        hip = lean + thigh
        joints[:, first] = hip
        joints[:, first + 1] = -(thigh + shin)
        joints[:, first + 2] = shin - foot
    joints[:, 3:9] = _limited(figure, joints[:, 3:9], 3)
    return joints


def _limited(figure: Figure, joints: np.ndarray, first: int) -> np.ndarray:
    """(L, n) angles of the joints from `first` on, within their ranges."""
    ranges = np.array([figure.joint_ranges[first + i] for i in range(joints.shape[1])])
    return joints.clip(ranges[:, 0], ranges[:, 1])


def _planted(figure: Figure, joints: np.ndarray) -> np.ndarray:
    """Forward positions at which the foot that stands does not slip."""
    points = figure.points(joints)
    feet = np.stack([(points[f"{s}_heel"] + points[f"{s}_toe"]) / 2 for s in ("right", "left")], 1)  # (L, 2, 2)
    standing = feet[:-1, :, 1].argmin(1)
    moved = np.diff(feet[..., 0], axis=0)[np.arange(len(standing)), standing]
    return np.concatenate([[0.0], -np.cumsum(moved)])
