"""Anybody's Gymnasium environment, seen by the pictures it draws of itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from genrl.envs.domain import FRAME_SIZE
from genrl.infra.errors import UserError, first_line
from genrl.infra.media import resize_frames
from genrl.infra.units import to_units

OWN_CAMERA, OWN_LOOK = "default", "own"


@dataclass(frozen=True)
class View:
    """How an environment is asked to draw itself.

    Attributes:
        camera: Handed to it as `camera_name`; None leaves the choice to it.
        size: Handed to it as `width` and `height`, pixels; None leaves the choice to it.
    """

    camera: str | None = None
    size: int | None = None

    @classmethod
    def of(cls, camera: str, look: str) -> View:
        """The view that stores and models describe by these words.

        Raises:
            UserError: If no such view is meant by them.
        """
        size = look.removeprefix(OWN_LOOK).removeprefix("-")
        if not look.startswith(OWN_LOOK) or not (size.isdigit() or look == OWN_LOOK):
            raise UserError(f"frames of look {look!r} are not drawn by an environment itself ({OWN_LOOK!r} are)")
        return cls(None if camera == OWN_CAMERA else camera, int(size) if size else None)

    @property
    def camera_name(self) -> str:
        """What stores and models call the camera."""
        return self.camera or OWN_CAMERA

    @property
    def look(self) -> str:
        """What stores and models call the look."""
        return f"{OWN_LOOK}-{self.size}" if self.size else OWN_LOOK

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of the environment."""
        camera = {"camera_name": self.camera} if self.camera else {}
        return camera | ({"width": self.size, "height": self.size} if self.size else {})


class ExternalEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """An environment of others in the form that ours have.

    Observations are (64, 64, 3) uint8: what it draws, resized without regard to the aspect ratio. Actions are (A,) in
    its own units, or one-hot where it takes one of A choices. One `step` is `action_repeat` of its own, whose rewards
    are added. Its own observations, if any, are not read, and `info["state"]` is empty: nobody can draw its past again.

    Args:
        name: Its id.
        view: How it draws.
        action_repeat: Its own steps per env step.
        episode_steps: Env steps after which an episode is truncated; needed where it has no time limit of its own.

    Raises:
        UserError: If it cannot be made, does not draw, or takes actions of another kind.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
    render_mode = "rgb_array"

    def __init__(
        self, name: str, view: View = View(), action_repeat: int = 1, episode_steps: int | None = None
    ) -> None:
        if action_repeat < 1:
            raise UserError(f"action_repeat must be at least 1, got {action_repeat}")
        if episode_steps is not None and episode_steps < 1:
            raise UserError(f"--episode-steps must be at least 1, got {episode_steps}")
        self.name, self.action_repeat = name, action_repeat
        self.camera, self.look = view.camera_name, view.look
        self._env = _make(name, view)
        space = self._env.action_space
        self.discrete = isinstance(space, gymnasium.spaces.Discrete)
        if isinstance(space, gymnasium.spaces.Discrete):
            low, high = np.zeros(int(space.n)), np.ones(int(space.n))
        elif isinstance(space, gymnasium.spaces.Box) and space.is_bounded():
            low, high = space.low.ravel(), space.high.ravel()
        else:
            raise UserError(f"--env {name} takes actions from {space}; a bounded Box or Discrete is needed")
        self.action_space = gymnasium.spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
        self.action_dim = len(low)
        self.observation_space = gymnasium.spaces.Box(0, 255, (FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
        rate = self._env.metadata.get("render_fps")
        if not rate:
            raise UserError(f"--env {name} does not say in `metadata` how many steps a second it shows (render_fps)")
        self.control_timestep = 1 / float(rate)
        self.metadata = {**self.metadata, "render_fps": round(rate / action_repeat) or 1}
        limit = self._env.spec.max_episode_steps if self._env.spec else None
        own = -(-limit // action_repeat) if limit else None
        if own is None and episode_steps is None:
            raise UserError(f"--env {name} has no time limit of its own; give one with --episode-steps")
        self.episode_steps = min(steps for steps in (own, episode_steps) if steps is not None)
        self._steps: int | None = None

    def state(self) -> np.ndarray:
        """(0,) nothing is known of its state."""
        return np.zeros(0)

    def to_units(self, action: np.ndarray) -> np.ndarray:
        """(A,) action in -1 ... 1 in its own units; one-hot actions stay."""
        if self.discrete:
            return action
        return to_units(action, self.action_space.low, self.action_space.high)  # type: ignore[attr-defined]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode."""
        super().reset(seed=seed)
        self._env.reset(seed=seed, options=options)
        self._steps = 0
        return self.render(), {"state": self.state()}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Applies an action for `action_repeat` of its steps.

        Raises:
            ValueError: If the action has another size or is not finite.
            RuntimeError: If the episode has not been started or is over.
        """
        if self._steps is None:
            raise RuntimeError("call reset() before the first step(), and after the end of an episode")
        action = np.asarray(action, np.float32)
        if action.shape != (self.action_dim,) or not np.isfinite(action).all():
            raise ValueError(f"action must be {self.action_dim} finite numbers, got {action!r}")
        total = 0.0
        for _ in range(self.action_repeat):
            _, reward, terminated, truncated, _ = self._env.step(self._native(action))
            total += float(reward)
            if terminated or truncated:
                break
        self._steps += 1
        truncated = truncated or self._steps >= self.episode_steps
        frame = self.render()
        if terminated or truncated:
            self._steps = None
        return frame, total, terminated, truncated, {"state": self.state()}

    def render(self) -> np.ndarray:
        """(64, 64, 3) uint8 picture of the present moment.

        Raises:
            UserError: If what it draws is no picture, or what it draws with is not installed.
        """
        try:
            picture = np.asarray(self._env.render())
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(f"--env {self.name} cannot draw itself: {error}") from error
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
            raise UserError(
                f"--env {self.name} draws {picture.dtype} {picture.shape} in render mode rgb_array; "
                "a picture is uint8 (h, w, 3)"
            )
        return resize_frames(picture, FRAME_SIZE)

    def close(self) -> None:
        """Closes it."""
        self._env.close()

    def _native(self, action: np.ndarray) -> Any:
        space = self._env.action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            return int(action.argmax()) + int(space.start)
        assert isinstance(space, gymnasium.spaces.Box), "checked when it was made"
        return np.clip(action.reshape(space.shape), space.low, space.high).astype(space.dtype)


def _make(name: str, view: View) -> gymnasium.Env[Any, Any]:
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws into memory; else it complains about the screen
    try:
        env = gymnasium.make(name, render_mode="rgb_array", disable_env_checker=True, **view.options)
    except (gymnasium.error.Error, ImportError, TypeError, AssertionError) as error:
        options = ", ".join(f"{option}={value!r}" for option, value in view.options.items())
        raise UserError(
            f"--env {name} cannot be made{f' with {options}' if options else ''}: {first_line(error)}"
        ) from error
    if "rgb_array" not in env.metadata.get("render_modes", ()):
        raise UserError(f"--env {name} does not draw itself: its `metadata` name no render mode rgb_array")
    model: Any = getattr(env.unwrapped, "model", None)
    if view.camera is not None and hasattr(model, "ncam"):
        # Gymnasium's MuJoCo environments draw from somewhere else where a name is unknown, without a word.
        cameras = [model.camera(index).name for index in range(model.ncam)]
        if view.camera not in cameras:
            raise UserError(f"--env {name} has no camera {view.camera!r}: choose from {', '.join(cameras) or 'none'}")
    return env
