"""What an environment needs to know about a body, and where each body is defined."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genrl.infra.errors import UserError

FRAME_SIZE = 64
"""Height and width of frames, pixels."""

MODULES = {
    "walker": "genrl.envs.walker",
    "stickman": "genrl.envs.stickman",
    "cheetah": "genrl.envs.cheetah",
    "quadruped": "genrl.envs.quadruped",
    "kitchen": "genrl.envs.kitchen",
    "jaco": "genrl.envs.jaco",
}
"""Module of each body; it holds a `DOMAIN`. Imported on first use, because it loads the simulator."""


@dataclass(frozen=True)
class FreeCamera:
    """A camera that stands in no model file.

    Attributes:
        lookat: Point in the middle of the picture, metres.
        distance: Of the camera from it, metres.
        azimuth: Direction of the view about the vertical, degrees.
        elevation: Direction of the view above the horizontal, degrees.
    """

    lookat: tuple[float, float, float]
    distance: float
    azimuth: float
    elevation: float


def scale_to_actuators(physics: Any, action: np.ndarray) -> np.ndarray:
    """(A,) action in -1 ... 1 -> (A,) control, linear in the range of each actuator."""
    low, high = physics.model.actuator_ctrlrange.T
    return (high + low) / 2 + (high - low) / 2 * action


@dataclass(frozen=True)
class Domain:
    """One body: how it is loaded, started, moved, observed and judged.

    Attributes:
        name: Such as `walker`.
        control_timestep: Seconds per control step.
        control_steps: Control steps per episode.
        camera: Index or name of the model's camera that frames are taken with, or one of our own.
        load: Task name -> physics (`dm_control.mujoco.Physics`); tasks of a body may differ in their model file. The
            body's own name gives the model that its states are drawn with.
        start: Puts a physics into a random start state, with the given generator. Called within a reset.
        observe: Physics -> (O,) float32 observation of the simulator's state.
        rewards: Reward of each task by its full name, a function of the physics; in [0, 1], but for tasks that can be
            done.
        own_models: Tasks whose model looks otherwise, such as by the size of its floor, and draws their states.
        control: Physics, (A,) action in -1 ... 1 -> control of the actuators, asked before every control step.
        success: Of tasks that can be done: whether a physics shows it. The reward that comes with the first success is
            the last; in an evaluation it is 1, all others are 0, and the episode ends with it.
        tracked_body: The body that the camera follows; None for a camera that stands still.
    """

    name: str
    control_timestep: float
    control_steps: int
    camera: int | str | FreeCamera
    load: Callable[[str], Any]
    start: Callable[[Any, np.random.Generator], None]
    observe: Callable[[Any], np.ndarray]
    rewards: Mapping[str, Callable[[Any], float]]
    own_models: frozenset[str] = frozenset()
    control: Callable[[Any, np.ndarray], np.ndarray] = scale_to_actuators
    success: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)
    tracked_body: str | None = None

    @property
    def plain_task(self) -> str:
        """A task that looks as the body does, for acting without a task in mind."""
        return next(task for task in self.rewards if task not in self.own_models)

    def model_of(self, task: str) -> str:
        """What to load for drawing a task's states: the task's own model, or the body's."""
        return task if task in self.own_models else self.name

    def camera_name(self, physics: Any) -> str:
        """What stores and checkpoints call the camera."""
        if isinstance(self.camera, FreeCamera):
            return "free"
        return str(physics.model.ptr.camera(self.camera).name)


def get_domain(name: str) -> Domain:
    """The body of that name.

    Raises:
        UserError: If there is none.
    """
    if name not in MODULES:
        raise UserError(f"unknown domain {name!r}: choose from {', '.join(MODULES)}")
    domain: Domain = importlib.import_module(MODULES[name]).DOMAIN
    return domain
