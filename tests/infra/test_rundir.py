"""A run directory: resuming, refusing, stopping, surviving."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path

import pytest
import torch

from genrl.infra.errors import NonFiniteError, UserError
from genrl.infra.finite import check_finite
from genrl.infra.inputs import RunInput
from genrl.infra.logging import read_metrics
from genrl.infra.rundir import Run, seed_update
from tests.infra.toy_run import ToyConfig, ToyLearner, train

CONFIG = ToyConfig()


def losses(out: Path) -> list[tuple[float, float]]:
    return [(row["step"], row["loss"]) for row in read_metrics(out)]


def steps(out: Path) -> list[str]:
    return sorted(entry.name for entry in (out / "checkpoints").iterdir())


def interrupted_after(out: Path, updates: int) -> None:
    """What a process killed after that many updates, without saving, leaves behind."""
    run = Run.open(out, "toy", CONFIG)
    learner = ToyLearner()
    for update in run.updates(CONFIG.updates, run.restore(learner)):
        run.log(update, learner.update())
        run.save(update, learner, every=3)
        if update + 1 == updates:
            break
    run.close()


@pytest.fixture
def whole(tmp_path: Path) -> tuple[ToyLearner, list[tuple[float, float]]]:
    """An uninterrupted run."""
    learner = train(tmp_path / "whole", CONFIG)
    return learner, losses(tmp_path / "whole")


def test_an_interrupted_run_repeats_an_uninterrupted_one(
    tmp_path: Path, whole: tuple[ToyLearner, list[tuple[float, float]]]
) -> None:
    interrupted_after(tmp_path / "run", 5)
    assert steps(tmp_path / "run") == ["step_00000003"]
    learner = train(tmp_path / "run", CONFIG)
    assert learner.weight.equal(whole[0].weight)
    assert losses(tmp_path / "run") == whole[1]
    assert [step for step, _ in whole[1]] == list(range(1, 11))


def test_every_update_has_randomness_of_its_own() -> None:
    def draw(seed: int, update: int) -> float:
        seed_update(seed, update)
        return torch.rand(()).item()

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(seed, update) for seed in range(3) for update in range(3)}) == 9


def test_a_finished_run_says_so_and_keeps_its_summary(tmp_path: Path) -> None:
    learner = train(tmp_path, CONFIG)
    run = Run.open(tmp_path, "toy", replace(CONFIG, device="cuda"))
    assert run.finished and run.summary == {"weight": learner.weight.tolist()}


def test_a_finished_run_can_be_made_longer(tmp_path: Path) -> None:
    train(tmp_path / "run", CONFIG)
    longer = replace(CONFIG, updates=13)
    assert not Run.open(tmp_path / "run", "toy", longer).finished
    assert train(tmp_path / "run", longer).weight.equal(train(tmp_path / "at_once", longer).weight)
    assert losses(tmp_path / "run") == losses(tmp_path / "at_once")


def test_changed_options_are_refused_by_name(tmp_path: Path) -> None:
    train(tmp_path, CONFIG)
    with pytest.raises(UserError, match=r"--learning-rate was 1.0, now 0.5; use --fresh to start over"):
        Run.open(tmp_path, "toy", replace(CONFIG, learning_rate=0.5))
    Run.open(tmp_path, "toy", replace(CONFIG, learning_rate=0.5), extendable=("updates", "learning_rate"))


def test_how_an_update_is_computed_may_change_in_any_group(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Stage:
        compile: str = "auto"
        updates: int = 3

    @dataclass(frozen=True)
    class Whole:
        updates: int = 1
        seed: int = 0
        joint: Stage = field(default_factory=Stage)

    with Run.open(tmp_path, "toy", Whole()) as run:
        run.begin()
    Run.open(tmp_path, "toy", Whole(joint=Stage(compile="off")))
    # Which may grow on their own may not as part of a group.
    with pytest.raises(UserError, match=r"--joint.updates was 3, now 4"):
        Run.open(tmp_path, "toy", Whole(updates=2, joint=Stage(updates=4)))


def test_another_verbs_directory_is_refused_even_when_fresh(tmp_path: Path) -> None:
    train(tmp_path, CONFIG)
    for fresh in (False, True):
        with pytest.raises(UserError, match="holds a run of 'genrl toy', not of 'other'"):
            Run.open(tmp_path, "other", CONFIG, fresh=fresh)


@pytest.mark.parametrize("content", ['{"name": "of another program"}', "not json", "[]"])
def test_a_foreign_directory_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="config.json is not that of a genrl run"):
        Run.open(tmp_path, "toy", CONFIG, fresh=True)
    assert (tmp_path / "config.json").read_text() == content


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="run is a file"):
        Run.open(tmp_path / "run", "toy", CONFIG)


def test_fresh_deletes_the_old_run_only_when_the_new_one_begins(tmp_path: Path) -> None:
    train(tmp_path, CONFIG)
    other = replace(CONFIG, seed=8)
    run = Run.open(tmp_path, "toy", other, fresh=True)
    assert run.restore(ToyLearner()) == 0 and not run.finished
    assert (tmp_path / "summary.json").exists() and len(steps(tmp_path)) == 2
    run.close()
    train(tmp_path, replace(other, updates=2), fresh=True)
    assert steps(tmp_path) == ["step_00000002"] and len(losses(tmp_path)) == 2
    assert json.loads((tmp_path / "config.json").read_text())["config"]["seed"] == 8


def test_what_a_run_would_replace_though_no_run_wrote_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "log.txt").write_text("kept")
    for fresh in (False, True):
        with pytest.raises(UserError, match="--out .* holds model and no run of 'genrl toy'; name another directory"):
            Run.open(tmp_path, "toy", CONFIG, fresh=fresh, results=("model",))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["log.txt", "model"]
    # What it leaves alone is not in the way.
    train(tmp_path, CONFIG)
    train(tmp_path, replace(CONFIG, seed=3), fresh=True)
    assert (tmp_path / "log.txt").read_text() == "kept" and (tmp_path / "model").is_dir()


def test_a_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("notes")
    with pytest.raises(UserError, match=r"--out .*/file/a/b lies below .*/file, which is a file"):
        Run.open(tmp_path / "file" / "a" / "b", "toy", CONFIG)


def test_a_run_that_was_killed_before_its_first_write_goes_on(tmp_path: Path) -> None:
    Run.open(tmp_path, "toy", CONFIG).close()
    (tmp_path / ".config.tmp-123.json").write_text("{")
    train(tmp_path, CONFIG)
    assert not list(tmp_path.glob(".config*"))


def test_a_directory_of_runs_may_become_one_that_does_not_share_their_results(tmp_path: Path) -> None:
    train(tmp_path / "walking", CONFIG)
    (tmp_path / "walking" / "policy").mkdir()
    with pytest.raises(UserError, match="holds walking/policy and no run of 'genrl toy'"):
        Run.open(tmp_path, "toy", CONFIG, results=("walking/policy",))
    train(tmp_path, CONFIG)
    train(tmp_path, replace(CONFIG, seed=3), fresh=True)
    assert Run.open(tmp_path / "walking", "toy", CONFIG).finished
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match="holds summary.json, metrics.jsonl, tensorboard and 1 more and no run"):
        Run.open(tmp_path, "toy", CONFIG)


def test_starting_over_leaves_links_to_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "big" / "round_000").mkdir(parents=True)
    train(tmp_path / "run", CONFIG)
    (tmp_path / "run" / "data").symlink_to(tmp_path / "big")
    train(tmp_path / "run", replace(CONFIG, seed=3), fresh=True, results=("data/round_*",))
    assert (tmp_path / "run" / "data").is_symlink() and not any((tmp_path / "big").iterdir())
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="nowhere is a file"):
        Run.open(tmp_path / "nowhere", "toy", CONFIG)


def test_starting_over_deletes_what_the_run_wrote_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, CONFIG)
    for name in ("model/meta.json", "data/round_000/x", "data/mine/x", "other/round_000/x", ".model.previous/x"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    train(tmp_path, replace(CONFIG, updates=2), fresh=True, results=("model", "data/round_*", "other/round_*"))
    assert "--fresh keeps what this command does not write: data\n" in capsys.readouterr().err
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("x")] == ["data/mine/x"]
    assert not (tmp_path / "model").exists() and not (tmp_path / "other").exists()
    assert steps(tmp_path) == ["step_00000002"] and len(losses(tmp_path)) == 2


def test_inputs_that_have_changed_are_refused_by_name(tmp_path: Path) -> None:
    model, one, two = RunInput("--model m", "1"), RunInput("--data one", "1"), RunInput("--data two", "1")
    train(tmp_path, CONFIG, inputs=[model, one])

    def refused(*inputs: RunInput) -> str:
        with pytest.raises(UserError) as caught:
            Run.open(tmp_path, "toy", replace(CONFIG, updates=20), inputs=inputs)
        return str(caught.value)

    said = refused(replace(model, fingerprint="2"), one)
    assert "--model m has changed since this run began (then 1, now 2); use --fresh to start over, or take" in said
    assert "--data two was not there when this run began" in refused(model, one, two)
    assert "--data one was there when this run began" in refused(model, two)
    # Of an option that the run noted nothing about it knows nothing.
    assert Run.open(tmp_path, "toy", CONFIG, inputs=[model, one, RunInput("--video v", "1")]).finished
    assert Run.open(tmp_path, "toy", CONFIG).finished
    train(tmp_path, CONFIG, inputs=[model, two], fresh=True)
    assert Run.open(tmp_path, "toy", CONFIG, inputs=[model, two]).finished


def test_a_run_of_before_inputs_were_noted_goes_on_and_notes_them(tmp_path: Path) -> None:
    interrupted_after(tmp_path, 5)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["inputs"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    train(tmp_path, CONFIG, inputs=[RunInput("--model m", "1")])
    with pytest.raises(UserError, match="--model m has changed"):
        Run.open(tmp_path, "toy", CONFIG, inputs=[RunInput("--model m", "2")])


def test_starting_over_does_not_delete_an_input(tmp_path: Path) -> None:
    train(tmp_path, CONFIG)
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="--fresh would delete --model m from --out .*; choose another --out"):
        Run.open(
            tmp_path,
            "toy",
            CONFIG,
            fresh=True,
            results=["model"],
            inputs=[RunInput("--model m", "1", tmp_path / "model" / "general")],
        )
    assert (tmp_path / "model").is_dir()


def test_a_finished_run_without_its_result_goes_on_from_its_last_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learner = train(tmp_path, CONFIG)

    def lost() -> None:
        raise UserError("the result is lost")

    with Run.open(tmp_path, "toy", CONFIG) as run:
        assert run.is_complete(lambda: None) and run.finished
        assert not run.is_complete(lost) and not run.finished
        assert "the result is lost; the run goes on to write it again" in capsys.readouterr().err
        again = ToyLearner()
        assert list(run.updates(CONFIG.updates, run.restore(again))) == [] and again.weight.equal(learner.weight)
        run.finish({})
    (tmp_path / "summary.json").write_text("{")
    train(tmp_path, CONFIG)
    assert json.loads((tmp_path / "summary.json").read_text()) == {"weight": learner.weight.tolist()}
    shutil.rmtree(tmp_path / "checkpoints")
    with Run.open(tmp_path, "toy", CONFIG) as run:
        with pytest.raises(UserError, match="the result is lost; .* no checkpoint is left .* --fresh starts over"):
            run.is_complete(lost)
        assert not run.is_complete(lost, from_checkpoint=False)


@pytest.mark.parametrize("option", ["log_every", "save_every"])
def test_every_zeroth_update_is_refused(tmp_path: Path, option: str) -> None:
    config = make_dataclass("Config", [(option, int)])(0)
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} must be at least 1, got 0"):
        Run.open(tmp_path / "run", "toy", config)
    assert not (tmp_path / "run").exists()


def test_a_directory_is_called_what_the_user_called_it(tmp_path: Path) -> None:
    names = {"name": "--out data/walk", "mend": "take another --out"}
    train(tmp_path, CONFIG)
    with pytest.raises(
        UserError, match="^--out data/walk holds a run with other options: .*, now 1; take another --out$"
    ):
        Run.open(tmp_path, "toy", replace(CONFIG, seed=1), **names)
    with pytest.raises(UserError, match="^--out data/walk holds a run of 'genrl toy'"):
        Run.open(tmp_path, "other", CONFIG, **names)


def test_a_command_that_fails_before_its_first_update_binds_nobody(tmp_path: Path) -> None:
    Run.open(tmp_path, "toy", CONFIG).close()
    train(tmp_path, replace(CONFIG, learning_rate=0.5))


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted_after(tmp_path, 7)
    assert steps(tmp_path) == ["step_00000003", "step_00000006"]
    (tmp_path / "checkpoints" / "step_00000006" / "tensors.safetensors").write_bytes(b"torn")
    assert Run.open(tmp_path, "toy", CONFIG).restore(ToyLearner()) == 3
    assert "passing over a checkpoint: " in capsys.readouterr().err
    train(tmp_path, replace(CONFIG, updates=5))
    assert steps(tmp_path) == ["step_00000003", "step_00000005"], "two good ones, and the damaged one gone"


def test_the_newest_two_checkpoints_are_kept(tmp_path: Path) -> None:
    train(tmp_path, CONFIG)
    assert steps(tmp_path) == ["step_00000009", "step_00000010"]


def test_a_failed_save_leaves_the_checkpoints_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_after(tmp_path, 3)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("genrl.infra.checkpoint.save_file", full)
    with pytest.raises(UserError, match="step_00000006: the disk is full"):
        train(tmp_path, CONFIG)
    monkeypatch.undo()
    assert Run.open(tmp_path, "toy", CONFIG).restore(ToyLearner()) == 3


def test_only_due_rows_are_logged(tmp_path: Path) -> None:
    run = Run.open(tmp_path, "toy", CONFIG)
    for update in run.updates(10):
        run.log(update, {"loss": torch.tensor(float(update))}, every=4)
    assert losses(tmp_path) == [(1, 0.0), (4, 3.0), (8, 7.0), (10, 9.0)]


def test_a_non_finite_loss_names_loss_update_and_last_good_checkpoint(tmp_path: Path) -> None:
    learner = ToyLearner()
    with pytest.raises(NonFiniteError) as caught, Run.open(tmp_path, "toy", CONFIG) as run:
        for update in run.updates(10):
            loss = torch.tensor([1.0, float("nan") if update == 4 else 2.0])
            check_finite({"kl_loss": torch.zeros(2), "image_loss": loss})
            learner.update()
            run.save(update, learner, every=3)
    message = str(caught.value)
    assert message.startswith("image_loss became NaN or infinite at update 5;") and "step_00000003" in message
    with pytest.raises(NonFiniteError, match="x, y became NaN or infinite at update 10;.*/step_00000003;"):
        check_finite({"x": torch.tensor(torch.inf), "y": torch.tensor(torch.nan)}, 9, run)


# -- processes -------------------------------------------------------------------------------------------------------


def start(out: Path, updates: int) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("toy_run.py")
    return subprocess.Popen([sys.executable, str(script), str(out), str(updates)], stderr=subprocess.PIPE, text=True)


def wait_for(condition: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition.exists():
        assert process.poll() is None and time.monotonic() < deadline, f"{condition} never came"
        time.sleep(0.01)


@pytest.fixture
def long_run(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of 3,000 updates, after its first checkpoint."""
    process = start(tmp_path / "run", 3_000)
    wait_for(tmp_path / "run" / "checkpoints" / "step_00000003", process)
    yield process
    process.kill()
    process.wait()


