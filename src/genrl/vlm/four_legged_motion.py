"""Numbers that say what a four-legged body does in a clip, alike for the planar cheetah and the spider.

Heights are in standing heights of the body and speeds in its own unit, so that one set of rules serves both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genrl.vlm import cheetah_figure, spider_figure


@dataclass(frozen=True)
class FourLegged:
    """What measuring needs to know about a body.

    Attributes:
        frame_seconds: Time between two frames, one env step.
        standing: Height of the torso's middle when it stands, metres.
        lying: Height of the torso's middle when it lies, metres.
        speed_unit: Metres per second that count as one: a brisk walk.
        toe_radius: Metres.
        front_toes: Names of points.
        rear_toes: Names of points.
    """

    frame_seconds: float
    standing: float
    lying: float
    speed_unit: float
    toe_radius: float
    front_toes: tuple[str, ...]
    rear_toes: tuple[str, ...]


CHEETAH = FourLegged(
    frame_seconds=0.02,
    standing=cheetah_figure.STANDING_HEIGHT,
    lying=cheetah_figure.LYING_HEIGHT,
    speed_unit=2.0,
    toe_radius=0.046,
    front_toes=("front_toe",),
    rear_toes=("back_toe",),
)
SPIDER = FourLegged(
    frame_seconds=0.04,
    standing=spider_figure.STANDING_HEIGHT,
    lying=spider_figure.LYING_HEIGHT,
    speed_unit=1.0,
    toe_radius=0.08,
    front_toes=("front_left_toe", "front_right_toe"),
    rear_toes=("back_left_toe", "back_right_toe"),
)


def describe_cheetah(qpos: np.ndarray) -> dict[str, np.ndarray]:
    """Measure clips of the cheetah, (N, L, 9), as `describe` explains."""
    points = {}
    for name, place in cheetah_figure.points(qpos).items():
        points[name] = np.stack([place[..., 0], np.zeros_like(place[..., 0]), place[..., 1]], -1)
    cos, sin, nil = np.cos(qpos[..., 2]), np.sin(qpos[..., 2]), np.zeros(qpos.shape[:-1])
    rows = [[cos, nil, sin], [nil, nil + 1, nil], [-sin, nil, cos]]
    rotation = np.stack([np.stack(row, -1) for row in rows], -2)
    return describe(CHEETAH, points, rotation, qpos[..., 3:], cheetah_figure.lowest(qpos))


def describe_spider(qpos: np.ndarray) -> dict[str, np.ndarray]:
    """Measure clips of the quadruped, (N, L, 23), as `describe` explains."""
    points, rotation = spider_figure.points(qpos), spider_figure.rotation(qpos)
    return describe(SPIDER, points, rotation, qpos[..., 7:], spider_figure.lowest(qpos))


def describe(
    body: FourLegged, points: dict[str, np.ndarray], rotation: np.ndarray, joints: np.ndarray, clearance: np.ndarray
) -> dict[str, np.ndarray]:
    """Measure clips of L frames, one env step apart.

    Args:
        body: Which one.
        points: Name -> (N, L, 3) places, metres.
        rotation: (N, L, 3, 3) orientation of the torso; its columns are the forward, left and up axes.
        joints: (N, L, J) angles, radians.
        clearance: (N, L) height of the lowest spot, metres.

    Returns:
        (N,) arrays. Means over the clip unless the name says otherwise. Distances in standing heights, speeds in
        units of the body, rates in degrees/s.
        `upright` cosine between the torso's up axis and the vertical (1 right way up, -1 upside down), also `_min`,
        `_first`, `_last`; `nose` sine of how far the torso points up with its front (1 straight up, -1 straight
        down), also `_min`, `_max`; `tilt` sine of how far it leans to a side (0 ... 1); `height` of the torso's
        middle, 0 lying and 1 standing, also `_first`, `_last`, `_min`; `rise` of it from first to last frame, in
        standing heights; `front_height`, `rear_height` of the torso's ends; `front_feet`, `rear_feet` of the lower
        toe, `feet_high` of the highest toe; `clearance` under the lowest spot, also `_max`; `speed` of the whole body
        forward, as the torso heads at first, and `pace`, of travel in any direction along the floor; `spin` rate of
        turning nose down and under, `spin_rate` its amount; `roll_rate` amount of turning sideways over; `turning`
        amount of turning about the vertical; `rotation` amount of all three; `stride_range` how far the toes swing
        along the torso, metres; `activity` mean joint speed in rad/s; `jitter` mean speed of all points against the
        body's middle.
    """
    height = points["middle"][..., 2]
    share = (height - body.lying) / (body.standing - body.lying)
    up, nose = rotation[..., 2, 2], rotation[..., 2, 0]
    front = np.stack([points[name] for name in body.front_toes], -2)
    rear = np.stack([points[name] for name in body.rear_toes], -2)
    front_z, rear_z = ((toes[..., 2] - body.toe_radius) / body.standing for toes in (front, rear))  # (N, L, toes)
    clearance = clearance / body.standing
    measured = {
        "upright": up.mean(1),
        "upright_min": up.min(1),
        "upright_first": up[:, 0],
        "upright_last": up[:, -1],
        "nose": nose.mean(1),
        "nose_min": nose.min(1),
        "nose_max": nose.max(1),
        "tilt": np.abs(rotation[..., 2, 1]).mean(1),
        "height": share.mean(1),
        "height_first": share[:, 0],
        "height_last": share[:, -1],
        "height_min": share.min(1),
        "rise": (height[:, -1] - height[:, 0]) / body.standing,
        "front_height": points["front"][..., 2].mean(1) / body.standing,
        "rear_height": points["rear"][..., 2].mean(1) / body.standing,
        "front_feet": front_z.min(-1).mean(1),
        "rear_feet": rear_z.min(-1).mean(1),
        "feet_high": np.maximum(front_z.max(-1), rear_z.max(-1)).mean(1),
        "clearance": clearance.mean(1),
        "clearance_max": clearance.max(1),
        "activity": np.abs(np.diff(joints, axis=1)).mean((1, 2)) / body.frame_seconds,
    }
    relative = np.concatenate([front, rear], -2) - points["middle"][..., None, :]
    along = (relative * rotation[..., None, :, 0]).sum(-1)  # (N, L, toes)
    measured["stride_range"] = np.ptp(along, axis=1).mean(-1)
    return measured | _speeds(body, points, rotation) | _rates(body, rotation)


def _speeds(body: FourLegged, points: dict[str, np.ndarray], rotation: np.ndarray) -> dict[str, np.ndarray]:
    """Travel and trembling, in the body's unit."""
    center = np.mean([points[name] for name in points], axis=0)  # (N, L, 3)
    moved = (center[:, -1] - center[:, 0]) / (body.frame_seconds * (center.shape[1] - 1)) / body.speed_unit
    left = rotation[:, 0, :, 1]
    # Square to the left axis, which stays level however steeply the nose points up or down.
    heading = np.stack([left[:, 1], -left[:, 0]], -1)
    heading = heading / np.maximum(np.linalg.norm(heading, axis=-1, keepdims=True), 1e-6)
    trembling = np.zeros(len(center))
    for place in points.values():
        trembling += np.linalg.norm(np.diff(place - center, axis=1), axis=-1).mean(1)
    return {
        "speed": (moved[:, :2] * heading).sum(-1),
        "pace": np.linalg.norm(moved[:, :2], axis=-1),
        "jitter": trembling / len(points) / body.frame_seconds / body.speed_unit,
    }


