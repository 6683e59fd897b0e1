"""`genrl learn` and `genrl imagine`: prompts of all kinds, resuming, settling."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genrl.behavior.policy import Policy
from genrl.behavior.shown import ShownConfig
from genrl.infra.checkpoint import load_checkpoint
from genrl.infra.clips import ClipConfig
from genrl.infra.errors import UserError
from genrl.infra.logging import read_metrics
from genrl.infra.media import read_video, write_png, write_video
from genrl.run.imagine import ImagineConfig, imagine
from genrl.run.learn import LearnConfig, Learning, learn
from genrl.run.pretrain import pretrain
from genrl.run.prompting import load_model
from genrl.run.settling import ReturnHistory, SettleConfig
from tests.run.tiny import learn_config, make_model, pretrain_config


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Model, store, VLM."""
    return make_model(tmp_path_factory.mktemp("made"))


def test_a_text_becomes_a_policy_on_disk_with_its_history(made, tmp_path: Path) -> None:
    model, _, vlm = made
    (result,) = learn(learn_config(model, vlm, tmp_path / "run"))
    assert result.updates == 4 and [update for update, _ in result.history] == [1, 2, 3, 4]
    policy = Policy.load(result.policy)
    assert policy.info["prompt"] == "walking"
    assert policy.act(np.zeros((64, 64, 3), np.uint8)).shape == (2,)


def test_updates_after_the_last_due_row_count_too(made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, _, vlm = made
    config = learn_config(model, vlm, tmp_path / "run", updates=3)
    (result,) = learn(replace(config, log_every=2))
    assert result.updates == 3 and [update for update, _ in result.history] == [2, 3]
    (first,) = learn(replace(config, log_every=10, out=tmp_path / "other"))
    assert first.updates == 3 and first.imagined_return == pytest.approx(result.imagined_return)
    assert "3 updates (all done)" in capsys.readouterr().out


def test_a_run_killed_at_random_moments_ends_as_an_uninterrupted_one(made, tmp_path: Path) -> None:
    model, _, vlm = made
    config = learn_config(model, vlm, tmp_path / "killed", updates=150)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["genrl.run.learn"])
    rng = np.random.default_rng(1)
    for _ in range(4):
        process = context.Process(target=learn, args=(config,))
        process.start()
        time.sleep(rng.uniform(0.3, 1.5))
        process.kill()
        process.join()
    (killed,) = learn(config)
    (whole,) = learn(replace(config, out=tmp_path / "whole"))
    assert killed.history == whole.history
    for name, value in load_checkpoint(whole.policy)[0].items():
        assert value.equal(load_checkpoint(killed.policy)[0][name]), name


def shown(config: LearnConfig, share: float = 0.5) -> LearnConfig:
    """With so much of the reward for what imagination shows."""
    return replace(config, behavior=replace(config.behavior, shown=ShownConfig(share, ramp=2, trajectories=2, units=8)))


def test_a_policy_learns_from_what_imagination_shows_and_resumes(made, tmp_path: Path) -> None:
    model, _, vlm = made
    config = replace(shown(learn_config(model, vlm, tmp_path / "whole", updates=6)), save_every=2)
    (whole,) = learn(config)
    names = ("shown/seen", "shown/agreement", "imagined/shown")
    assert all(-1 <= row[name] <= 1 for row in read_metrics(tmp_path / "whole") for name in names)
    # As if it had been killed after four updates.
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    (tmp_path / "killed" / "summary.json").unlink()
    for checkpoint in (tmp_path / "killed" / "checkpoints").glob("*6"):
        shutil.rmtree(checkpoint)
    (resumed,) = learn(replace(config, out=tmp_path / "killed"))
    for name, value in load_checkpoint(whole.policy)[0].items():
        assert value.equal(load_checkpoint(resumed.policy)[0][name]), name
    (without,) = learn(learn_config(model, vlm, tmp_path / "without", updates=6))
    assert without.history != whole.history


