"""The quadruped of the DeepMind control suite, with the suite's tasks and those of the benchmark."""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np
from dm_control.suite import common
from dm_control.suite import quadruped as suite

from genrl.envs.domain import Domain
from genrl.envs.physics import BodyPhysics, at_least, at_most, faster_than, flat

WALK_SPEED = 0.5
RUN_SPEED = 5.0
"""Speeds in m/s."""

JUMP_HEIGHT = 1.0
"""Height of the centre of mass above which it jumps, in metres."""

LOW_HEIGHT = 0.2
"""Height below which a torso lies or a toe stands on the floor, in metres; the margin is half as much again."""

TWO_LEGS_HEIGHT = 0.8
"""Mean height of two toes above which the quadruped is on the other two, in metres."""

FLOOR_SIZE, RUN_FLOOR_SIZE = 1000, 100
"""Half-size of the floor in metres, in general and of `run`. It can be seen to end there, but carries on."""

CONTROL_TIMESTEP = 0.02
"""Seconds per control step; the simulation step is 0.005 s."""

CONTROL_STEPS = 1000
"""Control steps per episode, 20 s."""

CAMERA = 2
"""The model's camera `y`, which looks along the y axis and follows the centre of mass."""

START_STEP = 0.01
"""Metres by which the body is lifted until it does not touch the floor."""

TOES = ("toe_front_left", "toe_front_right", "toe_back_left", "toe_back_right")


class QuadrupedPhysics(BodyPhysics, suite.Physics):
    """Answers about the quadruped, the suite's own among them."""

    def centre_height(self) -> float:
        """Height of the centre of mass."""
        return float(self.named.data.sensordata["center_of_mass"][2])

    def toe_heights(self) -> list[float]:
        """Heights of the four toes, lowest first."""
        return sorted(self.height(toe) for toe in TOES)


def load_physics(task: str) -> QuadrupedPhysics:
    """The quadruped of dm_control's own model file, on a floor of its task's size."""
    floor_size = RUN_FLOOR_SIZE if task in OWN_MODELS else FLOOR_SIZE
    return QuadrupedPhysics.from_xml_string(suite.make_model(floor_size=floor_size), common.ASSETS)


def start(physics: QuadrupedPhysics, random: np.random.Generator) -> None:
    """A random orientation, as low as possible without touching the floor; joints at zero."""
    orientation = random.standard_normal(4)
    physics.data.qpos[3:7] = orientation / np.linalg.norm(orientation)
    model, data = physics.model.ptr, physics.data.ptr
    data.qpos[2] = 0
    mujoco.mj_fwdPosition(model, data)
    while data.ncon:
        data.qpos[2] += START_STEP
        mujoco.mj_fwdPosition(model, data)


def observe(physics: QuadrupedPhysics) -> np.ndarray:
    """(78,) the suite's observation: joints and activations, the torso's motion, forces at the toes."""
    return flat(
        physics.egocentric_state(),
        physics.torso_velocity(),
        physics.torso_upright(),
        physics.imu(),
        physics.force_torque(),
    )


def stand(physics: QuadrupedPhysics) -> float:
    """The torso's upper side up."""
    return (1 + physics.uprightness()) / 2


def move(physics: QuadrupedPhysics, speed: float) -> float:
    """Upright and moving in the direction of the head at `speed` or faster."""
    return stand(physics) * faster_than(physics.torso_velocity()[0], speed, speed)


def roll(physics: QuadrupedPhysics, speed: float) -> float:
    """Upright and moving in any direction at `speed` or faster."""
    return stand(physics) * faster_than(float(np.linalg.norm(physics.torso_velocity())), speed, speed)


def jump(physics: QuadrupedPhysics) -> float:
    """Upright and a metre above the floor."""
    return stand(physics) * faster_than(physics.centre_height(), JUMP_HEIGHT, JUMP_HEIGHT)


def lie_down(physics: QuadrupedPhysics) -> float:
    """The torso on the floor."""
    return _low(physics.height("torso"))


def two_legs(physics: QuadrupedPhysics) -> float:
    """Two toes on the floor, the others up. The release divides the upper part's margin to zero: it is a step."""
    toes = physics.toe_heights()
    return _low(sum(toes[:2]) / 2) * at_least(sum(toes[2:]) / 2, TWO_LEGS_HEIGHT, 0.0)


def _low(height: float) -> float:
    return at_most(height, LOW_HEIGHT, 1.5 * LOW_HEIGHT)


OWN_MODELS = frozenset({"quadruped_run"})
REWARDS: dict[str, Callable[[QuadrupedPhysics], float]] = {
    "quadruped_run": lambda physics: move(physics, RUN_SPEED),
    "quadruped_walk": lambda physics: move(physics, WALK_SPEED),
    "quadruped_stand": stand,
    "quadruped_jump": jump,
    "quadruped_two_legs": two_legs,
    "quadruped_lie_down": lie_down,
    "quadruped_roll": lambda physics: roll(physics, WALK_SPEED),
    "quadruped_roll_fast": lambda physics: roll(physics, RUN_SPEED),
}

DOMAIN = Domain(
    name="quadruped",
    control_timestep=CONTROL_TIMESTEP,
    control_steps=CONTROL_STEPS,
    camera=CAMERA,
    tracked_body="torso",
    load=load_physics,
    start=start,
    observe=observe,
    rewards=REWARDS,
    own_models=OWN_MODELS,
)
