"""Planar figures: where the parts of a two-legged body are, computed from its joints without a simulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Segment:
    """A rigid part of a planar figure.

    Attributes:
        name: Its name.
        parent: The part it hangs on; empty for the root.
        joint: Index of its angle in qpos; None where it is welded to its parent.
        sign: +1 if a positive angle turns up towards forward (leaning forward), -1 the other way.
        anchor: Position of its joint in the parent's frame, (forward, up) in metres.
        points: Named points in its own frame.
        radius: Of the capsule around the points, metres.
    """

    name: str
    parent: str
    joint: int | None
    sign: int
    anchor: tuple[float, float]
    points: dict[str, tuple[float, float]]
    radius: float


@dataclass(frozen=True)
class Figure:
    """A planar body: root height and position in qpos[0] and qpos[1], then hinges.

    Attributes:
        segments: Parents before children.
        rest_height: Height of the root at qpos[0] = 0, metres.
        joint_ranges: Lower and upper limit in radians by index in qpos.
    """

    segments: tuple[Segment, ...]
    rest_height: float
    joint_ranges: dict[int, tuple[float, float]]

    @property
    def num_positions(self) -> int:
        """Length of qpos, and of qvel."""
        return 2 + sum(segment.joint is not None for segment in self.segments)

    @property
    def has_arms(self) -> bool:
        """Whether there are hands."""
        return any("right_hand" in segment.points for segment in self.segments)

    def radius(self, point: str) -> float:
        """Of the capsule around a named point, metres."""
        return next(segment.radius for segment in self.segments if point in segment.points)

    def points(self, qpos: np.ndarray) -> dict[str, np.ndarray]:
        """Positions of all named points: qpos (..., nq) -> name -> (..., 2) forward and up, metres."""
        angles: dict[str, np.ndarray] = {}
        origins: dict[str, np.ndarray] = {}
        found: dict[str, np.ndarray] = {}
        for segment in self.segments:
            turn = np.zeros(qpos.shape[:-1]) if segment.joint is None else segment.sign * qpos[..., segment.joint]
            if segment.parent:
                origins[segment.name] = origins[segment.parent] + _turned(segment.anchor, angles[segment.parent])
                angles[segment.name] = angles[segment.parent] + turn
            else:
                origins[segment.name] = np.stack([qpos[..., 1], qpos[..., 0] + self.rest_height], axis=-1)
                angles[segment.name] = turn
            for name, offset in segment.points.items():
                found[name] = origins[segment.name] + _turned(offset, angles[segment.name])
        return found

    def lowest(self, qpos: np.ndarray) -> np.ndarray:
        """Height of the lowest spot of the body above the floor, (...,) metres; negative when it sinks in."""
        points = self.points(qpos)
        heights = [points[name][..., 1] - segment.radius for segment in self.segments for name in segment.points]
        return np.min(heights, axis=0)


def _turned(offset: tuple[float, float], angle: np.ndarray) -> np.ndarray:
    """A vector (forward, up) after leaning forward by `angle` radians."""
    forward, up = offset
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([forward * cos + up * sin, up * cos - forward * sin], axis=-1)


def _leg(side: str, first_joint: int, hip: float, foot_radius: float) -> tuple[Segment, ...]:
    thigh, leg, foot = (f"{side}_{part}" for part in ("thigh", "leg", "foot"))
    return (
        Segment(thigh, "torso", first_joint, -1, (0.0, hip), {f"{side}_knee": (0.0, -0.45)}, 0.05),
        Segment(leg, thigh, first_joint + 1, -1, (0.0, -0.45), {f"{side}_ankle": (0.0, -0.5)}, 0.04),
        Segment(
            foot,
            leg,
            first_joint + 2,
            -1,
            (0.0, -0.5),
            {f"{side}_heel": (-0.04, 0.0), f"{side}_toe": (0.16, 0.0)},
            foot_radius,
        ),
    )


def _arm(side: str, first_joint: int) -> tuple[Segment, ...]:
    arm, forearm, hand = (f"{side}_{part}" for part in ("arm", "forearm", "hand"))
    return (
        Segment(arm, "torso", first_joint, -1, (0.0, 0.2), {f"{side}_elbow": (0.0, -0.3)}, 0.04),
        Segment(forearm, arm, first_joint + 1, -1, (0.0, -0.3), {}, 0.035),
        Segment(hand, forearm, None, -1, (0.0, -0.3), {f"{side}_hand": (0.0, 0.0)}, 0.05),
    )


def _torso(half_length: float, radius: float) -> Segment:
    """Around its middle, `chest`; the walker's ends where its head would be."""
    return Segment("torso", "", 2, 1, (0.0, 0.0), {"hip": (0.0, -half_length), "chest": (0.0, 0.0)}, radius)


_HIP, _KNEE, _ANKLE = (-0.349, 1.745), (-2.618, 0.0), (-0.785, 0.785)
_LEGS = {3: _HIP, 4: _KNEE, 5: _ANKLE, 6: _HIP, 7: _KNEE, 8: _ANKLE}
_SHOULDER, _ELBOW = (-0.349, 1.745), (0.0, 2.618)

WALKER = Figure(
    segments=(
        _torso(0.3, 0.07),
        Segment("head", "torso", None, 1, (0.0, 0.3), {"head": (0.0, 0.0)}, 0.07),
        *_leg("right", 3, -0.3, 0.05),
        *_leg("left", 6, -0.3, 0.05),
    ),
    rest_height=1.3,
    joint_ranges=_LEGS,
)
STICKMAN = Figure(
    segments=(
        _torso(0.25, 0.06),
        Segment("head", "torso", None, 1, (0.0, 0.45), {"head": (0.0, 0.0)}, 0.1),
        *_leg("right", 3, -0.25, 0.04),
        *_leg("left", 6, -0.25, 0.04),
        *_arm("left", 9),
        *_arm("right", 11),
    ),
    rest_height=1.25,
    joint_ranges={**_LEGS, 9: _SHOULDER, 10: _ELBOW, 11: _SHOULDER, 12: _ELBOW},
)
