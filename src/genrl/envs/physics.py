"""Answers that every body gives, and the tolerances that rewards are made of.

Heights are in metres, speeds in m/s, angular momenta in kg m^2/s.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np
from dm_control.mujoco import Physics
from dm_control.utils.rewards import tolerance

_UP = 8
"""Place of `zz` in a flattened 3x3 rotation matrix."""

_STATE = int(mujoco.mjtState.mjSTATE_QPOS | mujoco.mjtState.mjSTATE_QVEL | mujoco.mjtState.mjSTATE_ACT)


class BodyPhysics(Physics):
    """Answers about a body whose root is `torso`."""

    def body(self, name: str) -> int:
        """Index of a body."""
        if "_body_ids" not in self.__dict__:  # dm_control builds physics in `_reload_from_data`, not in `__init__`
            self._body_ids = {self.model.id2name(i, "body"): i for i in range(self.model.nbody)}
        return self._body_ids[name]

    def height(self, body: str) -> float:
        """World height of the body's frame."""
        return float(self.data.xpos[self.body(body), 2])

    def forward_position(self, body: str) -> float:
        """World x of the body's frame."""
        return float(self.data.xpos[self.body(body), 0])

    def uprightness(self, body: str = "torso") -> float:
        """z of the body's own z axis: 1 upright, 0 horizontal, -1 upside down."""
        return float(self.data.xmat[self.body(body), _UP])

    def forward_speed(self, body: str = "torso") -> float:
        """x of the velocity of the centre of mass of the body and all that hangs on it; of the whole, unless named."""
        return float(self.data.subtree_linvel[self.body(body), 0])

    def spin(self) -> float:
        """y of the whole body's angular momentum about its centre of mass: positive when tumbling forwards."""
        return float(self.data.subtree_angmom[self.body("torso"), 1])


def state_size(model: mujoco.MjModel) -> int:
    """Length S of a state: positions, velocities and, where actuators have any, activations."""
    return int(mujoco.mj_stateSize(model, _STATE))


def get_state(physics: Physics) -> np.ndarray:
    """(S,) float64 positions, velocities, activations."""
    state = np.empty(state_size(physics.model.ptr))
    mujoco.mj_getState(physics.model.ptr, physics.data.ptr, state, _STATE)
    return state


def set_state(physics: Physics, state: np.ndarray) -> None:
    """Puts a simulator into an (S,) state and computes everything that follows from it."""
    mujoco.mj_setState(physics.model.ptr, physics.data.ptr, np.asarray(state, np.float64), _STATE)
    physics.forward()


def at_least(x: float, bound: float, margin: float) -> float:
    """1 from `bound` upwards, falling off below it as a Gaussian that is 0.1 at `margin`."""
    return float(tolerance(x, bounds=(bound, math.inf), margin=margin))


def at_most(x: float, bound: float, margin: float) -> float:
    """1 up to `bound`, falling off above it as a Gaussian that is 0.1 at `margin`."""
    return float(tolerance(x, bounds=(-math.inf, bound), margin=margin))


def faster_than(x: float, bound: float, margin: float, value_at_margin: float = 0.5) -> float:
    """1 from `bound` upwards; below it a straight line through `value_at_margin` at `margin` below, down to 0."""
    return float(
        tolerance(x, bounds=(bound, math.inf), margin=margin, sigmoid="linear", value_at_margin=value_at_margin)
    )


def flat(*parts: np.ndarray | float) -> np.ndarray:
    """Observations side by side as one float32 vector."""
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)
