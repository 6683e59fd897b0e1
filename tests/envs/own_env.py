"""Environments of a user: importing this registers them with Gymnasium, as `tests.envs.own_env:Dial-v0` and so on."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

LENGTH = 9
"""Own steps after which an episode terminates."""


class Dial(gymnasium.Env[np.ndarray, Any]):
    """Draws its step as grey levels, 10 a step; the reward tells the action that came."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = gymnasium.spaces.Box(0, 1, (1,))
    action_space: gymnasium.Space[Any] = gymnasium.spaces.Box(
        np.float32([-2, 0]), np.float32([2, 10]), dtype=np.float32
    )

    def __init__(self, render_mode: str = "", camera_name: str = "front", width: int = 48, height: int = 32) -> None:
        self.render_mode = render_mode
        self._tint, self._size = (100 if camera_name == "back" else 0), (height, width)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._step, self._start = 0, int(self.np_random.integers(50))
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self._step += 1
        return np.zeros(1, np.float32), self.judge(action), self._step >= LENGTH, False, {}

    def judge(self, action: Any) -> float:
        return float(action[0] + 100 * action[1])

    def render(self) -> np.ndarray:  # type: ignore[override]
        picture = np.full((*self._size, 3), self._start + 10 * self._step, np.uint8)
        picture[..., 2] += self._tint
        return picture


class Switch(Dial):
    """Three choices that are counted from 5."""

    action_space = gymnasium.spaces.Discrete(3, start=5)

    def judge(self, action: Any) -> float:
        return float(action)


class Blind(Dial):
    """Cannot draw itself."""

    metadata = {"render_modes": ["human"], "render_fps": 10}


class Sketch(Dial):
    """Draws a list of numbers."""

    def render(self) -> np.ndarray:  # type: ignore[override]
        return np.zeros(7)


class Bare(Dial):
    """Draws with something that is not installed."""

    def render(self) -> np.ndarray:  # type: ignore[override]
        raise gymnasium.error.DependencyNotInstalled("brush is not installed")


class Keys(Dial):
    """Takes several choices at once."""

    action_space = gymnasium.spaces.MultiDiscrete([2, 3])


class Throttle(Dial):
    """Has no upper bound."""

    action_space = gymnasium.spaces.Box(0, np.inf, (1,))


for kind in (Dial, Switch, Blind, Sketch, Bare, Keys, Throttle):
    gymnasium.register(f"{kind.__name__}-v0", entry_point=kind, max_episode_steps=20)
gymnasium.register("Endless-v0", entry_point=Dial)
