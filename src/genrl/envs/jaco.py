"""The Jaco arm of dm_control's manipulation tasks, which reaches for a brick that lies in one of four places."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from dm_control import composer, mjcf
from dm_control.entities import props
from dm_control.manipulation import reach
from dm_control.manipulation.shared import arenas, observations, robots, workspaces
from dm_control.utils.rewards import tolerance

from genrl.envs.domain import Domain

CONTROL_TIMESTEP = 0.04
"""Seconds per control step; the simulation step is 0.002 s."""

CONTROL_STEPS = 250
"""Control steps per episode, 10 s."""

CAMERA = "front_close"

REACH_RADIUS = 0.05
"""Distance between hand and brick up to which the reward is 1, and the width of its fall beyond, metres."""

BRICKS = {
    "jaco_reach_top_left": (-0.09, 0.09),
    "jaco_reach_top_right": (0.09, 0.09),
    "jaco_reach_bottom_left": (-0.09, -0.09),
    "jaco_reach_bottom_right": (0.09, -0.09),
}
"""Task -> x, y of the brick, metres."""

BRICK_HEIGHT = 0.001
"""The brick is put down from here, metres."""

HAND_AREA = workspaces.BoundingBox(lower=(-0.1, -0.1, 0.2), upper=(0.1, 0.1, 0.4))
"""Where the hand starts, metres."""

START_ATTEMPTS = 20
"""Start poses tried until one is free of collisions."""

HAND_SITE = "jaco_arm/jaco_hand/pinchsite"
BRICK_BODY = "duplo2x4/"


class Workspace(NamedTuple):
    """Where things start, as dm_control's task reads it."""

    target_bbox: workspaces.BoundingBox
    tcp_bbox: workspaces.BoundingBox
    arm_offset: tuple[float, float, float]


class JacoPhysics(mjcf.Physics):
    """Answers about hand and brick.

    Attributes:
        scene: The task of dm_control that made the model and knows how an episode begins.
    """

    scene: reach.Reach

    def hand(self) -> np.ndarray:
        """(3,) world position of the hand's tool centre point."""
        return self.data.site_xpos[self.model.name2id(HAND_SITE, "site")]

    def brick(self) -> np.ndarray:
        """(3,) world position of the brick's frame."""
        return self.data.xpos[self.model.name2id(BRICK_BODY, "body")]


def load_physics(task: str) -> JacoPhysics:
    """The scene of dm_control's `reach_duplo_vision`, with the brick in the place of the task."""
    x, y = BRICKS.get(task, (0.0, 0.0))  # the body's own model is for drawing; its brick is where a state puts it
    place = (x, y, BRICK_HEIGHT)
    settings = observations.VISION
    brick = props.Duplo(observable_options=observations.make_options(settings, observations.FREEPROP_OBSERVABLES))
    scene = reach.Reach(
        arena=arenas.Standard(),
        arm=robots.make_arm(settings),
        hand=robots.make_hand(settings),
        prop=brick,
        obs_settings=settings,
        workspace=Workspace(workspaces.BoundingBox(place, place), HAND_AREA, robots.ARM_OFFSET),
        control_timestep=CONTROL_TIMESTEP,
    )
    brick.initialize_episode_mjcf(np.random.RandomState(0))  # writes the size of its studs, which does not vary
    physics = JacoPhysics.from_mjcf_model(scene.root_entity.mjcf_model)
    physics.scene = scene
    return physics


def start(physics: JacoPhysics, random: np.random.Generator) -> None:
    """The hand anywhere above the table, pointing down, fingers closed to any degree; the brick turned and settled."""
    legacy = np.random.RandomState(random.integers(2**32))  # dm_control asks for things that a generator has not
    for attempts_left in reversed(range(START_ATTEMPTS)):
        try:
            physics.scene.initialize_episode(physics, legacy)
        except composer.EpisodeInitializationError:
            if not attempts_left:
                raise
        else:
            return


def observe(physics: JacoPhysics) -> np.ndarray:
    """(40,) positions and velocities of joints and brick, position of the hand, way from hand to brick."""
    hand, brick = physics.hand(), physics.brick()
    parts = (physics.data.qpos, physics.data.qvel, hand, brick, brick - hand)
    return np.concatenate(parts).astype(np.float32)


def reach_reward(physics: JacoPhysics) -> float:
    """1 where the hand is at the brick."""
    distance = np.linalg.norm(physics.hand() - physics.brick())
    return float(tolerance(distance, bounds=(0, REACH_RADIUS), margin=REACH_RADIUS))


DOMAIN = Domain(
    name="jaco",
    control_timestep=CONTROL_TIMESTEP,
    control_steps=CONTROL_STEPS,
    camera=CAMERA,
    load=load_physics,
    start=start,
    observe=observe,
    rewards={task: reach_reward for task in BRICKS},
)
