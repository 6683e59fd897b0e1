"""A task of the suite as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from genrl.envs.domain import FRAME_SIZE, Domain, get_domain
from genrl.envs.physics import get_state, set_state
from genrl.envs.rendering import Look, StateRenderer, check_look
from genrl.envs.tasks import Task, get_task
from genrl.infra.errors import UserError


class BodyEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One body and one task. An episode is truncated at the body's time limit.

    Observations are (64, 64, 3) uint8 frames, or with `frames=False` the simulator's state as (O,) float32. Actions
    are (A,) in -1 ... 1, and clipped; the body says what they do (`Domain.control`). One `step` is `action_repeat`
    control steps, whose rewards are added. `info["state"]` is (S,) float64: positions, velocities and, where the
    actuators have any, activations; `info["rewards"]` holds the rewards of the tasks named in `report`, added up in the
    same way.

    With `evaluation`, a task that can be done (`Domain.success`) pays 1 when it is, and that terminates the episode.
    Nothing else terminates.

    `reset(seed=s)` starts the same episode every time; `reset()` goes on with the generator seeded last.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    discrete = False

    def __init__(
        self,
        task: Task,
        look: Look = "fast",
        action_repeat: int = 2,
        frames: bool = True,
        report: Sequence[str] = (),
        evaluation: bool = False,
    ) -> None:
        if action_repeat < 1:
            raise UserError(f"action_repeat must be at least 1, got {action_repeat}")
        check_look(look)
        self.task = task
        self.look = look
        self.action_repeat = action_repeat
        self.domain: Domain = get_domain(task.domain)
        self.render_mode = "rgb_array"
        self.metadata = {**self.metadata, "render_fps": round(1 / (self.domain.control_timestep * action_repeat))}
        self._physics = self.domain.load(task.name)
        self._sub_steps = round(self.domain.control_timestep / self._physics.timestep())
        self._evaluation = evaluation
        self._judge = _Judge(self.domain, task.name, evaluation)
        self._report = [_Judge(self.domain, get_task(name).name, evaluation) for name in report]
        self._frames = frames
        self._renderer = StateRenderer.shared(task.name, look) if frames else None
        self._control_step: int | None = None
        self._action_dim = int(self._physics.model.nu)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (self._action_dim,), np.float32)
        if frames:
            self.observation_space = gymnasium.spaces.Box(0, 255, (FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
        else:
            size = self.domain.observe(self._physics).size
            self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    @property
    def physics(self) -> Any:
        """The simulator, for looking at."""
        return self._physics

    @property
    def control_timestep(self) -> float:
        """Seconds of a control step."""
        return self.domain.control_timestep

    @property
    def camera(self) -> str:
        """Name of the camera that frames are taken with."""
        return self.domain.camera_name(self._physics)

    @property
    def episode_steps(self) -> int:
        """Env steps per episode."""
        return -(-self.domain.control_steps // self.action_repeat)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode from a random state."""
        super().reset(seed=seed)
        with self._physics.reset_context():
            self.domain.start(self._physics, self.np_random)
        self._control_step = 0
        for judge in (self._judge, *self._report):
            judge.reset()
        return self._observation(), self._info([0.0] * len(self._report))

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Applies an action for `action_repeat` control steps.

        Raises:
            ValueError: If the action has another size or is not finite.
            RuntimeError: If the episode has not been started or is over.
        """
        if self._control_step is None:
            raise RuntimeError("call reset() before the first step()")
        if self._terminated or self._control_step >= self.domain.control_steps:
            raise RuntimeError("the episode is over: call reset() before the next step()")
        action = np.asarray(action, np.float64)
        if action.shape != (self._action_dim,) or not np.isfinite(action).all():
            raise ValueError(f"action must be {self._action_dim} finite numbers, got {action!r}")
        action = np.clip(action, -1, 1)
        reward, reported = 0.0, [0.0] * len(self._report)
        for _ in range(min(self.action_repeat, self.domain.control_steps - self._control_step)):
            self._physics.set_control(self.domain.control(self._physics, action))
            self._physics.step(self._sub_steps)
            self._control_step += 1
            reward += self._judge(self._physics)
            reported = [total + judge(self._physics) for total, judge in zip(reported, self._report, strict=True)]
            if self._terminated:
                break
        truncated = self._control_step >= self.domain.control_steps
        return self._observation(), reward, self._terminated, truncated, self._info(reported)

    @property
    def _terminated(self) -> bool:
        return self._evaluation and self._judge.done

    def state(self) -> np.ndarray:
        """(S,) float64: positions, velocities, activations."""
        return get_state(self._physics)

    def render(self, size: int = 256) -> np.ndarray:
        """(size, size, 3) uint8 picture of the present state; frames of the observation are of size 64."""
        if self._renderer is None:
            self._renderer = StateRenderer.shared(self.task.name, self.look)
        return self._renderer.render(self.state()[None], size)[0]

    def _observation(self) -> np.ndarray:
        return self.render(FRAME_SIZE) if self._frames else self.domain.observe(self._physics)

    def _info(self, reported: list[float]) -> dict[str, Any]:
        return {"state": self.state(), "rewards": np.asarray(reported)}


class _Judge:
    """The reward of one task along an episode."""

    def __init__(self, domain: Domain, task: str, evaluation: bool) -> None:
        self._reward = domain.rewards[task]
        self._success = domain.success.get(task)
        self._evaluation = evaluation
        self.done = False

    def reset(self) -> None:
        """An episode begins."""
        self.done = False

    def __call__(self, physics: Any) -> float:
        """Reward of the control step that led here."""
        if self._success is None:
            return self._reward(physics)
        if self.done:
            return 0.0
        self.done = self._success(physics)
        return float(self.done) if self._evaluation else self._reward(physics)


def make_env(
    task: str,
    look: Look = "fast",
    action_repeat: int = 2,
    frames: bool = True,
    report: Sequence[str] = (),
    evaluation: bool = False,
) -> BodyEnv:
    """The environment of a task; `gymnasium.make("genrl/<task>-v0")` calls this.

    Args:
        task: Name of the task, see `genrl.envs.tasks.TASKS`.
        look: `fast` or `paper`, see `genrl.envs.rendering`.
        action_repeat: Control steps per env step.
        frames: Whether observations are frames; otherwise they are the simulator's state, and nothing is rendered.
        report: Tasks of the same body whose rewards come with every step.
        evaluation: Tasks that can be done pay 1 for success alone, which ends the episode, as the benchmark has it.

    Raises:
        UserError: For an unknown task or look, or when frames are wanted and rendering does not work.
    """
    return BodyEnv(get_task(task), look, action_repeat, frames, report, evaluation)


def state_rewards(task: str, states: np.ndarray) -> np.ndarray:
    """Reward of a task at each of many states.

    Args:
        task: Name of the task.
        states: (N, S) positions, velocities, activations.

    Returns:
        (N,) float64, the reward of a single control step that ends in the state.
    """
    entry = get_task(task)
    domain = get_domain(entry.domain)
    physics = domain.load(task)
    rewards = np.empty(len(states))
    for i, state in enumerate(states):
        set_state(physics, state)
        rewards[i] = domain.rewards[task](physics)
    return rewards
