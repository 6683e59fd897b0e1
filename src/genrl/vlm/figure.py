"""Planar figures: where the parts of a two-legged body are, computed from its joints without a simulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genrl.infra.errors import UserError


@dataclass(frozen=True)
class Segment:
    """A rigid part of a planar figure.

    Attributes:
        name: Its name.
        parent: The part it hangs on; empty for the root.
        joint: Index of its angle in qpos.
        sign: +1 if a positive angle turns up towards forward (leaning forward), -1 the other way.
        anchor: Position of its joint in the parent's frame, (forward, up) in metres.
        points: Named points in its own frame.
        radius: Of the capsule around the points, metres.
    """

    name: str
    parent: str
    joint: int
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
        return 2 + len(self.segments)

    def points(self, qpos: np.ndarray) -> dict[str, np.ndarray]:
        """Positions of all named points: qpos (..., nq) -> name -> (..., 2) forward and up, metres."""
        angles: dict[str, np.ndarray] = {}
        origins: dict[str, np.ndarray] = {}
        found: dict[str, np.ndarray] = {}
        for segment in self.segments:
            turn = segment.sign * qpos[..., segment.joint]
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


def _leg(side: str, first_joint: int) -> tuple[Segment, ...]:
    return (
        Segment(f"{side}_thigh", "torso", first_joint, -1, (0.0, -0.3), {f"{side}_knee": (0.0, -0.45)}, 0.05),
        Segment(
            f"{side}_leg", f"{side}_thigh", first_joint + 1, -1, (0.0, -0.45), {f"{side}_ankle": (0.0, -0.5)}, 0.04
        ),
        Segment(
            f"{side}_foot",
            f"{side}_leg",
            first_joint + 2,
            -1,
            (0.0, -0.5),
            {f"{side}_heel": (-0.04, 0.0), f"{side}_toe": (0.16, 0.0)},
            0.05,
        ),
    )


_HIP, _KNEE, _ANKLE = (-0.349, 1.745), (-2.618, 0.0), (-0.785, 0.785)
FIGURES = {
    "walker": Figure(
        segments=(
            Segment("torso", "", 2, 1, (0.0, 0.0), {"head": (0.0, 0.3), "hip": (0.0, -0.3), "chest": (0.0, 0.0)}, 0.07),
            *_leg("right", 3),
            *_leg("left", 6),
        ),
        rest_height=1.3,
        joint_ranges={3: _HIP, 4: _KNEE, 5: _ANKLE, 6: _HIP, 7: _KNEE, 8: _ANKLE},
    )
}


def get_figure(domain: str) -> Figure:
    """The figure of a domain.

    Raises:
        UserError: If captions cannot be made for that domain.
    """
    if domain not in FIGURES:
        raise UserError(f"--domain {domain}: no captions are known for this body; choose from {', '.join(FIGURES)}")
    return FIGURES[domain]
