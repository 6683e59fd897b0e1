"""Kinematics, rules and puppets of the cheetah and the spider."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from genrl.vlm import cheetah_figure, spider_figure
from genrl.vlm.behaviours import judge
from genrl.vlm.cheetah_puppets import CHEETAH_PUPPETS, cheetah_clip
from genrl.vlm.four_legged_motion import CHEETAH, SPIDER, describe_cheetah, describe_spider
from genrl.vlm.four_legged_rules import (
    FOUR_LEGGED_CLASSES,
    FOUR_LEGGED_MARGINS,
    FOUR_LEGGED_RULES,
    FOUR_LEGGED_UNIONS,
    SPIDER_ONLY,
)
from genrl.vlm.spider_puppets import SPIDER_PUPPETS, spider_clip

Describe = Callable[[np.ndarray], dict[str, np.ndarray]]
Clip = Callable[[str, int, np.random.Generator], np.ndarray]
BODIES: dict[str, tuple[ModuleType, Describe, Clip]] = {
    "cheetah": (cheetah_figure, describe_cheetah, cheetah_clip),
    "quadruped": (spider_figure, describe_spider, spider_clip),
}
PUPPETS = [*(("cheetah", name) for name in CHEETAH_PUPPETS), *(("quadruped", name) for name in SPIDER_PUPPETS)]
INTENTIONS = [(domain, name) for domain, name in PUPPETS if name in FOUR_LEGGED_CLASSES]
TIME = np.arange(8)


def cheetah(pitch: float | np.ndarray = 0.0, speed: float = 0.0) -> np.ndarray:
    """(1, 8, 9) positions on the floor with straight joints; pitch in degrees, nose down positive."""
    qpos = np.zeros((1, 8, 9))
    qpos[..., 0] = speed * CHEETAH.frame_seconds * TIME
    qpos[..., 2] = np.deg2rad(pitch)
    qpos[..., 1] = -cheetah_figure.lowest(qpos)
    return qpos


def spider(
    pitch: float | np.ndarray = 0.0, roll: float | np.ndarray = 0.0, yaw: float | np.ndarray = 0.0, speed: float = 0.0
) -> np.ndarray:
    """(1, 8, 23) positions on the floor with straight joints, of which at most one angle, in degrees, is not zero."""
    qpos = np.zeros((1, 8, 23))
    halves = np.deg2rad(np.stack([np.broadcast_to(angle, 8) for angle in (roll, pitch, yaw)], -1)) / 2
    qpos[..., 3] = np.cos(halves.sum(-1))
    qpos[..., 4:7] = np.sin(halves)
    qpos[..., 0] = speed * SPIDER.frame_seconds * TIME
    qpos[..., 2] = -spider_figure.lowest(qpos)
    return qpos


def shown(measured: dict[str, np.ndarray]) -> set[str]:
    return {name for name, rule in FOUR_LEGGED_RULES.items() if judge(rule, measured, FOUR_LEGGED_MARGINS)[0] == 1}


@pytest.mark.parametrize("domain", BODIES)
def test_the_lowest_spot_and_the_feet_are_where_the_simulator_has_them(domain: str) -> None:
    import genrl.envs  # noqa: F401 - chooses the OpenGL system before a simulator is loaded

    mujoco = pytest.importorskip("mujoco")
    pytest.importorskip("dm_control")
    from genrl.envs.domain import get_domain

    figure = BODIES[domain][0]
    physics = get_domain(domain).load(domain)
    model, data = physics.model.ptr, physics.data.ptr
    feet = {"cheetah": ("bfoot", "ffoot"), "quadruped": tuple(f"toe_{leg}" for leg in spider_figure.LEGS)}[domain]
    rng = np.random.default_rng(0)
    for _ in range(30):
        data.qpos[:] = rng.normal(size=model.nq)
        mujoco.mj_forward(model, data)
        gaps = [mujoco.mj_geomDistance(model, data, 0, geom, 50, None) for geom in range(1, model.ngeom)]
        assert figure.lowest(data.qpos) == pytest.approx(min(gaps), abs=1e-7)
        points = figure.points(data.qpos)
        places = np.array([data.geom(foot).xpos for foot in feet])
        if domain == "cheetah":
            mine = np.array([(points[f"{leg}_heel"] + points[f"{leg}_toe"]) / 2 for leg in ("back", "front")])
            assert np.allclose(mine, places[:, [0, 2]], atol=1e-9)
        else:
            assert np.allclose([points[f"{leg}_toe"] for leg in spider_figure.LEGS], places, atol=1e-9)


@pytest.mark.parametrize("domain", BODIES)
def test_joint_limits_are_the_simulators(domain: str) -> None:
    import genrl.envs  # noqa: F401 - as above

    pytest.importorskip("dm_control")
    from genrl.envs.domain import get_domain

    model = get_domain(domain).load(domain).model.ptr
    limits = model.jnt_range[model.jnt_limited == 1]
    if domain == "cheetah":
        mine = np.array([cheetah_figure.FIGURE.joint_ranges[joint] for joint in range(3, 9)])
    else:
        mine = np.tile(spider_figure.LEG_RANGE, (4, 1))
    assert np.allclose(mine, limits, atol=1e-4)
    # Puppets may go to the very limit, so that it must not lie beyond the simulator's.
    assert (mine[:, 0] >= limits[:, 0] - 1e-9).all() and (mine[:, 1] <= limits[:, 1] + 1e-9).all()


def test_straight_bodies_stand_at_standing_height() -> None:
    for measured in (describe_cheetah(cheetah()), describe_spider(spider())):
        assert measured["height"] == pytest.approx(1.0, abs=1e-3)
        assert measured["clearance_max"] == pytest.approx(0.0, abs=1e-9)
        assert shown(measured) == {"four_stand"}


def test_bodies_turned_over_are_on_their_backs_whichever_way_they_turned() -> None:
    assert shown(describe_cheetah(cheetah(pitch=186))) == {"four_on_back"}
    assert shown(describe_cheetah(cheetah(pitch=186 - 720))) == {"four_on_back"}
    assert shown(describe_spider(spider(roll=180))) == {"four_on_back"}
    assert shown(describe_spider(spider(pitch=180))) == {"four_on_back"}


def test_bodies_with_their_noses_up_rear_and_with_their_noses_down_stand_on_the_front() -> None:
    hind, front = cheetah(pitch=-60), cheetah(pitch=50)
    hind[..., 3], front[..., 6] = 0.9, -0.9
    for qpos in (hind, front):
        qpos[..., 1] -= cheetah_figure.lowest(qpos)
    assert shown(describe_cheetah(hind)) == shown(describe_spider(spider(pitch=-60))) == {"rear"}
    assert shown(describe_cheetah(front)) == shown(describe_spider(spider(pitch=60))) == {"front_stand"}


def test_a_body_that_slides_does_not_walk() -> None:
    for measured in (describe_cheetah(cheetah(speed=1.5)), describe_spider(spider(speed=0.75))):
        assert measured["speed"] == pytest.approx(0.75)
        assert not shown(measured)


def test_speed_is_along_the_heading_and_backward_is_negative() -> None:
    measured = describe_spider(spider(yaw=180, speed=0.5))
    assert measured["speed"] == pytest.approx(-0.5) and measured["pace"] == pytest.approx(0.5)
    assert describe_spider(spider(yaw=90, speed=0.5))["speed"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("sign", [-1, 1])
def test_rates_of_turning_are_what_they_were_made(sign: int) -> None:
    forward = sign * 300 * CHEETAH.frame_seconds * TIME + 90
    measured = describe_cheetah(cheetah(pitch=forward))
    assert measured["spin"] == pytest.approx(sign * 300) and measured["rotation"] == pytest.approx(300)
    assert ("four_flip_forward" if sign > 0 else "four_flip_backward") in shown(measured)
    angle = sign * 200 * SPIDER.frame_seconds * TIME
    measured = describe_spider(spider(pitch=angle + sign * 60))
    assert measured["spin"] == pytest.approx(sign * 200)
    assert measured["roll_rate"] == pytest.approx(0, abs=1e-6)
    assert ("four_flip_forward" if sign > 0 else "four_flip_backward") in shown(measured)
    measured = describe_spider(spider(roll=angle + sign * 60))
    assert measured["roll_rate"] == pytest.approx(200) and measured["spin_rate"] == pytest.approx(0, abs=1e-6)
    assert shown(measured) == {"four_roll"}
    measured = describe_spider(spider(yaw=angle))
    assert measured["turning"] == pytest.approx(200) and measured["roll_rate"] == pytest.approx(0, abs=1e-6)
    assert shown(measured) == {"four_turn"}


def test_both_bodies_are_measured_alike_and_rules_ask_for_nothing_else() -> None:
    names = describe_cheetah(cheetah()).keys()
    assert names == describe_spider(spider()).keys() >= FOUR_LEGGED_MARGINS.keys()
    assert all(rule.keys() <= FOUR_LEGGED_MARGINS.keys() for rule in FOUR_LEGGED_RULES.values())
    assert all(set(parts) <= set(FOUR_LEGGED_RULES) for parts in FOUR_LEGGED_UNIONS.values())
    assert {name for domain, name in INTENTIONS if domain == "quadruped"} == set(FOUR_LEGGED_CLASSES)
    assert {name for domain, name in INTENTIONS if domain == "cheetah"} == set(FOUR_LEGGED_CLASSES) - set(SPIDER_ONLY)


@pytest.mark.parametrize(("domain", "behaviour"), INTENTIONS)
def test_puppets_mostly_show_what_they_intend(domain: str, behaviour: str) -> None:
    _, describe, clip = BODIES[domain]
    rng = np.random.default_rng(0)
    measured = describe(np.stack([clip(behaviour, 8, rng) for _ in range(40)]))
    judged = {name: judge(rule, measured, FOUR_LEGGED_MARGINS) == 1 for name, rule in FOUR_LEGGED_RULES.items()}
    assert judged[behaviour].mean() > 0.6
    held = ("four_stand", "four_crouch", "four_lie", "four_on_back", "rear", "front_stand")
    assert np.sum([judged[name] for name in held], axis=0).max() <= 1


@pytest.mark.parametrize(("domain", "behaviour"), PUPPETS)
def test_puppets_keep_their_joints_in_range_and_out_of_the_floor(domain: str, behaviour: str) -> None:
    figure, _, clip = BODIES[domain]
    rng = np.random.default_rng(1)
    clips = np.stack([clip(behaviour, 8, rng) for _ in range(8)])
    assert clips.shape == (8, 8, figure.NUM_POSITIONS) and np.isfinite(clips).all()
    assert figure.lowest(clips).min() > -1e-9
    if domain == "cheetah":
        joints, limits = clips[..., 3:], np.array([figure.FIGURE.joint_ranges[joint] for joint in range(3, 9)])
    else:
        joints, limits = clips[..., 7:], np.tile(figure.LEG_RANGE, (4, 1))
    assert (joints >= limits[:, 0] - 1e-9).all() and (joints <= limits[:, 1] + 1e-9).all()


def test_the_spiders_feet_stay_parallel_to_its_torso_as_its_tendons_hold_them() -> None:
    rng = np.random.default_rng(2)
    clips = np.stack([spider_clip(behaviour, 8, rng) for behaviour in ("four_stand", "four_walk", "rear") * 10])
    legs = clips[..., 7:].reshape(*clips.shape[:2], 4, 4)
    assert np.abs(np.rad2deg(legs[..., 1:].sum(-1))).mean() < 8
