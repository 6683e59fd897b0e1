"""Environments that are not ours, and data sets of images with no environment at all, through every verb."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from genrl.behavior.policy import Policy
from genrl.data.store import Episode, Store, StoreSpec, StoreWriter
from genrl.evaluation.rollouts import ConstantPolicy, RandomPolicy, rollout
from genrl.infra.errors import UserError
from genrl.infra.media import read_video
from genrl.presets import PRESETS
from genrl.run.collect import CollectConfig, collect
from genrl.run.embed import EmbedConfig, embed
from genrl.run.evaluate import EvaluateConfig, evaluate, reference_agents
from genrl.run.imagine import ImagineConfig, imagine
from genrl.run.learn import learn
from genrl.run.practice import practice
from genrl.run.pretrain import pretrain
from tests.evaluation.tiny import SPEC, saved_policy, tiny_policy
from tests.run.tiny import learn_config, pretrain_config
from tests.vlm.tiny import tiny_vlm

DIAL, SWITCH = "tests.envs.own_env:Dial-v0", "tests.envs.own_env:Switch-v0"
DIAL_SPEC = dataclasses.replace(
    SPEC, domain=DIAL, look="own", camera="default", action_dim=2, action_repeat=1, control_timestep=0.1,
    action_low=(-2.0, 0.0), action_high=(2.0, 10.0),
)  # fmt: skip
SWITCH_SPEC = dataclasses.replace(DIAL_SPEC, domain=SWITCH, action_dim=3, discrete=True)


def test_a_store_of_another_environment_holds_its_frames_its_bounds_and_actions_within_one(tmp_path: Path) -> None:
    def call(steps: int) -> None:
        collect(CollectConfig(tmp_path / "dial", env=DIAL, action_repeat=2, steps=steps, camera="back"))

    call(12)
    store = Store.open(tmp_path / "dial")
    assert store.spec == StoreSpec(DIAL, 2, "own", "back", 2, 0.1, action_low=(-2.0, 0.0), action_high=(2.0, 10.0))
    # Nine of its steps are five env steps, the last of them half as long.
    assert store.episodes.length.tolist() == [6, 6, 3] and store.sources == ["random"]
    episode = store.episode(0)
    assert (np.abs(episode.action) <= 1).all() and (episode.action[0] == 0).all() and episode.reward[0] == 0
    np.testing.assert_array_equal(episode.is_terminal, [False] * 5 + [True])
    native = [-2, 0] + (episode.action[1:] + 1) / 2 * [4, 10]
    np.testing.assert_allclose(episode.reward[1:], (native @ [1, 100]) * [2, 2, 2, 2, 1], rtol=1e-5)
    assert not store.episode(2).is_terminal.any(), "cut off by --steps"

    before = store.read("frames", 0, 15)
    call(20)
    longer = Store.open(tmp_path / "dial")
    assert longer.episodes.length.tolist() == [6, 6, 3, 6, 4]
    np.testing.assert_array_equal(longer.read("frames", 0, 15), before)
    collect(CollectConfig(tmp_path / "again", env=DIAL, action_repeat=2, steps=20, camera="back"))
    for index in (0, 1, 3):
        one, other = longer.episode(index), Store.open(tmp_path / "again").episode(index)
        np.testing.assert_array_equal(one.action[:4], other.action[:4])
        np.testing.assert_array_equal(one.frames[:3], other.frames[:3])
    with pytest.raises(UserError, match="--seed was 0, now 1"):
        collect(CollectConfig(tmp_path / "dial", env=DIAL, action_repeat=2, steps=20, camera="back", seed=1))


def test_a_finished_store_that_was_deleted_is_collected_again(tmp_path: Path) -> None:
    config = CollectConfig(tmp_path / "dial", env=DIAL, steps=12)
    collect(config)
    before = Store.open(tmp_path / "dial").read("frames", 0, 12)
    shutil.rmtree(tmp_path / "dial")
    collect(config)
    np.testing.assert_array_equal(Store.open(tmp_path / "dial").read("frames", 0, 12), before)


@pytest.mark.parametrize(("name", "said"), [("Bare", "cannot draw itself: brush is not"), ("Sketch", "draws float64")])
def test_an_environment_that_cannot_draw_is_refused_before_anything_is_written(
    name: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        collect(CollectConfig(tmp_path / "store", env=f"tests.envs.own_env:{name}-v0"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"env": "walker_run"}, "--env walker_run is no Gymnasium id"),
        ({"env": DIAL, "agent": "exploration"}, "--agent exploration learns from our simulator's state"),
        ({"env": DIAL, "task": "walker_run"}, "--task and --pool are options of the suite's bodies"),
        ({"env": DIAL, "render_size": 0}, "--render-size must be at least 1"),
        ({"camera": "front"}, "--camera and --render-size are options of --env"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        CollectConfig(tmp_path / "new", **options)


def test_returns_in_another_environment_are_those_of_actions_in_its_units() -> None:
    for workers in (1, 2):
        result = rollout(ConstantPolicy(np.float32([1.5, 4.0])), DIAL, 2, look="own", action_repeat=2, workers=workers)
        assert result.returns.tolist() == [9 * 401.5] * 2 and result.lengths.tolist() == [5, 5]
        assert result.frames.shape == (6, 64, 64, 3) and result.states.shape == (6, 0)


def test_references_keep_to_the_units_of_the_environment() -> None:
    spec = dataclasses.replace(DIAL_SPEC, action_low=(-2.0, 3.0))
    nothing, random = reference_agents(spec).values()
    np.testing.assert_array_equal(nothing.act(np.zeros((64, 64, 3), np.uint8)), [0, 3])
    drawn = random.act(np.zeros((1000, 1, 1, 3), np.uint8))
    np.testing.assert_allclose(drawn.min(0), [-2, 3], atol=0.05)
    np.testing.assert_allclose(drawn.max(0), [2, 10], atol=0.05)
    assert list(reference_agents(SWITCH_SPEC)) == ["random"]
    choices = RandomPolicy(3, discrete=True).act(np.zeros((3000, 1, 1, 3), np.uint8))
    assert (choices.sum(1) == 1).all() and (abs(choices.mean(0) - 1 / 3) < 0.05).all()


def test_a_policy_is_evaluated_in_the_environment_that_it_was_made_for(tmp_path: Path) -> None:
    directory = saved_policy(tmp_path / "policy", DIAL_SPEC)
    result = evaluate(EvaluateConfig(directory, episodes=2, references=True, workers=1, out=tmp_path / "out"))
    assert result.task == DIAL and result.score is None
    assert -2 * 9 < result.mean_return < 9 * 1002, "ten times the second action is at most 1000"
    numbers = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert numbers["lengths"] == [9, 9] and numbers["summaries"]["nothing"]["mean"] == 0
    video = read_video(tmp_path / "out" / "episode.mp4")
    assert video.shape == (10, 256, 256, 3) and abs(int(video[9].mean()) - int(video[0].mean()) - 90) < 4
    assert evaluate(EvaluateConfig(directory, env=DIAL, episodes=2, references=True, out=tmp_path / "out")) == result


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({}, {"env": SWITCH}, "the policy was made for .*Dial-v0, and .*Switch-v0 is another environment"),
        ({}, {"task": "walker_run"}, "the policy was made for .*Dial-v0, and walker_run is another environment"),
        ({}, {"task": "walker_run", "env": DIAL}, "give either --task or --env"),
        ({}, {"env": "Dial"}, "--env Dial is no Gymnasium id"),
        ({}, {"episode_steps": 0}, "--episode-steps must be at least 1"),
        ({"domain": "walker"}, {"task": "walker_run", "episode_steps": 5}, "walker_run has its own time limit"),
        ({"domain": SWITCH}, {}, "has discrete True, but the policy was made for False"),
        ({"action_dim": 3}, {}, "has action dim 2, but the policy was made for 3"),
        ({"action_high": (1.0, 1.0)}, {}, r"has action high \(2.0, 10.0\), but the policy was made for \(1.0, 1.0\)"),
        ({"control_timestep": 0.5}, {}, "has control timestep 0.1, but the policy was made for 0.5"),
        ({"look": "fast"}, {}, "look 'fast' are not drawn by an environment itself"),
        ({"camera": "no"}, {"env": "CartPole-v1"}, "CartPole-v1 is another environment"),
        ({"domain": "CartPole-v1", "camera": "no"}, {}, "CartPole-v1 cannot be made with camera_name='no'"),
        ({"domain": "robot"}, {}, "--task is missing: the policy was made for robot"),
        ({"domain": "robot"}, {"task": "walker_run"}, "the policy was made for robot; no task here fits"),
    ],
)
def test_an_environment_that_does_not_fit_the_policy_is_refused(
    change: dict, options: dict, said: str, tmp_path: Path
) -> None:
    directory = saved_policy(tmp_path / "policy", dataclasses.replace(DIAL_SPEC, **change))
    with pytest.raises(UserError, match=said):
        evaluate(EvaluateConfig(directory, workers=1, **options))


def test_a_policy_of_choices_makes_one(tmp_path: Path) -> None:
    policy = tiny_policy(SWITCH_SPEC)
    result = rollout(policy, SWITCH, 2, look="own", action_repeat=1, workers=1)
    assert ((result.returns >= 9 * 5) & (result.returns <= 9 * 7)).all()


def choices_in_images(directory: Path) -> Path:
    """A store of a recorded game: images and one-hot actions, no environment, no state, no bounds."""
    spec = StoreSpec("block-game", 3, "game", "eyes", 1, 0.05, discrete=True)
    random = np.random.default_rng(0)
    with StoreWriter.open(directory, spec) as writer:
        for _ in range(4):
            action = np.eye(3, dtype=np.float32)[random.integers(3, size=20)]
            action[0] = 0
            frames = random.integers(256, size=(20, 64, 64, 3), dtype=np.uint8)
            writer.add(Episode(frames, action, np.zeros(20, np.float32), np.zeros(20, bool)), "replay")
    return directory


@pytest.mark.parametrize("source", [DIAL, SWITCH, "images"])
def test_from_data_to_a_policy(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vlm, store = tmp_path / "vlm", tmp_path / "store"
    tiny_vlm().save(vlm)
    if source == "images":
        choices_in_images(store)
    else:
        collect(CollectConfig(store, env=source, action_repeat=1, steps=36))
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    model = pretrain(pretrain_config(store, vlm, tmp_path / "pretrain"))
    (preview,) = imagine(ImagineConfig(str(model), str(vlm), ("up",), steps=8, out=tmp_path / "a.mp4", device="cpu"))
    assert preview.frames.shape == (8, 64, 64, 3)
    (result,) = learn(learn_config(model, vlm, tmp_path / "learn"))
    discrete = source != DIAL
    assert ("the actor learns by REINFORCE" in capsys.readouterr().err) == discrete
    policy = Policy.load(result.policy)
    assert policy.spec.discrete == discrete and policy.spec.domain == (source if source != "images" else "block-game")
    action = policy.act(np.zeros((64, 64, 3), np.uint8))
    assert sorted(action.tolist()) == [0, 0, 1] if discrete else (action >= [-2, 0]).all()
    if source != "images":
        evaluation = evaluate(EvaluateConfig(tmp_path / "learn", episodes=1, workers=1))
        assert evaluation.task == source
        assert (tmp_path / "learn" / f"evaluation-{source.replace(':', '-')}" / "evaluation.json").is_file()
    else:
        with pytest.raises(UserError, match="--task is missing: the policy was made for block-game"):
            evaluate(EvaluateConfig(tmp_path / "learn"))


def test_practice_elsewhere_trains_the_general_policy_alone(tmp_path: Path) -> None:
    vlm, store = tmp_path / "vlm", choices_in_images(tmp_path / "store")
    tiny_vlm().save(vlm)
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    model = pretrain(pretrain_config(store, vlm, tmp_path / "pretrain"))
    config = dataclasses.replace(
        PRESETS["practice"]["debug"], model=str(model), vlm=str(vlm), data=(store,), device="cpu", out=tmp_path / "out"
    )
    with pytest.raises(UserError, match="acts in the suite's environments alone.*made for block-game; --rounds 0"):
        practice(config)
    practised = practice(dataclasses.replace(config, rounds=0))
    (result,) = learn(dataclasses.replace(learn_config(practised, vlm, tmp_path / "learn"), updates=0, warm_start=True))
    assert sorted(Policy.load(result.policy).act(np.zeros((64, 64, 3), np.uint8)).tolist()) == [0, 0, 1]
