"""`genrl practice`: policy, episodes and model in turn, resuming, refusals, and what `genrl learn` makes of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genrl.behavior.policy import Policy
from genrl.behavior.shown import ShownConfig
from genrl.data.store import Store
from genrl.infra.checkpoint import load_checkpoint
from genrl.infra.errors import UserError
from genrl.infra.logging import read_metrics
from genrl.models.learner import LatentLearner
from genrl.presets import PRESETS
from genrl.run.collect import CollectConfig, collect
from genrl.run.embed import EmbedConfig, embed
from genrl.run.learn import learn
from genrl.run.practice import PracticeConfig, Practising, embed_lines, practice
from genrl.run.pretrain import pretrain
from genrl.run.prompting import load_model
from tests.run.tiny import learn_config, make_model, pretrain_config
from tests.vlm.tiny import tiny_vlm

Made = tuple[Path, Path, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A store of the walker, a VLM, a model."""
    directory = tmp_path_factory.mktemp("practice")
    store, vlm = directory / "store", directory / "vlm"
    tiny_vlm().save(vlm)
    collect(CollectConfig(store, steps=80, episode_steps=40, workers=1))
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    return pretrain(pretrain_config(store, vlm, directory / "pretrain", updates=2)), store, vlm


def practice_config(made: Made, out: Path, **changes) -> PracticeConfig:
    model, store, vlm = made
    debug: PracticeConfig = PRESETS["practice"]["debug"]
    return replace(debug, model=str(model), data=(store,), vlm=str(vlm), out=out, device="cpu", **changes)


def tensors(model: Path) -> dict[str, torch.Tensor]:
    general = {f"general.{name}": value for name, value in load_checkpoint(model / "general")[0].items()}
    return load_checkpoint(model)[0] | general


def test_rounds_move_policy_and_model_and_keep_the_episodes(made: Made, tmp_path: Path) -> None:
    model = practice(practice_config(made, tmp_path / "run"))
    before, after = load_checkpoint(made[0])[0], load_checkpoint(model)[0]
    moved = {name for name, value in after.items() if not value.equal(before[name])}
    assert any(name.startswith("world_model.rssm.dynamics") for name in moved)
    assert any(name.startswith("connector") for name in moved)
    # What the cached posteriors depend on has stayed.
    assert not any(name.startswith(("world_model.encoder", "world_model.decoder")) for name in moved)
    for turn in range(2):
        store = Store.open(tmp_path / "run" / "data" / f"round_{turn:03d}")
        assert store.num_frames == 2 * 31 and store.episodes.length.tolist() == [31, 31]
        assert not store.read("reward", 0, 62).any() and np.abs(store.read("action", 0, 62)).max() <= 1
        assert store.embedded_rows("mini") == 62 and np.isfinite(store.read("state", 0, 62)).all()
    names = [set(row) for row in read_metrics(tmp_path / "run")]
    assert sum("imagined/reward" in row for row in names) == 2 + 3 * 2
    assert sum("loss/connector_kl" in row for row in names) == 2 * 2


