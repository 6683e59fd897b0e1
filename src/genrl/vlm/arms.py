"""What a puppet does with its arms.

Angles are the model's: a shoulder hangs at 0 and points ahead at 90 degrees, an elbow is straight at 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from genrl.vlm.poses import Rng

Arms = np.ndarray
"""(L, 4) degrees over a clip: shoulder and elbow of either arm."""


def _held(arms: list[tuple[float, float]], length: int, rng: Rng, tremble: float = 4.0) -> Arms:
    """Two arms, each (shoulder, elbow), that stay where they are but for a slow drift."""
    wave = np.sin(rng.uniform(0, 2 * np.pi, 4) + rng.uniform(0.1, 0.7, 4) * np.arange(length)[:, None])
    return np.ravel(arms) + rng.uniform(0, tremble) * wave


def _hanging(length: int, rng: Rng) -> Arms:
    return _held([(rng.uniform(-12, 18), rng.uniform(0, 25)) for _ in range(2)], length, rng)


def _beside(length: int, rng: Rng) -> Arms:
    """Along the body: below one that lies there is no room."""
    return _held([(rng.uniform(-20, 4), rng.uniform(0, 12)) for _ in range(2)], length, rng, 2.0)


def _anyhow(length: int, rng: Rng) -> Arms:
    return _held([(rng.uniform(-20, 100), rng.uniform(0, 150)) for _ in range(2)], length, rng, 10.0)


def _loose(length: int, rng: Rng) -> Arms:
    """Both move about without a purpose, as those of a learning agent do."""
    middle, size = np.array([30, 50, 30, 50]) + rng.uniform(-30, 40, 4), rng.uniform(5, 45, 4)
    return middle + size * np.sin(rng.uniform(0, 2 * np.pi, 4) + rng.uniform(0.2, 2, 4) * np.arange(length)[:, None])


def _swinging(length: int, rng: Rng) -> Arms:
    """Against each other, as in walking and running."""
    cycle = rng.uniform(0, 2 * np.pi) + rng.uniform(0.3, 1.1) * np.arange(length)
    middle, size, elbow = rng.uniform(0, 25), rng.uniform(12, 40), rng.uniform(5, 100)
    swing = size * np.sin(cycle)
    return np.stack([middle + swing, elbow + 0.3 * swing, middle - swing, elbow - 0.3 * swing], axis=1)


def _raised(length: int, rng: Rng) -> Arms:
    return _held([(rng.uniform(84, 100), rng.uniform(45, 105)) for _ in range(2)], length, rng)


def _ahead(length: int, rng: Rng) -> Arms:
    level = rng.uniform(68, 100)
    return _held([(level + rng.normal(0, 3), rng.uniform(0, 22)) for _ in range(2)], length, rng)


def _guard(length: int, rng: Rng) -> Arms:
    return _held([(rng.uniform(5, 45), rng.uniform(112, 148)) for _ in range(2)], length, rng)


def _strike(length: int, rng: Rng) -> Arms:
    """One fist or both in turn go from the chest to the front and back within a few frames."""
    guard = (rng.uniform(0, 40), rng.uniform(100, 148))
    out = (rng.uniform(65, 100), rng.uniform(0, 25))
    cycle = rng.uniform(0, 2 * np.pi) + rng.uniform(0.8, 1.9) * np.arange(length)
    reach = np.clip(0.5 + 0.8 * np.sin(cycle), 0, 1)
    other = np.clip(0.5 - 0.8 * np.sin(cycle), 0, 1) if rng.random() < 0.5 else np.zeros(length)
    arms = [np.subtract(out, guard) * share[:, None] + guard for share in (reach, other)]
    return np.concatenate(arms, axis=1)


def _wave(length: int, rng: Rng) -> Arms:
    """One forearm swings to and fro above the shoulder; the other arm hangs."""
    cycle = rng.uniform(0, 2 * np.pi) + rng.uniform(0.5, 1.3) * np.arange(length)
    arms = _hanging(length, rng)
    arms[:, 0] = rng.uniform(88, 100)
    arms[:, 1] = rng.uniform(72, 100) + rng.uniform(22, 42) * np.sin(cycle)
    return arms


GESTURES: dict[str, Callable[[int, Rng], Arms]] = {
    "arms_raised": _raised,
    "strike": _strike,
    "reach_forward": _ahead,
    "wave": _wave,
    "guard": _guard,
}
"""Behaviours of the arms."""
_OTHERWISE = (_hanging, _hanging, _swinging, _loose, _anyhow)
_LYING = ("lie_front", "lie_back", "legs_up")


def draw_arms(behaviour: str, length: int, rng: Rng) -> Arms:
    """Arms for a behaviour of the whole body, (length, 4) degrees; either arm may do what is meant for one."""
    gesture = GESTURES.get(behaviour) or _OTHERWISE[rng.integers(len(_OTHERWISE))]
    if behaviour in _LYING and rng.random() < 0.8:
        gesture = _beside
    arms = gesture(length, rng)
    return arms if rng.random() < 0.5 else arms[:, [2, 3, 0, 1]]
