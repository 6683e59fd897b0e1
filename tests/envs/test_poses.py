from __future__ import annotations

import math

import numpy as np
import pytest

from genrl.envs import poses, stickman

LIMBS = ("thigh", "leg", "foot")


class Statue:
    """A body whose answers are given: heights, uprightness, x positions by name; the same for both sides by default."""

    def __init__(
        self, speed: float = 0.0, spin: float = 0.0, up: dict | None = None, x: dict | None = None, **z: float
    ):
        self._z, self._up, self._x = z, up or {}, x or {}
        self.forward_speed = lambda: speed
        self.spin = lambda: spin

    def _find(self, values: dict, name: str) -> float:
        return values.get(name, values.get(name.split("_")[-1], 0.0))

    def height(self, body: str) -> float:
        return self._find(self._z, body)

    def uprightness(self, body: str = "torso") -> float:
        return self._find(self._up, body)

    def forward_position(self, body: str) -> float:
        return self._find(self._x, body)

    heights = poses.BipedPhysics.heights
    mean_height = poses.BipedPhysics.mean_height


UPRIGHT = {"torso": 1.0}


def test_standing_at_full_height_is_one_and_at_half_margin_the_gaussian() -> None:
    assert poses.stand(Statue(torso=1.3, up=UPRIGHT), 1.2) == 1.0
    # 0.6 below is the margin, where the Gaussian is 0.1; the torso is horizontal.
    assert poses.stand(Statue(torso=0.6), 1.2) == pytest.approx((3 * 0.1 + 0.5) / 4)


def test_walking_pays_six_times_standing_and_running_needs_eight_metres_a_second() -> None:
    def statue(speed: float) -> Statue:
        return Statue(speed=speed, torso=1.3, up=UPRIGHT)

    assert poses.move(statue(0.0), 1.2, 1.0) == pytest.approx(1 / 6)
    assert poses.move(statue(0.5), 1.2, 1.0) == pytest.approx((5 * 0.5 + 1) / 6)
    assert poses.move(statue(1.0), 1.2, 1.0) == 1.0
    assert poses.move(statue(6.0), 1.2, 8.0) == pytest.approx((5 * 0.75 + 1) / 6)
    assert poses.move_backwards(statue(-8.0), 8.0) == 1.0
    assert poses.move_backwards(statue(8.0), 8.0) == pytest.approx(1 / 6)


def test_lying_flat_is_one_and_each_part_counts_a_seventh() -> None:
    assert poses.lying_down(Statue()) == 1.0
    assert poses.lying_down(Statue(torso=5.0)) == pytest.approx(4 / 7)
    assert poses.lying_down(Statue(foot=5.0)) == pytest.approx(6 / 7)
    assert poses.lying_down(Statue(up={"torso": -1.0})) == pytest.approx(6 / 7)


def test_one_foot_wants_exactly_one_foot_up() -> None:
    assert poses.one_foot(Statue(torso=1.0, left_foot=0.6, right_foot=0.05)) == 1.0
    assert poses.one_foot(Statue(torso=1.0, left_foot=0.05, right_foot=0.6)) == 1.0
    assert poses.one_foot(Statue(torso=1.0, foot=0.05)) < 0.02


def test_on_a_tie_the_left_leg_counts_in_a_lunge() -> None:
    lunge = Statue(torso=0.8, leg=0.25, up={"torso": 1.0, "right_thigh": 1.0, "right_leg": 1.0})
    low = 0.1 ** ((0.15 / 0.15) ** 2)
    assert poses.lunge_pose(lunge) == pytest.approx((low + 1 + 1 + 1) / 4)


def test_kneeling_is_spoilt_by_feet_away_from_the_thighs() -> None:
    assert poses.sit_knees(Statue(torso=0.6, up=UPRIGHT)) == 1.0
    apart = Statue(torso=0.6, up=UPRIGHT, x={"left_foot": 1.1, "right_foot": -0.05})
    assert poses.sit_knees(apart) == pytest.approx(math.exp(-0.5))


def test_flips_want_feet_up_and_spin_in_their_direction() -> None:
    def tumble(spin: float) -> Statue:
        return Statue(spin=spin, foot=1.2, thigh=1.1)

    assert poses.headstand(tumble(0)) == 1.0
    assert poses.flip(tumble(16)) == 1.0 and poses.backflip(tumble(16)) == pytest.approx(1 / 6)
    assert poses.backflip(tumble(-16)) == 1.0 and poses.flipping(tumble(-16)) == 1.0
    assert poses.flip(tumble(8)) == pytest.approx((5 * 0.5 + 1) / 6)
    assert poses.urlb_flip(Statue(spin=2.5, torso=1.3, up=UPRIGHT), 1.2) == pytest.approx((5 * 0.5 + 1) / 6)


def test_an_arabesque_has_the_raised_foot_behind() -> None:
    def statue(x: float) -> Statue:
        return Statue(torso=1.0, left_foot=1.0, right_foot=0.0, x={"left_foot": x})

    assert poses.arabesque(statue(-0.5)) == 1.0
    assert poses.arabesque(statue(0.5)) == pytest.approx(0.1)


def test_legs_up_and_high_kick_by_hand() -> None:
    assert poses.legs_up(Statue(foot=0.4)) == 1.0
    assert poses.legs_up(Statue(foot=0.175)) == pytest.approx(0.1)
    assert poses.high_kick(Statue(torso=1.0, left_foot=1.2, right_foot=0.0), 1.2) == 1.0
    assert poses.high_kick(Statue(torso=1.0, left_foot=0.6, right_foot=0.0), 1.2) == pytest.approx((0.3 + 1) / 4)


def test_a_stickman_that_drifts_backwards_gets_a_sixth() -> None:
    stand = stickman.REWARDS["stickman_stand"]
    assert stand(Statue(speed=0.0, torso=1.2, up=UPRIGHT)) == 1.0
    assert stand(Statue(speed=-1e-6, torso=1.2, up=UPRIGHT)) == pytest.approx(1 / 6)


def test_hands_up_and_boxing_pay_for_hands_while_standing() -> None:
    assert stickman.hands_up(Statue(torso=1.15, hand=1.8, up=UPRIGHT)) == 1.0
    assert stickman.hands_up(Statue(torso=1.15, left_hand=1.75, right_hand=0.0, up=UPRIGHT)) == pytest.approx(0.1)
    for speed, reward in ((5.0, 1.0), (2.5, 0.5), (0.0, 0.0)):
        puncher = Statue(torso=1.15, up=UPRIGHT)
        puncher.hand_speed = lambda speed=speed: speed
        assert stickman.boxing(puncher) == pytest.approx(reward)


def test_answers_of_the_physics_agree_with_mujoco_named_access() -> None:
    from genrl.envs.walker import load_physics

    physics = load_physics("walker_walk")
    with physics.reset_context():
        physics.data.qpos[:] = [0.1, 0.2, 0.3, 0.4, -0.5, 0.1, 0.2, -0.7, -0.1]
        physics.data.qvel[:] = np.arange(9) / 9
    assert physics.height("left_foot") == physics.named.data.xpos["left_foot", "z"]
    assert physics.forward_position("right_leg") == physics.named.data.xpos["right_leg", "x"]
    assert physics.uprightness() == physics.named.data.xmat["torso", "zz"]
    assert physics.forward_speed() == physics.named.data.sensordata["torso_subtreelinvel"][0]
    momentum = physics.named.data.subtree_angmom["torso"]
    assert physics.spin() == momentum[1] != 0
