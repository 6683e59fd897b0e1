"""Poses and motions of the two-legged bodies, written once for walker and stickman.

A reward is a product of tolerances over answers of the physics. The bodies differ in one number, the height H at which
the torso stands. Units are those of `genrl.envs.physics`.

Source: the released environments of GenRL (arXiv 2406.18043), as formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from genrl.envs.physics import BodyPhysics, at_least, at_most, faster_than

WALK_SPEED = 1.0
RUN_SPEED = 8.0
FLIP_MOMENTUM = 16.0
URLB_FLIP_MOMENTUM = 5.0


class BipedPhysics(BodyPhysics):
    """Answers about a body with a torso and two legs that moves in the x-z plane."""

    def heights(self, limb: str) -> tuple[float, float]:
        """Heights of the left and the right limb, such as `foot`."""
        return self.height(f"left_{limb}"), self.height(f"right_{limb}")

    def mean_height(self, limb: str) -> float:
        """Mean height of the two limbs."""
        return sum(self.heights(limb)) / 2

    def orientations(self) -> np.ndarray:
        """(2 N,) x and z of the x axis of all N bodies."""
        return self.data.xmat[1:][:, [0, 2]].ravel()


Reward = Callable[[BipedPhysics], float]


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
