"""The planar walker of the DeepMind control suite, with the suite's tasks and the poses of the benchmark."""

from __future__ import annotations

import numpy as np
from dm_control.suite import common
from dm_control.suite.utils import randomizers

from genrl.envs import poses
from genrl.envs.domain import Domain
from genrl.envs.physics import flat

STAND_HEIGHT = 1.2
"""Height of the torso above which it stands, in metres."""

CONTROL_TIMESTEP = 0.025
"""Seconds per control step; the simulation step is 0.0025 s."""

CONTROL_STEPS = 1000
"""Control steps per episode, 25 s."""

CAMERA = 0
"""The model's camera `side`, which follows the centre of mass."""


def load_physics(task: str) -> poses.BipedPhysics:
    """The walker of dm_control's own model file; all tasks share it.

    The model's own sensor makes MuJoCo compute subtree velocities at every step.
    """
    return poses.BipedPhysics.from_xml_string(common.read_model("walker.xml"), common.ASSETS)


def start(physics: poses.BipedPhysics, random: np.random.Generator) -> None:
    """Limited joints uniform in their ranges, the torso's pitch uniform in +-180 degrees, the rest zero."""
    randomizers.randomize_limited_and_rotational_joints(physics, random)


def observe(physics: poses.BipedPhysics) -> np.ndarray:
    """(24,) the suite's observation: orientations, height of the torso, velocities."""
    return flat(physics.orientations(), physics.height("torso"), physics.velocity())


REWARDS: dict[str, poses.Reward] = {
    **{f"walker_{name}": reward for name, reward in poses.shared_rewards(STAND_HEIGHT).items()},
    "walker_stand": lambda physics: poses.stand(physics, STAND_HEIGHT),
    "walker_walk_backwards": lambda physics: poses.move_backwards(physics, poses.WALK_SPEED),
    "walker_run_backwards": lambda physics: poses.move_backwards(physics, poses.RUN_SPEED),
}

DOMAIN = Domain(
    name="walker",
    control_timestep=CONTROL_TIMESTEP,
    control_steps=CONTROL_STEPS,
    camera=CAMERA,
    tracked_body="torso",
    load=load_physics,
    start=start,
    observe=observe,
    rewards=REWARDS,
)
