"""Poses and motions of the two-legged bodies, written once for walker and stickman.

A reward is a product of tolerances over answers of the physics. The bodies differ in one number, the height H at which
the torso stands. Heights are in metres, speeds in m/s, angular momenta in kg m^2/s.

Source: the released environments of GenRL (arXiv 2406.18043), as formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from dm_control import mujoco
from dm_control.utils.rewards import tolerance

WALK_SPEED = 1.0
RUN_SPEED = 8.0
FLIP_MOMENTUM = 16.0
URLB_FLIP_MOMENTUM = 5.0

_UP = 8
"""Place of `zz` in a flattened 3x3 rotation matrix."""


class BipedPhysics(mujoco.Physics):
    """Answers about a body with a torso and two legs that moves in the x-z plane."""

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

    def heights(self, limb: str) -> tuple[float, float]:
        """Heights of the left and the right limb, such as `foot`."""
        return self.height(f"left_{limb}"), self.height(f"right_{limb}")

    def mean_height(self, limb: str) -> float:
        """Mean height of the two limbs."""
        return sum(self.heights(limb)) / 2

    def uprightness(self, body: str = "torso") -> float:
        """z of the body's own z axis: 1 upright, 0 horizontal, -1 upside down."""
        return float(self.data.xmat[self.body(body), _UP])

    def forward_speed(self) -> float:
        """x of the velocity of the whole body's centre of mass."""
        return float(self.data.subtree_linvel[self.body("torso"), 0])

    def spin(self) -> float:
        """y of the whole body's angular momentum about its centre of mass: positive when tumbling forwards."""
        return float(self.data.subtree_angmom[self.body("torso"), 1])


Reward = Callable[[BipedPhysics], float]


def at_least(x: float, bound: float, margin: float) -> float:
    """1 from `bound` upwards, falling off below it as a Gaussian that is 0.1 at `margin`."""
    return float(tolerance(x, bounds=(bound, math.inf), margin=margin))


def at_most(x: float, bound: float, margin: float) -> float:
    """1 up to `bound`, falling off above it as a Gaussian that is 0.1 at `margin`."""
    return float(tolerance(x, bounds=(-math.inf, bound), margin=margin))


def faster_than(x: float, bound: float, margin: float, value_at_margin: float = 0.5) -> float:
    """1 from `bound` upwards, falling linearly to `value_at_margin` at `margin` below, and 0 beyond."""
    return float(
        tolerance(x, bounds=(bound, math.inf), margin=margin, sigmoid="linear", value_at_margin=value_at_margin)
    )


def upright_torso(physics: BipedPhysics, height: float, margin: float) -> float:
    """A torso that is high, and to a quarter one that points up."""
    return (3 * at_least(physics.height("torso"), height, margin) + (1 + physics.uprightness()) / 2) / 4


def _with_motion(pose: float, motion: float) -> float:
    return pose * (5 * motion + 1) / 6


def _low(height: float) -> float:
    return at_most(height, 0.1, 0.15)


def stand(physics: BipedPhysics, height: float) -> float:
    """Standing with the torso at `height`."""
    return upright_torso(physics, height, height / 2)


def move(physics: BipedPhysics, height: float, speed: float) -> float:
    """Standing and moving forwards at `speed` or faster."""
    return _with_motion(stand(physics, height), faster_than(physics.forward_speed(), speed, speed / 2))


def move_backwards(physics: BipedPhysics, speed: float) -> float:
    """Standing (a little lower than for `stand`) and moving backwards at `speed` or faster."""
    return _with_motion(upright_torso(physics, 1.0, 0.5), faster_than(-physics.forward_speed(), speed, speed / 2))


def one_foot(physics: BipedPhysics) -> float:
    """Standing on one foot, the other half a metre up."""
    low, high = sorted(physics.heights("foot"))
    return at_least(physics.height("torso"), 1.0, 0.5) * at_least(high, 0.5, 0.25) * _low(low)


def high_kick(physics: BipedPhysics, height: float) -> float:
    """Standing on one foot, the other as high as the torso."""
    low, high = sorted(physics.heights("foot"))
    return at_least(physics.height("torso"), 1.0, 0.5) * (3 * at_least(high, height, height / 2) + _low(low)) / 4