@pytest.mark.parametrize("stop_after", [0, 2, 3])
def test_a_stopped_run_ends_as_an_uninterrupted_one(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    whole = practice(practice_config(made, tmp_path / "whole"))
    update, calls = LatentLearner.update_latents, 0

    def stops(self, *args):
        nonlocal calls
        calls += 1
        if calls > stop_after:
            raise KeyboardInterrupt
        return update(self, *args)

    monkeypatch.setattr(LatentLearner, "update_latents", stops)
    with pytest.raises(KeyboardInterrupt):
        practice(practice_config(made, tmp_path / "parts", save_every=3))
    monkeypatch.undo()
    parts = practice(practice_config(made, tmp_path / "parts", save_every=3))
    expected = tensors(whole)
    for name, value in tensors(parts).items():
        assert value.equal(expected[name]), name


def test_without_rounds_only_the_policy_learns(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_environment(*args, **options):
        raise AssertionError("no environment is needed")

    monkeypatch.setattr("genrl.run.practice.WorkerEnvironments", no_environment)
    model = practice(practice_config(made, tmp_path / "run", rounds=0))
    before, after = load_checkpoint(made[0])[0], load_checkpoint(model)[0]
    assert all(value.equal(before[name]) for name, value in after.items())
    assert not (tmp_path / "run" / "data").exists() and (model / "general" / "meta.json").is_file()


def test_practice_goes_on_from_a_practised_model(made: Made, tmp_path: Path) -> None:
    first = practice(practice_config(made, tmp_path / "first", rounds=0))
    second = practice(practice_config((first, *made[1:]), tmp_path / "second", rounds=0))
    general = load_model(first).general
    assert general is not None
    again = load_model(second).general
    assert again is not None
    # Four updates away from where the first one ended, not from fresh weights.
    far = load_model(practice(practice_config(made, tmp_path / "other", rounds=0, seed=5))).general
    weight = "actor.network.hidden.0.weight"
    start = general.networks.state_dict()[weight]
    assert (again.networks.state_dict()[weight] - start).norm() < 0.1 * (
        far.networks.state_dict()[weight] - start
    ).norm()


def test_learning_starts_from_the_general_policy(made: Made, tmp_path: Path) -> None:
    model, _, vlm = made
    practised = practice(practice_config(made, tmp_path / "run", rounds=0))
    config = replace(learn_config(practised, vlm, tmp_path / "learn"), warm_start=True, updates=0)
    (result,) = learn(config)
    prompted = load_model(practised, vlm=str(vlm))
    assert prompted.general is not None
    bound = prompted.general.bind(prompted.goal(prompted.prompt("walking"))).actor.state_dict()
    assert all(value.equal(bound[name]) for name, value in Policy.load(result.policy).actor.state_dict().items())
    (fresh,) = learn(replace(config, warm_start=False, updates=4, out=tmp_path / "fresh"))
    anchored = replace(config.behavior, anchor=1.0)
    (again,) = learn(replace(config, model=str(model), updates=4, behavior=anchored, out=tmp_path / "again"))
    # A model without one: as without the option, and with nothing to stay near.
    cold, same = (Policy.load(r.policy).actor.state_dict() for r in (fresh, again))
    assert all(value.equal(same[name]) for name, value in cold.items())


def test_practice_may_reward_what_imagination_shows(made: Made, tmp_path: Path) -> None:
    config = practice_config(made, tmp_path / "run", rounds=0)
    shown = ShownConfig(0.5, ramp=1, trajectories=2, units=8)
    practice(replace(config, behavior=replace(config.behavior, shown=shown)))
    assert any("shown/seen" in row for row in read_metrics(tmp_path / "run"))


def test_every_second_goal_is_a_text_where_the_aligner_moves_it(made: Made, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("kicking\n\n  waving with both arms \n")
    config = practice_config(made, tmp_path / "run", goal_texts=texts)
    prompted = load_model(made[0], vlm=str(made[2]))
    rows = embed_lines(prompted, texts)
    alone = torch.stack([prompted.prompt(text).embedding for text in ("kicking", "waving with both arms")])
    assert rows.equal(alone)
    practising = Practising(prompted, [made[1]], config, tmp_path / "data", rows)
    practising.enter(0, False)
    goals = practising._goals(3)
    aligned = prompted.model.aligner.align(rows)
    assert len(goals) == config.starts.num_starts
    assert (goals[1::2] @ aligned.T).amax(1).allclose(torch.ones(len(goals) // 2), atol=1e-5)
    practising.texts = None
    clips = practising._goals(3)
    assert goals[::2].equal(clips[::2]) and not goals[1::2].equal(clips[1::2])


def test_practice_towards_texts_says_how_near_it_came(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("kicking\nwaving\n")
    config = practice_config(made, tmp_path / "run", goal_texts=texts, rounds=1)
    practice(replace(config, episodes=replace(config.episodes, steps=60, hold=(40, 40), count=6)))
    assert "towards texts" in capsys.readouterr().err
    (row,) = (row for row in read_metrics(tmp_path / "run") if "practice/real_reward" in row)
    assert np.isfinite(row["practice/real_reward_texts"])


def test_practice_that_held_no_goal_for_long_says_so_and_logs_no_number(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    practice(practice_config(made, tmp_path / "run", rounds=1))
    assert "really happened is not known: no goal was held for 9 steps" in capsys.readouterr().err
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert not any("practice/real_reward" in row for row in read_metrics(tmp_path / "run"))


def test_a_practised_model_that_is_lost_is_written_again(made: Made, tmp_path: Path) -> None:
    config = practice_config(made, tmp_path / "run")
    model = practice(config)
    expected = tensors(model)
    for lost in (model, model / "general"):
        shutil.rmtree(lost)
        practice(config)
        assert all(value.equal(expected[name]) for name, value in tensors(model).items())


def test_changed_inputs_of_practice_are_refused_by_name(made: Made, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("kicking\n")
    shutil.copytree(made[0], tmp_path / "model")
    config = practice_config((tmp_path / "model", *made[1:]), tmp_path / "run", goal_texts=texts, rounds=1)
    practice(config)
    practice(replace(config, rounds=2))  # Its own episodes, and more rounds, are no other inputs.
    texts.write_text("waving\n")
    with pytest.raises(UserError, match="--goal-texts .*texts.txt has changed since this run began"):
        practice(replace(config, rounds=2))
    texts.write_text("kicking\n")
    other = load_model(practice(replace(config, out=tmp_path / "other", rounds=0)))
    shutil.rmtree(tmp_path / "model")
    other.model.save(tmp_path / "model")
    assert other.general is not None
    other.general.save(tmp_path / "model" / "general")
    with pytest.raises(UserError, match="--model .*/model has changed since this run began"):
        practice(replace(config, rounds=2))


def test_practice_does_not_delete_the_model_or_the_stores_that_it_starts_from(made: Made, tmp_path: Path) -> None:
    config = practice_config(made, tmp_path / "run", rounds=1)
    model = practice(config)
    own = tmp_path / "run" / "data"
    for changes, said in (({"model": str(model)}, f"--model {model}"), ({"data": (own,)}, f"--data {own}/round_000")):
        with pytest.raises(UserError, match=f"--fresh would delete {said} from --out"):
            practice(replace(config, **changes, fresh=True))
    shutil.copytree(made[1], own / "mine")
    practice(replace(config, rounds=0, fresh=True))
    assert [entry.name for entry in own.iterdir()] == ["mine"]


def test_what_does_not_fit_is_refused_before_anything_is_written(made: Made, tmp_path: Path) -> None:
    model, store, vlm = made
    config = practice_config(made, tmp_path / "run")
    with pytest.raises(UserError, match="--model and --data"):
        practice(replace(config, data=()))
    other_model, other_store, _ = make_model(tmp_path / "noise")
    with pytest.raises(UserError, match="action dim 2, but the model was made for 6"):
        practice(replace(config, data=(other_store,)))
    with pytest.raises(UserError, match="policy was made for"):
        practice(replace(config, model=str(other_model), data=(other_store,)))
    with pytest.raises(UserError, match="multiple of 4"):
        practice(replace(config, starts=replace(config.starts, num_starts=6)))
    with pytest.raises(UserError, match="--episodes.count 99 is more than the 8 goals"):
        practice(replace(config, episodes=replace(config.episodes, count=99)))
    (tmp_path / "other").mkdir()
    tiny_vlm(seed=1).save(tmp_path / "other" / "vlm")
    with pytest.raises(UserError, match="was trained with VLM"):
        practice(replace(config, vlm=str(tmp_path / "other" / "vlm")))
    with pytest.raises(UserError, match="--goal-texts .*nowhere.txt cannot be read"):
        practice(replace(config, goal_texts=tmp_path / "nowhere.txt"))
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(UserError, match="has no texts"):
        practice(replace(config, goal_texts=tmp_path / "empty.txt"))
    with pytest.raises(UserError, match="genrl practice"):
        learn(replace(learn_config(model, vlm, tmp_path / "learn"), warm_start=True, updates=0))
    with pytest.raises(ValueError, match="warm-start"):
        replace(learn_config(model, vlm, tmp_path / "learn"), warm_start=False, updates=0)
    assert not (tmp_path / "run").exists() and not (tmp_path / "learn").exists()
