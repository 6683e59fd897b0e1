"""The stickman of GenRL: a planar humanoid with the walker's legs, a shorter torso, a neck, a head and two arms.

No package ships it, so it is built here. Lengths are metres, angles degrees.

Source of the sizes: the released environments of GenRL (arXiv 2406.18043), as numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from dm_control.mujoco.wrapper import MjModel
from dm_control.suite import common
from dm_control.suite.utils import randomizers

from genrl.envs import poses
from genrl.envs.domain import Domain
from genrl.envs.physics import faster_than, flat

STAND_HEIGHT = 1.15
"""Height of the torso above which it stands, in metres."""

HANDS_UP_HEIGHT = 1.75
"""Mean height of the hands above which they are up, in metres."""

PUNCH_SPEED = 5.0
"""Forward or backward speed of a hand above which it punches, in m/s."""

CONTROL_TIMESTEP = 0.025
"""Seconds per control step."""

SIMULATION_TIMESTEP = 0.0025
"""Seconds per simulation step."""

CONTROL_STEPS = 1000
"""Control steps per episode, 25 s."""

CAMERA = 0
"""The model's camera `side`, which follows the centre of mass."""

Vector = tuple[float, float, float]

_SUITE_LOOK = """
<mujoco model="stickman">
  <include file="./common/visual.xml"/>
  <include file="./common/skybox.xml"/>
  <include file="./common/materials.xml"/>
</mujoco>
"""
"""Sky, floor pattern, colours and light of the suite."""

_FRICTION = (0.7, 0.1, 0.1)
_LIMIT_IMPEDANCE = (0, 0.99, 0.01, 0.5, 2)
_FOLLOWS = mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM


def build_stickman() -> mujoco.MjModel:
    """The model. The order of bodies fixes that of joints and actuators: legs right before left, arms the other way."""
    spec = mujoco.MjSpec.from_string(_SUITE_LOOK, include=common.ASSETS)
    spec.option.timestep = SIMULATION_TIMESTEP
    spec.stat.extent, spec.stat.center = 2, (0, 0, 1)
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        pos=(248, 0, 0),
        size=(250, 0.8, 0.2),
        friction=_FRICTION,
        material="grid",
    )
    torso = _add_torso(spec)
    neck = _add_part(torso, "neck", (0, 0, 0.35), (0.045, 0.045))
    _add_part(neck, "head", (0, 0, 0.1), (0.1,))
    _add_leg(spec, torso, "right", -0.05)
    _add_leg(spec, torso, "left", 0.05)
    _add_arm(spec, torso, "left", 0.05)
    _add_arm(spec, torso, "right", -0.05)
    # Besides its own reading it makes MuJoCo compute the subtree velocities that rewards read, at every step.
    spec.add_sensor(
        name="torso_subtreelinvel",
        type=mujoco.mjtSensor.mjSENS_SUBTREELINVEL,
        objtype=mujoco.mjtObj.mjOBJ_BODY,
        objname="torso",
    )
    return spec.compile()


def _add_torso(spec: mujoco.MjSpec) -> Any:
    torso = _add_part(spec.worldbody, "torso", (0, 0, 1.25), (0.06, 0.25))
    torso.add_light(name="light", mode=_FOLLOWS, pos=(0, 0, 2))
    # Turned by 60 degrees about x, and looking forwards and a little down. (MjSpec takes no angles here.)
    half = math.radians(60) / 2
    torso.add_camera(name="side", mode=_FOLLOWS, pos=(0, -2.25, 1), quat=(math.cos(half), math.sin(half), 0, 0))
    torso.add_camera(name="back", mode=_FOLLOWS, pos=(-2, 0, 0.5), quat=_orientation((0, -1, 0), (1, 0, 3)))
    for name, kind, axis in (
        ("rootz", mujoco.mjtJoint.mjJNT_SLIDE, (0, 0, 1)),
        ("rootx", mujoco.mjtJoint.mjJNT_SLIDE, (1, 0, 0)),
        ("rooty", mujoco.mjtJoint.mjJNT_HINGE, (0, 1, 0)),
    ):
        torso.add_joint(name=name, type=kind, axis=axis, solimp_limit=_LIMIT_IMPEDANCE)
    return torso


def _add_leg(spec: mujoco.MjSpec, torso: Any, side: str, y: float) -> None:
    thigh = _add_part(torso, f"{side}_thigh", (0, y, -0.25), (0.05, 0.225), geom_pos=(0, 0, -0.225))
    _add_joint(spec, thigh, f"{side}_hip", (-20, 100), gear=100)
    leg = _add_part(thigh, f"{side}_leg", (0, 0, -0.7), (0.04, 0.25))
    _add_joint(spec, leg, f"{side}_knee", (-150, 0), gear=50, pos=(0, 0, 0.25))
    foot = _add_part(leg, f"{side}_foot", (0.06, 0, -0.25), (0.04, 0.1), geom_axis=(1, 0, 0))
    _add_joint(spec, foot, f"{side}_ankle", (-45, 45), gear=20, pos=(-0.06, 0, 0))


