"""The planar cheetah: where its parts are, computed from its joints without a simulator."""

from __future__ import annotations

import numpy as np

from genrl.vlm.figure import Figure, Segment

STANDING_HEIGHT = 0.624
"""Height of the torso's middle with straight joints and the lower foot on the floor, metres."""
LYING_HEIGHT = 0.25
"""Height of the torso's middle with the legs folded away, metres."""

_RADIUS = 0.046
_SWAPPED = [1, 0, 2, 3, 4, 5, 6, 7, 8]


def _ends(middle: tuple[float, float], degrees: float, half: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Lower and upper end of a capsule, whose axis points up when it is not turned."""
    forward, up = half * np.sin(np.deg2rad(degrees)), half * np.cos(np.deg2rad(degrees))
    first, second = (middle[0] - forward, middle[1] - up), (middle[0] + forward, middle[1] + up)
    return (first, second) if first[1] < second[1] else (second, first)


def _part(
    name: str,
    parent: str,
    joint: int,
    anchor: tuple[float, float],
    capsule: tuple[tuple[float, float], float, float],
    points: tuple[str, str],
) -> Segment:
    return Segment(name, parent, joint, 1, anchor, dict(zip(points, _ends(*capsule), strict=True)), _RADIUS)


_NOSE, _NECK = reversed(_ends((0.6, 0.1), 50, 0.15))
_TORSO = {"rear": (-0.5, 0.0), "front": (0.5, 0.0), "middle": (0.0, 0.0), "nose": _NOSE, "neck": _NECK}

FIGURE = Figure(
    segments=(
        Segment("torso", "", 2, 1, (0.0, 0.0), _TORSO, _RADIUS),
        _part("bthigh", "torso", 3, (-0.5, 0.0), ((0.1, -0.13), -218, 0.145), ("back_knee", "back_hip")),
        _part("bshin", "bthigh", 4, (0.16, -0.25), ((-0.14, -0.07), -116, 0.15), ("back_ankle", "back_shin")),
        _part("bfoot", "bshin", 5, (-0.28, -0.14), ((0.03, -0.097), -15, 0.094), ("back_toe", "back_heel")),
        _part("fthigh", "torso", 6, (0.5, 0.0), ((-0.07, -0.12), 30, 0.133), ("front_knee", "front_hip")),
        _part("fshin", "fthigh", 7, (-0.14, -0.24), ((0.065, -0.09), -34, 0.106), ("front_ankle", "front_shin")),
        _part("ffoot", "fshin", 8, (0.13, -0.18), ((0.045, -0.07), -34, 0.07), ("front_toe", "front_heel")),
    ),
    rest_height=0.7,
    joint_ranges={
        3: (-0.5235, 1.0471),
        4: (-0.8726, 0.8726),
        5: (-4.0142, 0.8726),
        6: (-0.9948, 0.0069),
        7: (-1.2217, 0.8726),
        8: (-0.4886, 0.4886),
    },
)
"""With height and position of the root in qpos[0] and qpos[1], which the simulator has the other way round."""

NUM_POSITIONS = FIGURE.num_positions


def points(qpos: np.ndarray) -> dict[str, np.ndarray]:
    """Positions of all named points: (..., 9) in the simulator's order -> name -> (..., 2) forward and up, metres."""
    return FIGURE.points(qpos[..., _SWAPPED])


def lowest(qpos: np.ndarray) -> np.ndarray:
    """Height of the lowest spot of the body above the floor, (...,) metres; negative when it sinks in."""
    return FIGURE.lowest(qpos[..., _SWAPPED])
