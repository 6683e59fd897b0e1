"""Kinematics, rules and puppets."""

from __future__ import annotations

import numpy as np
import pytest

from genrl.infra.errors import UserError
from genrl.vlm.behaviours import CONCEPTS, RETRIEVAL_CLASSES, RULES, label_clips
from genrl.vlm.figure import get_figure
from genrl.vlm.motion import FRAME_SECONDS, describe_motion
from genrl.vlm.puppets import PUPPETS, puppet_clip

WALKER = get_figure("walker")


def held(height: float = 0.0, lean: float = 0.0, speed: float = 0.0) -> np.ndarray:
    """(1, 8, 9) positions of a walker with straight joints."""
    qpos = np.zeros((1, 8, 9))
    qpos[..., 0], qpos[..., 2] = height, np.deg2rad(lean)
    qpos[..., 1] = speed * FRAME_SECONDS * np.arange(8)
    return qpos


def shown(qpos: np.ndarray) -> set[str]:
    labels = label_clips(describe_motion(WALKER, qpos))[0]
    return {concept for concept, label in zip(CONCEPTS, labels, strict=True) if label == 1}


def test_the_figure_has_every_part_where_the_simulator_has_it() -> None:
    import genrl.envs  # noqa: F401 - chooses the OpenGL system before a simulator is loaded

    suite = pytest.importorskip("dm_control.suite")
    physics = suite.load("walker", "stand").physics
    rng = np.random.default_rng(0)
    for _ in range(10):
        qpos = rng.uniform(-1.5, 1.5, 9)
        with physics.reset_context():
            physics.data.qpos[:] = qpos
        points = WALKER.points(qpos)
        for side in ("left", "right"):
            foot = physics.named.data.geom_xpos[f"{side}_foot", ["x", "z"]]
            assert np.allclose(0.5 * (points[f"{side}_heel"] + points[f"{side}_toe"]), foot, atol=1e-9)
            leg = physics.named.data.geom_xpos[f"{side}_leg", ["x", "z"]]
            assert np.allclose(0.5 * (points[f"{side}_knee"] + points[f"{side}_ankle"]), leg, atol=1e-9)
        torso = physics.named.data.geom_xpos["torso", ["x", "z"]]
        assert np.allclose(0.5 * (points["head"] + points["hip"]), torso, atol=1e-9)


def test_a_straight_walker_stands_on_the_floor_at_height_zero() -> None:
    # 1.3 m of torso height less 0.3 to the hip, 0.45 thigh, 0.5 leg and 0.05 of the foot's radius.
    assert WALKER.lowest(np.zeros(9)) == pytest.approx(0.0)
    assert describe_motion(WALKER, held())["chest"] == pytest.approx(1.3)


def test_standing_is_standing_and_nothing_that_moves() -> None:
    labels = shown(held())
    assert {"stand", "upright", "still"} <= labels
    assert not labels & {"walk_forward", "lie", "low", "airborne", "squat", "kneel"}


def test_a_body_on_its_back_lies_and_one_turned_round_lies_on_its_front() -> None:
    assert {"lie_back", "lie", "low"} <= shown(held(height=0.08 - 1.3, lean=-90))
    assert {"lie_front", "lie", "low"} <= shown(held(height=0.08 - 1.3, lean=90))
    assert "lie_front" in shown(held(height=0.08 - 1.3, lean=90 - 720))


def test_a_body_half_a_turn_round_is_on_its_head() -> None:
    assert "inverted" in shown(held(height=0.37 - 1.3, lean=180))


def test_a_body_that_slides_moves_forward_without_walking() -> None:
    labels = shown(held(speed=1.0))
    assert "forward" in labels and not labels & {"walk_forward", "stand", "backward"}


def test_spin_and_rise_are_what_they_were_made() -> None:
    qpos = held()
    qpos[..., 2] = np.deg2rad(np.linspace(0, -140, 8))
    qpos[..., 0] = np.linspace(0, 0.7, 8)
    measured = describe_motion(WALKER, qpos)
    assert measured["spin"] == pytest.approx(-140 / 0.35)
    assert measured["rise"] == pytest.approx(0.7)


def test_a_clip_near_a_limit_is_undecided() -> None:
    low, _ = RULES["forward"]["speed"]
    column = CONCEPTS.index("forward")
    labels = [label_clips(describe_motion(WALKER, held(speed=low + d)))[0, column] for d in (0.01, -0.1, -0.4)]
    assert labels == [1, -1, 0]


@pytest.mark.parametrize("behaviour", RETRIEVAL_CLASSES)
def test_puppets_mostly_show_what_they_intend(behaviour) -> None:
    rng = np.random.default_rng(0)
    clips = np.stack([puppet_clip(WALKER, behaviour, 8, rng) for _ in range(40)])
    labels = label_clips(describe_motion(WALKER, clips))
    assert (labels[:, CONCEPTS.index(behaviour)] == 1).mean() > 0.5


@pytest.mark.parametrize("behaviour", PUPPETS)
def test_puppets_keep_their_joints_in_range_and_out_of_the_floor(behaviour) -> None:
    rng = np.random.default_rng(1)
    clips = np.stack([puppet_clip(WALKER, behaviour, 8, rng) for _ in range(20)])
    assert np.isfinite(clips).all()
    assert WALKER.lowest(clips).min() > -1e-9
    for joint, (low, high) in WALKER.joint_ranges.items():
        assert clips[..., joint].min() >= low and clips[..., joint].max() <= high


def test_a_body_without_a_figure_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="octopus"):
        get_figure("octopus")