def _add_arm(spec: mujoco.MjSpec, torso: Any, side: str, y: float) -> None:
    arm = _add_part(torso, f"{side}_arm", (0, y, 0.2), (0.04, 0.135), geom_pos=(0, 0, -0.135))
    _add_joint(spec, arm, f"{side}_shoulder", (-20, 100), gear=100)
    forearm = _add_part(arm, f"{side}_forearm", (0, 0, -0.45), (0.035, 0.15))
    _add_joint(spec, forearm, f"{side}_elbow", (0, 150), gear=50, pos=(0, 0, 0.15))
    _add_part(forearm, f"{side}_hand", (0, 0, -0.15), (0.05,))


def _add_part(
    parent: Any,
    name: str,
    pos: Vector,
    size: Sequence[float],
    geom_pos: Vector = (0, 0, 0),
    geom_axis: Vector = (0, 0, 1),
) -> Any:
    """A body with one geom that touches the floor alone: a capsule of (radius, half length), a sphere of (radius,)."""
    sphere = len(size) == 1
    body = parent.add_body(name=name, pos=pos)
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_SPHERE if sphere else mujoco.mjtGeom.mjGEOM_CAPSULE,
        size=(*size, *[0] * (3 - len(size))),
        pos=geom_pos,
        quat=_turn_z_to(geom_axis),
        friction=_FRICTION,
        contype=1,
        conaffinity=0,
        material="self",
    )
    return body


def _add_joint(
    spec: mujoco.MjSpec,
    body: Any,
    name: str,
    range_: tuple[float, float],
    gear: float,
    pos: Vector = (0, 0, 0),
) -> None:
    """A hinge with its motor."""
    body.add_joint(
        name=name,
        type=mujoco.mjtJoint.mjJNT_HINGE,
        axis=(0, -1, 0),
        pos=pos,
        range=range_,
        limited=True,
        damping=0.1,
        armature=0.01,
        solimp_limit=_LIMIT_IMPEDANCE,
    )
    spec.add_actuator(
        name=name,
        target=name,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        gear=(gear, 0, 0, 0, 0, 0),
        ctrlrange=(-1, 1),
        ctrllimited=True,
    )


def _turn_z_to(axis: Vector) -> np.ndarray:
    quaternion = np.empty(4)
    mujoco.mju_quatZ2Vec(quaternion, np.array(axis, float))
    return quaternion


def _orientation(x: Vector, y: Vector) -> np.ndarray:
    """Quaternion of a frame with these axes, neither of unit length nor quite at right angles."""
    first = np.array(x) / np.linalg.norm(x)
    second = np.array(y) - first * np.dot(first, y)
    second /= np.linalg.norm(second)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([first, second, np.cross(first, second)], axis=1).ravel())
    return quaternion


class StickmanPhysics(poses.BipedPhysics):
    """Answers about the stickman."""

    def hand_speed(self) -> float:
        """Speed of the faster hand along x, in either direction."""
        return max(abs(self.forward_speed(f"{side}_hand")) for side in ("left", "right"))


def load_physics(task: str) -> StickmanPhysics:
    """The stickman; all tasks share its model."""
    return StickmanPhysics.from_model(MjModel(build_stickman()))


def start(physics: StickmanPhysics, random: np.random.Generator) -> None:
    """Limited joints uniform in their ranges, the torso's pitch uniform in +-180 degrees, the rest zero."""
    randomizers.randomize_limited_and_rotational_joints(physics, random)


def observe(physics: StickmanPhysics) -> np.ndarray:
    """(44,) as the walker's: orientations, height of the torso, velocities."""
    return flat(physics.orientations(), physics.height("torso"), physics.velocity())


def hands_up(physics: StickmanPhysics) -> float:
    """Standing with both hands above the head."""
    hands = poses.at_least(physics.mean_height("hand"), HANDS_UP_HEIGHT, HANDS_UP_HEIGHT / 2)
    return poses.stand(physics, STAND_HEIGHT) * hands


def boxing(physics: StickmanPhysics) -> float:
    """Standing and moving a hand fast."""
    return poses.stand(physics, STAND_HEIGHT) * faster_than(physics.hand_speed(), PUNCH_SPEED, PUNCH_SPEED / 2)


REWARDS = {
    **{f"stickman_{name}": reward for name, reward in poses.shared_rewards(STAND_HEIGHT).items()},
    # Moving at speed 0 or faster, with a margin of 0: who drifts backwards gets a sixth.
    "stickman_stand": lambda physics: poses.move(physics, STAND_HEIGHT, 0.0),
    "stickman_hands_up": hands_up,
    "stickman_boxing": boxing,
}

DOMAIN = Domain(
    name="stickman",
    control_timestep=CONTROL_TIMESTEP,
    control_steps=CONTROL_STEPS,
    camera=CAMERA,
    tracked_body="torso",
    load=load_physics,
    start=start,
    observe=observe,
    rewards=REWARDS,
)
