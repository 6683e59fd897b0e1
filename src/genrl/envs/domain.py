"""What an environment needs to know about a body, and where each body is defined."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from genrl.infra.errors import UserError

MODULES = {
    "walker": "genrl.envs.walker",
    "stickman": "genrl.envs.stickman",
    "cheetah": "genrl.envs.cheetah",
    "quadruped": "genrl.envs.quadruped",
}
"""Module of each body; it holds a `DOMAIN`. Imported on first use, because it loads the simulator."""


@dataclass(frozen=True)
class Domain:
    """One body: how it is loaded, started, observed and judged.

    Attributes:
        name: Such as `walker`.
        control_timestep: Seconds per control step.
        control_steps: Control steps per episode.
        camera: Index of the model's camera that frames are taken with.
        tracked_body: The body that the camera follows.
        load: Task name -> physics (`dm_control.mujoco.Physics`); tasks of a body may differ in their model file. The
            body's own name gives the model that its states are drawn with.
        start: Puts a physics into a random start state, with the given generator. Called within a reset.
        observe: Physics -> (O,) float32 observation of the simulator's state.
        rewards: Reward of each task by its full name, a function of the physics with values in [0, 1].
        own_models: Tasks whose model looks otherwise, such as by the size of its floor, and draws their states.
    """

    name: str
    control_timestep: float
    control_steps: int
    camera: int
    tracked_body: str
    load: Callable[[str], Any]
    start: Callable[[Any, np.random.Generator], None]
    observe: Callable[[Any], np.ndarray]
    rewards: Mapping[str, Callable[[Any], float]]
    own_models: frozenset[str] = frozenset()

    @property
    def plain_task(self) -> str:
        """A task that looks as the body does, for acting without a task in mind."""
        return next(task for task in self.rewards if task not in self.own_models)

    def model_of(self, task: str) -> str:
        """What to load for drawing a task's states: the task's own model, or the body's."""
        return task if task in self.own_models else self.name


def get_domain(name: str) -> Domain:
    """The body of that name.

    Raises:
        UserError: If there is none.
    """
    if name not in MODULES:
        raise UserError(f"unknown domain {name!r}: choose from {', '.join(MODULES)}")
    domain: Domain = importlib.import_module(MODULES[name]).DOMAIN
    return domain