def test_a_directory_in_use_is_refused(tmp_path: Path, long_run: subprocess.Popen[str]) -> None:
    with pytest.raises(UserError, match=f"run is in use by another genrl process .process {long_run.pid}."):
        Run.open(tmp_path / "run", "toy", replace(CONFIG, updates=3_000))


def test_sigterm_saves_the_present_update_and_exits_cleanly(tmp_path: Path, long_run: subprocess.Popen[str]) -> None:
    time.sleep(0.1)
    long_run.send_signal(signal.SIGTERM)
    _, said = long_run.communicate(timeout=30)
    assert long_run.returncode == 0 and "stopped after" in said and "the same command goes on" in said
    rows = losses(tmp_path / "run")
    assert steps(tmp_path / "run")[-1] == f"step_{len(rows):08d}"
    longer = replace(CONFIG, updates=len(rows) + 2)
    assert train(tmp_path / "run", longer).weight.equal(train(tmp_path / "whole", longer).weight)


def test_a_run_killed_at_random_moments_repeats_an_uninterrupted_one(tmp_path: Path) -> None:
    moments = random.Random(0)
    for _ in range(3):
        process = start(tmp_path / "run", 60)
        wait_for(tmp_path / "run" / "config.json", process)
        time.sleep(moments.uniform(0.1, 0.5))
        process.kill()
        process.communicate()
    final = replace(CONFIG, updates=60)
    assert train(tmp_path / "run", final).weight.equal(train(tmp_path / "whole", final).weight)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    shutil.rmtree(tmp_path / "run")
