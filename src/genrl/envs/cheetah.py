"""The planar cheetah of the DeepMind control suite, with the suite's task and those of the benchmark."""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np
from dm_control.mujoco.wrapper import MjModel
from dm_control.suite import common

from genrl.envs.domain import Domain
from genrl.envs.physics import BodyPhysics, at_least, at_most, faster_than, flat

RUN_SPEED = 10.0
"""Forward speed of the whole body above which it runs, in m/s."""

FLIP_MOMENTUM = 5.0
"""Angular momentum above which it flips, in kg m^2/s."""

GROUND_LENGTH = 200.0
"""Half-length of the ground in metres, centred at x = 98. The suite's own, on which `run` takes place, has half of it
and ends 2 m behind the start. It can be seen to end there, but carries on: nothing falls off."""

CONTROL_TIMESTEP = 0.01
"""Seconds per control step; the simulation step is as long."""

CONTROL_STEPS = 1000
"""Control steps per episode, 10 s."""

CAMERA = 0
"""The model's camera `side`, which follows the centre of mass."""

SETTLING_STEPS = 200
"""Simulation steps from the random pose to the start of an episode."""


class CheetahPhysics(BodyPhysics):
    """Answers about the cheetah."""

    def foot_heights(self) -> tuple[float, float]:
        """Heights of the back and the front foot."""
        return self.height("bfoot"), self.height("ffoot")


def load_physics(task: str) -> CheetahPhysics:
    """The cheetah of dm_control's own model file, with a longer ground for all tasks but the suite's."""
    spec = mujoco.MjSpec.from_string(common.read_model("cheetah.xml"), include=common.ASSETS)
    if task not in OWN_MODELS:
        spec.geom("ground").size[0] = GROUND_LENGTH
    # The file wants the compiler to set the total mass, of which MuJoCo warns on every load; done after it instead.
    mass, spec.compiler.settotalmass = spec.compiler.settotalmass, -1
    model = spec.compile()
    mujoco.mj_setTotalmass(model, mass)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return CheetahPhysics.from_model(MjModel(model))


def start(physics: CheetahPhysics, random: np.random.Generator) -> None:
    """Limited joints uniform in their ranges, then the body falls and settles without control."""
    limited = physics.model.jnt_limited == 1
    low, high = physics.model.jnt_range[limited].T
    physics.data.qpos[limited] = random.uniform(low, high)
    physics.step(SETTLING_STEPS)
    physics.data.time = 0


def observe(physics: CheetahPhysics) -> np.ndarray:
    """(17,) the suite's observation: positions but the one along the ground, velocities."""
    return flat(physics.position()[1:], physics.velocity())


def run(physics: CheetahPhysics, direction: int = 1) -> float:
    """Running forwards (1) or backwards (-1)."""
    return faster_than(direction * physics.forward_speed(), RUN_SPEED, RUN_SPEED, value_at_margin=0.0)


def flip(physics: CheetahPhysics, direction: int = 1) -> float:
    """Rotating forwards (1) or backwards (-1)."""
    return faster_than(direction * physics.spin(), FLIP_MOMENTUM, FLIP_MOMENTUM, value_at_margin=0.0)


def standing(physics: CheetahPhysics) -> float:
    """One foot on the ground, the other a metre up."""
    low, high = sorted(physics.foot_heights())
    return at_least(high, 1.0, 0.5) * at_most(low, 0.15, 0.225)


def lying_down(physics: CheetahPhysics) -> float:
    """On the back: the torso on the ground, the feet in the air, whose heights are added up."""
    return (at_most(physics.height("torso"), 0.15, 0.225) + at_least(sum(physics.foot_heights()), 0.45, 0.225)) / 2


OWN_MODELS = frozenset({"cheetah_run"})
REWARDS: dict[str, Callable[[CheetahPhysics], float]] = {
    "cheetah_run": run,
    "cheetah_standing": standing,
    "cheetah_lying_down": lying_down,
    # The release means either direction, but multiplies the backward term by zero.
    "cheetah_flipping": flip,
    "cheetah_run_backward": lambda physics: run(physics, -1),
    "cheetah_flip": flip,
    "cheetah_flip_backward": lambda physics: flip(physics, -1),
}

DOMAIN = Domain(
    name="cheetah",
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
