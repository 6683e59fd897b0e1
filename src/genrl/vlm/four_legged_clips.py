"""How poses become clips, alike for all four-legged puppets: they are held, blended, thrown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genrl.vlm.poses import Rng

GRAVITY = 9.81


@dataclass(frozen=True)
class Performance:
    """What a puppet does in a clip of L frames.

    Attributes:
        poses: (L, P) degrees.
        height: Of the lowest spot, metres.
        speed: Forward in m/s.
        sideways: Speed to the left in m/s.
        turning: About the vertical, degrees/s.
    """

    poses: np.ndarray
    height: float | np.ndarray = 0.0
    speed: float = 0.0
    sideways: float = 0.0
    turning: float = 0.0


def drifting(pose: np.ndarray, length: int, seconds: float, rng: Rng) -> np.ndarray:
    """A pose with a slow drift or tremble, from none to some: (P,) -> (L, P)."""
    amplitude = rng.uniform(0, 4) if rng.random() < 0.7 else 0.0
    rates = 25 * seconds * rng.uniform(0.1, 1.0, pose.size)
    wave = np.sin(rng.uniform(0, 2 * np.pi, pose.size) + rates * np.arange(length)[:, None])
    return pose + amplitude * rng.uniform(-1, 1, pose.size) * wave


def waving(pose: np.ndarray, size: np.ndarray, length: int, seconds: float, rng: Rng) -> np.ndarray:
    """A pose whose joints all swing, each by its `size` in degrees: (P,) -> (L, P)."""
    rates, phases = seconds * rng.uniform(8, 30, pose.size), rng.uniform(0, 2 * np.pi, pose.size)
    return pose + size * rng.uniform(0.4, 1, pose.size) * np.sin(phases + rates * np.arange(length)[:, None])


def blended(first: np.ndarray, last: np.ndarray, progress: np.ndarray) -> np.ndarray:
    """From one pose to another: two (P,), (L,) progress in 0 ... 1 -> (L, P)."""
    smooth = progress * progress * (3 - 2 * progress)
    return first + (last - first) * smooth[:, None]


def leisurely(length: int, rng: Rng) -> np.ndarray:
    """Progress of a change within the clip or in more time than it has."""
    return np.clip(rng.uniform(-0.3, 0.5) + rng.uniform(0.08, 0.3) * np.arange(length), 0, 1)


def rising(length: int, rng: Rng) -> np.ndarray:
    """Progress of getting up, of which the clip shows the earlier part or all."""
    return np.linspace(rng.uniform(0, 0.25), rng.uniform(0.6, 1), length)


def thrown(length: int, seconds: float, top: float, rng: Rng) -> np.ndarray:
    """Height of a body in the air, which is at its top within or near the clip."""
    duration = seconds * (length - 1)
    time = seconds * np.arange(length) - rng.uniform(-0.3, 1.3) * duration
    return np.clip(top - GRAVITY / 2 * time**2, 0, None)


def tumbling(length: int, seconds: float, rng: Rng) -> np.ndarray | float:
    """Height of the lowest spot of a body that turns over: on the floor, or thrown."""
    return 0.0 if rng.random() < 0.4 else thrown(length, seconds, rng.uniform(0.1, 0.9), rng)