def test_what_imagination_shows_cannot_be_told_without_the_vlm(made, tmp_path: Path) -> None:
    model, _, vlm = made
    moved = shutil.copytree(Path(model), tmp_path / "model")
    meta = json.loads((moved / "meta.json").read_text())
    meta["spec"] |= {"vlm": "elsewhere", "vlm_source": ""}
    (moved / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match="behavior.shown.share"):
        learn(replace(shown(learn_config(moved, vlm, tmp_path / "run")), vlm=None))
    assert not (tmp_path / "run").exists()


def test_learning_from_the_states_of_a_store(made, tmp_path: Path) -> None:
    model, store, vlm = made
    (result,) = learn(replace(learn_config(model, vlm, tmp_path / "run"), data=(store,)))
    assert result.updates == 4


def test_several_prompts_make_several_policies_and_an_ensemble_makes_one(made, tmp_path: Path) -> None:
    model, _, vlm = made
    config = replace(learn_config(model, vlm, tmp_path / "two"), prompt=("walking", "lying still"))
    assert [r.policy.parent.name for r in learn(config)] == ["walking", "lying-still"]
    (one,) = learn(replace(config, out=tmp_path / "one", ensemble=True))
    assert one.label == "walking / lying still"


def test_videos_and_images_are_prompts_too(made, tmp_path: Path) -> None:
    model, _, vlm = made
    frames = np.random.default_rng(0).integers(256, size=(20, 32, 48, 3), dtype=np.uint8)
    video = write_video(tmp_path / "clip.mp4", frames, 20)
    write_png(tmp_path / "pose.png", frames[0])
    config = replace(learn_config(model, vlm, tmp_path / "run"), prompt=(), video=(video, tmp_path / "pose.png"))
    assert [result.label for result in learn(config)] == ["clip.mp4", "pose.png"]


def test_a_video_shorter_than_a_clip_is_refused(made, tmp_path: Path) -> None:
    model, _, vlm = made
    video = write_video(tmp_path / "short.mp4", np.zeros((3, 32, 32, 3), np.uint8), 20)
    with pytest.raises(UserError, match="short.mp4 has 3 frames"):
        load_model(model, vlm=str(vlm)).video_prompt(video)


def test_a_part_of_a_video_is_a_prompt_of_its_own(made, tmp_path: Path) -> None:
    model, _, vlm = made
    prompted = load_model(model, vlm=str(vlm))
    assert prompted.model.spec.frames_per_second == 20
    frames = np.random.default_rng(0).integers(256, size=(24, 64, 64, 3), dtype=np.uint8)
    whole = write_video(tmp_path / "whole.mp4", frames, 20)
    middle = write_video(tmp_path / "middle.mp4", read_video(whole)[8:16], 20)
    cut = prompted.video_prompt(whole, ClipConfig(start=0.4, stop=0.8)).embedding
    alone = prompted.video_prompt(middle).embedding
    assert cut @ alone > 0.99 > cut @ prompted.video_prompt(whole).embedding
    with pytest.warns(UserWarning, match=r"long.mp4 is long: 17 of its 33 clips of 8 frames are read"):
        long = write_video(tmp_path / "long.mp4", np.zeros((33 * 8, 16, 16, 3), np.uint8), 20)
        prompted.video_prompt(long)
    with pytest.raises(UserError, match="--clip chooses from a --video, but none is given"):
        learn(replace(learn_config(model, vlm, tmp_path / "run"), clip=ClipConfig(flip=True)))


def test_without_a_prompt_or_with_an_empty_one_nothing_starts(made, tmp_path: Path) -> None:
    model, _, vlm = made
    config = learn_config(model, vlm, tmp_path / "run")
    with pytest.raises(UserError, match="--prompt"):
        learn(replace(config, prompt=()))
    with pytest.raises(UserError, match="prompt is empty"):
        learn(replace(config, prompt=("walking", "  ")))
    assert not (tmp_path / "run").exists()


def test_a_model_made_with_another_vlm_is_refused(made) -> None:
    model, _, vlm = made
    prompted = load_model(model, vlm=str(vlm))
    prompted.model.spec = replace(prompted.model.spec, vlm_checksum="another")
    with pytest.raises(UserError, match="checksum another"):
        prompted.prompt("walking")