def _rates(body: FourLegged, rotation: np.ndarray) -> dict[str, np.ndarray]:
    """Rotation about the vertical and about the level parts of the torso's own axes, degrees/s."""
    before, after = rotation[:, :-1], rotation[:, 1:]
    change = after @ np.swapaxes(before, -1, -2)
    twice_sine = np.stack([change[..., i, j] - change[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))], -1)
    angle = np.arccos(np.clip((np.trace(change, axis1=-2, axis2=-1) - 1) / 2, -1, 1))[..., None]
    rate = twice_sine / 2 / np.maximum(np.sinc(angle / np.pi), 1e-3) / body.frame_seconds  # (N, L - 1, 3)
    rate = np.rad2deg(rate)
    # On its side, a body that turns about the vertical does so about its left axis, which is no flip.
    level = rate * np.array([1.0, 1.0, 0.0])
    middle = before + after
    middle = middle / np.maximum(np.linalg.norm(middle, axis=-2, keepdims=True), 1e-6)
    spin = (level * middle[..., 1]).sum(-1).mean(1)
    return {
        "spin": spin,
        "spin_rate": np.abs(spin),
        "roll_rate": np.abs((level * middle[..., 0]).sum(-1).mean(1)),
        "turning": np.abs(rate[..., 2].mean(1)),
        "rotation": np.linalg.norm(rate, axis=-1).mean(1),
    }
