"""The four-legged spider `quadruped`: where its parts are, computed from its joints without a simulator.

Every leg is a planar chain (thigh, shin, foot with a toe) in an upright plane of the torso that the hip turns.
"""

from __future__ import annotations

import numpy as np

STANDING_HEIGHT = 0.52
"""Height of the torso's middle with straight joints and the toes on the floor, metres."""
LYING_HEIGHT = 0.2
"""Height of the torso's middle when its belly is on the floor, metres."""

NUM_POSITIONS = 23
LEGS = ("front_left", "front_right", "back_right", "back_left")
"""In the order of qpos: from index 7 on, each with yaw, pitch, knee and ankle."""
LEG_RANGE = np.deg2rad([[-50, 50], [-20, 60], [-60, 50], [-45, 55]])
"""(4, 2) lower and upper limit of the joints of a leg, radians. Pitch, knee and ankle bend down when positive, and
tendons hold their sum near zero: a foot stays parallel to the torso's own vertical."""
MOUNTS = np.deg2rad([45.0, -45.0, -135.0, 135.0])
"""(4,) direction in which a leg points away from the torso, seen from above."""

_HIPS = np.array([[0.2, 0.2, 0.0], [0.2, -0.2, 0.0], [-0.2, -0.2, 0.0], [-0.2, 0.2, 0.0]])
_TORSO_AXES = np.array([0.3, 0.27, 0.2])
_EYE_RADIUS = 0.05
_EYES = np.array([[[0.1, y, 0.12], [0.31, y, 0.08]] for y in (0.07, -0.07)])
_TORSO_POINTS = {"middle": (0.0, 0.0, 0.0), "front": (0.3, 0.0, 0.0), "rear": (-0.3, 0.0, 0.0)}
# Joint (or end) of a leg, its place in the frame of the part before it, (outward, up) metres.
_CHAIN = (("knee", (0.3, 0.11)), ("ankle", (0.25, -0.25)), ("toe", (0.0, -0.3)))
_RADII = {"hip": 0.08, "knee": 0.08, "ankle": 0.065, "sole": 0.055, "toe": 0.08}
"""Of the thickest part that ends in a point; the foot's capsule ends in its sole, 5 cm before the toe's middle."""


def rotation(qpos: np.ndarray) -> np.ndarray:
    """(..., 3, 3) orientation of the torso, whose columns are its forward, left and up axes in the world."""
    quaternion = qpos[..., 3:7]
    w, x, y, z = np.moveaxis(quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def points(qpos: np.ndarray) -> dict[str, np.ndarray]:
    """Positions of all named points: (..., 23) -> name -> (..., 3) metres.

    `middle`, `front` and `rear` of the torso; of every leg `<leg>_hip`, `_knee`, `_ankle`, `_sole`, `_toe`.
    """
    turned, origin = rotation(qpos), qpos[..., :3]
    found = {name: origin + turned @ np.array(offset) for name, offset in _TORSO_POINTS.items()}
    for name, local in leg_points(qpos[..., 7:]).items():  # (..., 4, 3)
        placed = origin[..., None, :] + local @ np.swapaxes(turned, -1, -2)
        found.update({f"{leg}_{name}": placed[..., i, :] for i, leg in enumerate(LEGS)})
    return found


def leg_points(joints: np.ndarray) -> dict[str, np.ndarray]:
    """Points of the legs in the torso's frame: (..., 16) joints -> `hip`, `knee` ... -> (..., 4 legs, 3) metres."""
    legs = joints.reshape(*joints.shape[:-1], 4, 4)
    direction = MOUNTS + legs[..., 0]
    planar = {"hip": np.zeros((*direction.shape, 2))}
    bend, place = np.zeros_like(direction), planar["hip"]
    for i, (name, offset) in enumerate(_CHAIN):
        bend = bend + legs[..., 1 + i]
        if name == "toe":
            planar["sole"] = place + _bent((0.0, -0.25), bend)
        place = planar[name] = place + _bent(offset, bend)
    outward = np.stack([np.cos(direction), np.sin(direction), np.zeros_like(direction)], -1)
    up = np.array([0.0, 0.0, 1.0])
    return {name: _HIPS + spot[..., :1] * outward + spot[..., 1:] * up for name, spot in planar.items()}


def lowest(qpos: np.ndarray) -> np.ndarray:
    """Height of the lowest spot of the body above the floor, (...,) metres; negative when it sinks in."""
    found = points(qpos)
    heights = [found[f"{leg}_{name}"][..., 2] - radius for leg in LEGS for name, radius in _RADII.items()]
    return np.min([*heights, lowest_of_torso(qpos)], axis=0)


def lowest_of_torso(qpos: np.ndarray) -> np.ndarray:
    """Height of the lowest spot of the torso, an ellipsoid with two cylinders for eyes, (...,) metres."""
    up = rotation(qpos)[..., 2, :]  # the world's vertical in the torso's frame
    belly = -np.linalg.norm(up * _TORSO_AXES, axis=-1)
    axes = _EYES[:, 1] - _EYES[:, 0]
    slope = up @ (axes / np.linalg.norm(axes, axis=-1, keepdims=True)).T  # (..., 2 eyes)
    ends = (up @ _EYES.reshape(4, 3).T).reshape(*up.shape[:-1], 2, 2).min(-1)
    eyes = (ends - _EYE_RADIUS * np.sqrt(np.clip(1 - slope**2, 0, 1))).min(-1)
    return qpos[..., 2] + np.minimum(belly, eyes)


def _bent(offset: tuple[float, float], angle: np.ndarray) -> np.ndarray:
    """A vector (outward, up) after bending down by `angle` radians."""
    outward, up = offset
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([outward * cos + up * sin, up * cos - outward * sin], axis=-1)