def test_learning_settles_when_the_imagined_return_has_stopped_rising() -> None:
    returns = ReturnHistory(SettleConfig(patience=20, min_gain=0.01, smoothing=1))
    for update in range(1, 41):
        # Rises for ten updates, then stays.
        returns.add(min(update, 10) * 1.0, 0.5)
        returns.record()
        if returns.settled:
            break
    assert returns.updates == 30 and returns.best_update == 10


def test_prompts_that_learn_at_once_go_on_after_a_stop_and_may_be_learnt_in_groups(
    made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, vlm = made
    three = ("walking", "lying still", "kneeling")
    config = replace(learn_config(model, vlm, tmp_path / "whole"), prompt=three)
    whole = learn(config)
    assert [result.updates for result in whole] == [4] * 3 and len({r.imagined_return for r in whole}) == 3
    update = Learning.update

    def killed(self, start):
        if len(self._pending) + self.returns[0].updates == 2:
            raise KeyboardInterrupt
        return update(self, start)

    stopped = replace(config, out=tmp_path / "stopped")
    monkeypatch.setattr(Learning, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        learn(stopped)
    monkeypatch.setattr(Learning, "update", update)
    for ours, theirs in zip(learn(stopped), whole, strict=True):
        assert ours.history == theirs.history
        tensors = load_checkpoint(ours.policy)[0]
        assert all(value.equal(tensors[name]) for name, value in load_checkpoint(theirs.policy)[0].items())
    groups = learn(replace(config, out=tmp_path / "groups", at_once=2))
    assert [str(r.policy.relative_to(tmp_path / "groups")) for r in groups] == [
        "group_000/walking/policy", "group_000/lying-still/policy", "group_001/kneeling/policy"
    ]  # fmt: skip


def test_starts_from_data_serve_all_prompts(made, tmp_path: Path) -> None:
    model, store, vlm = made
    config = replace(learn_config(model, vlm, tmp_path / "run"), prompt=("walking", "lying still"), data=(store,))
    assert [result.updates for result in learn(config)] == [4, 4]


def test_imagine_writes_a_grid_with_a_groundability_for_each_prompt(made, tmp_path: Path) -> None:
    model, _, vlm = made
    out = tmp_path / "grid.mp4"
    previews = imagine(ImagineConfig(str(model), str(vlm), ("walking", "kneeling"), steps=10, out=out, device="cpu"))
    assert [preview.frames.shape for preview in previews] == [(10, 64, 64, 3)] * 2
    assert all(-1 <= preview.groundability.cosine <= 1 for preview in previews)
    assert len(read_video(out)) == 10


@pytest.mark.parametrize("prompts", [("walking",), ("walking", "kneeling")])
def test_a_lost_policy_is_written_again_and_fresh_deletes_only_what_learning_wrote(
    made, tmp_path: Path, capsys: pytest.CaptureFixture[str], prompts: tuple[str, ...]
) -> None:
    model, _, vlm = made
    config = replace(learn_config(model, vlm, tmp_path / "run"), prompt=prompts)
    results = learn(config)
    before = [load_checkpoint(result.policy)[0] for result in results]
    shutil.rmtree(results[-1].policy)
    again = learn(config)
    assert "the run goes on to write it again" in capsys.readouterr().err
    for result, tensors in zip(again, before, strict=True):
        assert all(value.equal(tensors[name]) for name, value in load_checkpoint(result.policy)[0].items())
    evaluated, mine = results[0].policy.parent / "evaluation-x", tmp_path / "run" / "mine"
    for file in (evaluated / "evaluation.json", mine / "notes.txt", evaluated.with_name("evaluation-notes") / "a.txt"):
        file.parent.mkdir()
        file.touch()
    learn(replace(config, fresh=True, seed=2))
    assert not evaluated.exists() and mine.exists() and evaluated.with_name("evaluation-notes").exists()


def test_a_policy_of_a_model_that_has_changed_is_not_taken_for_one_of_it(tmp_path: Path) -> None:
    model, store, vlm = make_model(tmp_path)
    config = learn_config(model, vlm, tmp_path / "run")
    learn(config)
    pretrain(replace(pretrain_config(store, vlm, tmp_path / "pretrain"), seed=9, fresh=True))
    with pytest.raises(UserError, match="--model .* has changed since this run began"):
        learn(config)
    assert learn(replace(config, fresh=True))[0].updates == 4