def lying_down(physics: BipedPhysics) -> float:
    """Everything on the floor and the torso horizontal."""
    limbs = sum(_low(physics.mean_height(limb)) for limb in ("thigh", "leg", "foot"))
    return (3 * _low(physics.height("torso")) + 1 - abs(physics.uprightness()) + limbs) / 7


def legs_up(physics: BipedPhysics) -> float:
    """The torso lying, the feet in the air."""
    lying = (3 * _low(physics.height("torso")) + 1 - abs(physics.uprightness())) / 4
    return lying * at_least(physics.mean_height("foot"), 0.35, 0.175)


def lunge_pose(physics: BipedPhysics) -> float:
    """One lower leg flat on the floor, the other thigh horizontal, the torso upright. On a tie the left leg counts."""
    left, right = physics.heights("leg")
    low_side = "left" if left <= right else "right"
    high_side = "left" if left >= right else "right"
    legs = (
        _low(min(left, right))
        + at_least(max(left, right), 0.25, 0.125)
        + (1 - abs(physics.uprightness(f"{high_side}_thigh")))
        + (1 - abs(physics.uprightness(f"{low_side}_leg")))
    )
    return upright_torso(physics, 0.75, 0.375) * legs / 4


def sit_knees(physics: BipedPhysics) -> float:
    """Sitting on the heels: lower legs and feet on the floor, feet below the thighs."""
    low_legs = (3 * at_most(physics.mean_height("leg"), 0.15, 0.225) + _low(physics.mean_height("foot"))) / 4
    astray = sum(
        max(0.1, abs(physics.forward_position(f"{side}_foot") - physics.forward_position(f"{side}_thigh"))) - 0.1
        for side in ("left", "right")
    )
    return upright_torso(physics, 0.55, 0.275) * low_legs * math.exp(-astray / 2)


def headstand(physics: BipedPhysics) -> float:
    """Feet and thighs up in the air."""
    feet = at_least(physics.mean_height("foot"), 1.1, 0.55)
    thighs = at_least(physics.mean_height("thigh"), 1.0, 0.5)
    return (3 * feet + 2 * thighs) / 5


def flip(physics: BipedPhysics) -> float:
    """Upside down and tumbling forwards."""
    return _with_motion(headstand(physics), faster_than(physics.spin(), FLIP_MOMENTUM, FLIP_MOMENTUM / 2))


def backflip(physics: BipedPhysics) -> float:
    """Upside down and tumbling backwards."""
    return _with_motion(headstand(physics), faster_than(-physics.spin(), FLIP_MOMENTUM, FLIP_MOMENTUM / 2))


def flipping(physics: BipedPhysics) -> float:
    """A flip in either direction."""
    return max(flip(physics), backflip(physics))


def urlb_flip(physics: BipedPhysics, height: float) -> float:
    """Standing height while tumbling forwards, the flip of the unsupervised RL benchmark."""
    spinning = faster_than(physics.spin(), URLB_FLIP_MOMENTUM, URLB_FLIP_MOMENTUM, value_at_margin=0.0)
    return _with_motion(stand(physics, height), spinning)


def arabesque(physics: BipedPhysics) -> float:
    """Standing on one foot, the other a metre up and behind. On a tie in height the left foot is the high one."""
    left, right = physics.heights("foot")
    high, low = ("left_foot", "right_foot") if left >= right else ("right_foot", "left_foot")
    feet = (_low(min(left, right)) + 2 * at_least(max(left, right), 1.0, 0.5)) / 3
    behind = 0.1 if physics.forward_position(high) > physics.forward_position(low) else 1.0
    return at_least(physics.height("torso"), 1.0, 0.5) * feet * behind


def shared_rewards(height: float) -> dict[str, Reward]:
    """Rewards of all poses that walker and stickman share, by name, for a body whose torso stands at `height`."""
    return {
        "one_foot": one_foot,
        "high_kick": lambda physics: high_kick(physics, height),
        "lying_down": lying_down,
        "legs_up": legs_up,
        "lunge_pose": lunge_pose,
        "sit_knees": sit_knees,
        "headstand": headstand,
        "flip": flip,
        "backflip": backflip,
        "flipping": flipping,
        "urlb_flip": lambda physics: urlb_flip(physics, height),
        "arabesque": arabesque,
        "walk": lambda physics: move(physics, height, WALK_SPEED),
        "run": lambda physics: move(physics, height, RUN_SPEED),
    }


def flat(*parts: np.ndarray | float) -> np.ndarray:
    """Observations side by side as one float32 vector."""
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)
