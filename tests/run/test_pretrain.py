"""`genrl pretrain`: both stages, resuming, refusals."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genrl.behavior.actor_critic import ActorCriticConfig
from genrl.behavior.general import GeneralPolicy
from genrl.data.store import Store
from genrl.infra.checkpoint import load_checkpoint
from genrl.infra.errors import NonFiniteError, UserError
from genrl.infra.logging import read_metrics
from genrl.infra.optim import OptimizerConfig
from genrl.models.foundation import FoundationModel
from genrl.models.learner import FoundationLearnerConfig
from genrl.run.adoption import transfer
from genrl.run.embed import EmbedConfig, embed
from genrl.run.pretrain import PretrainConfig, StageConfig, pretrain
from tests.run.tiny import make_store, pretrain_config
from tests.vlm.tiny import tiny_vlm


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_store(tmp_path_factory.mktemp("data"))


def losses(run: Path) -> dict[tuple[int, str], float]:
    """Every logged loss by (step, name)."""
    return {
        (row["step"], name): value
        for row in read_metrics(run)
        for name, value in row.items()
        if name.startswith("loss/")
    }


def tensors(model: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(model)[0]


def test_all_stages_train_and_leave_a_model(data, tmp_path: Path) -> None:
    model = pretrain(pretrain_config(*data, tmp_path / "run"))
    spec = FoundationModel.load(model).spec
    assert (spec.domain, spec.look, spec.action_dim, spec.vlm, spec.embed_dim) == ("walker", "fast", 2, "mini", 16)
    logged = losses(tmp_path / "run")
    assert (2, "loss/uniform_kl") in logged and (2, "loss/kl") not in logged
    assert (6, "loss/reconstruction") in logged and (6, "loss/connector_kl") in logged
    assert (10, "loss/kl") in logged and (10, "loss/reconstruction") not in logged


@pytest.mark.parametrize("stop_after", [1, 4, 8])
def test_a_stopped_run_goes_on_with_the_losses_of_an_uninterrupted_one(
    data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    from genrl.models.learner import FoundationLearner

    whole = pretrain(pretrain_config(*data, tmp_path / "whole"))
    step, calls = FoundationLearner.step, 0

    def stops(self, *args):
        nonlocal calls
        calls += 1
        if calls > stop_after + 1:
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(FoundationLearner, "step", stops)
    with pytest.raises(KeyboardInterrupt):
        pretrain(pretrain_config(*data, tmp_path / "parts"))
    monkeypatch.undo()
    parts = pretrain(pretrain_config(*data, tmp_path / "parts"))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for name, value in tensors(whole).items():
        assert value.equal(tensors(parts)[name]), name


def test_killed_at_random_moments_the_same_command_finishes_with_the_same_model(data, tmp_path: Path) -> None:
    config = pretrain_config(*data, tmp_path / "killed", updates=40)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["genrl.run.pretrain"])
    rng = np.random.default_rng(0)
    for _ in range(4):
        process = context.Process(target=pretrain, args=(config,))
        process.start()
        time.sleep(rng.uniform(0.3, 1.5))
        process.kill()
        process.join()
    killed = pretrain(config)
    whole = pretrain(replace(config, out=tmp_path / "whole"))
    for name, value in tensors(whole).items():
        assert value.equal(tensors(killed)[name]), name


def test_a_finished_run_says_so_and_changed_options_are_refused_by_name(data, tmp_path: Path, capsys) -> None:
    config = pretrain_config(*data, tmp_path / "run")
    pretrain(config)
    pretrain(config)
    assert "finished" in capsys.readouterr().out
    with pytest.raises(UserError, match="--seed was 0, now 1.*--fresh"):
        pretrain(replace(config, seed=1))


def test_a_run_goes_on_when_it_is_asked_for_more_updates(data, tmp_path: Path) -> None:
    config = pretrain_config(*data, tmp_path / "run")
    pretrain(replace(config, latent=replace(config.latent, updates=0)))
    pretrain(config)
    assert (10, "loss/kl") in losses(tmp_path / "run")


def test_a_world_model_is_taken_over_and_left_alone_by_the_latent_stage(data, tmp_path: Path) -> None:
    config = pretrain_config(*data, tmp_path / "first")
    first = pretrain(replace(config, latent=replace(config.latent, updates=0)))
    only_latent = replace(
        config, out=tmp_path / "second", world_model=str(first), joint=replace(config.joint, updates=0)
    )
    second = pretrain(only_latent)
    before, after = tensors(first), tensors(second)
    for name, value in after.items():
        if name.startswith(("world_model.encoder", "world_model.decoder")):
            assert value.equal(before[name]), name
    assert not after["connector.dynamics.head.output.weight"].equal(before["connector.dynamics.head.output.weight"])


def test_a_model_that_learnt_with_samples_changes_over_to_probabilities(data, tmp_path: Path) -> None:
    config = pretrain_config(*data, tmp_path / "first")
    first = pretrain(config)
    world_model = config.model.world_model
    model = replace(
        config.model, world_model=replace(world_model, rssm=replace(world_model.rssm, code="probabilities"))
    )
    changed = replace(
        config, out=tmp_path / "second", start=str(first), model=model, joint=replace(config.joint, updates=0)
    )
    second = FoundationModel.load(pretrain(changed))
    assert second.config.world_model.rssm.code == "probabilities" and not second.world_model.rssm.dynamics.sampled
    wider = replace(model, world_model=replace(world_model, rssm=replace(world_model.rssm, deter_dim=24)))
    with pytest.raises(UserError, match="other sizes"):
        pretrain(replace(changed, out=tmp_path / "third", model=wider))


def test_all_of_a_model_is_taken_over_with_its_general_policy_when_the_vlm_has_moved(data, tmp_path: Path) -> None:
    config = pretrain_config(*data, tmp_path / "first")
    first = pretrain(config)
    model = FoundationModel.load(first)
    GeneralPolicy.for_model(model, ActorCriticConfig(num_layers=1, hidden_dim=8)).save(first / "general")
    shutil.copytree(data[0], tmp_path / "moved")
    other = tiny_vlm(seed=5)
    other.save(tmp_path / "vlm")
    vlm = f"{tmp_path / 'vlm'}"
    embed(EmbedConfig((tmp_path / "moved",), vlm, "cpu", fresh=True))
    moved = replace(config, data=(tmp_path / "moved",), vlm=vlm, out=tmp_path / "second", start=str(first))
    slow = OptimizerConfig(learning_rate=1e-9)
    latent = replace(config.latent, updates=2, learner=FoundationLearnerConfig(config.latent.learner.world_model, slow))
    only_connector = replace(moved, joint=replace(config.joint, updates=0), latent=latent, latent_dynamics=False)
    second = pretrain(only_connector)
    before, after = tensors(first), tensors(second)
    assert all(value.equal(before[name]) for name, value in after.items() if name.startswith("world_model"))
    assert all(torch.allclose(value.float(), before[name].float(), atol=1e-5) for name, value in after.items())
    assert any(not value.equal(before[name]) for name, value in after.items())
    assert (2, "world_model/kl") in {(row["step"], name) for row in read_metrics(tmp_path / "second") for name in row}
    assert FoundationModel.load(second).spec.vlm_checksum == other.checksum != model.spec.vlm_checksum
    assert load_checkpoint(second)[1]["updates"]["latent"] == config.latent.updates + 2
    general, kept = tensors(first / "general"), tensors(second / "general")
    assert all(value.equal(general[name]) for name, value in kept.items())
    with pytest.raises(UserError, match="exclude each other"):
        replace(moved, world_model=str(first))


def test_weights_of_another_body_are_taken_where_they_fit(data, tmp_path: Path) -> None:
    first = pretrain(pretrain_config(*data, tmp_path / "first"))
    source = FoundationModel.load(first)
    other = FoundationModel(source.config, replace(source.spec, domain="stickman", action_dim=3))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    copied = transfer(other, str(first))
    taken = {name for name, value in other.state_dict().items() if not value.equal(before[name])}
    assert all(other.state_dict()[name].equal(source.state_dict()[name]) for name in taken)
    assert any(name.startswith("world_model.decoder") for name in taken)
    assert copied < sum(value.numel() for value in before.values())
    assert [name for name, value in before.items() if value.shape != source.state_dict()[name].shape]
    config = pretrain_config(*data, tmp_path / "second")
    with pytest.raises(UserError, match="exclude each other"):
        replace(config, transfer=str(first), start=str(first))


def test_a_reward_head_is_given_rewards(data, tmp_path: Path) -> None:
    config = pretrain_config(*data, tmp_path / "run", updates=1)
    head = replace(config.model.world_model, reward_head=True, reward_head_layers=1, reward_head_units=8)
    pretrain(replace(config, model=replace(config.model, world_model=head)))
    assert (3, "loss/reward") in losses(tmp_path / "run")


def test_a_loss_that_is_not_finite_names_the_step_and_the_last_good_checkpoint(
    data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genrl.models import decoder as module

    loss, calls = module.reconstruction_loss, 0

    def breaks(*args):
        nonlocal calls
        calls += 1
        return loss(*args) * (float("nan") if calls == 4 else 1.0)

    monkeypatch.setattr(module, "reconstruction_loss", breaks)
    with pytest.raises(NonFiniteError, match=r"reconstruction.*update 4.*step_00000002"):
        pretrain(pretrain_config(*data, tmp_path / "run"))


def test_bad_options_are_refused_before_anything_is_trained(data, tmp_path: Path) -> None:
    store, vlm = data
    config = pretrain_config(store, vlm, tmp_path / "run")
    with pytest.raises(UserError, match="--data is missing"):
        pretrain(replace(config, data=()))
    with pytest.raises(UserError, match="multiple of the 8 frames"):
        pretrain(replace(config, joint=replace(config.joint, window=12)))
    with pytest.raises(UserError, match="genrl embed"):
        pretrain(replace(config, vlm="another"))
    with pytest.raises(UserError, match="nothing to train"):
        none = {stage: replace(getattr(config, stage), updates=0) for stage in ("frame", "joint", "latent")}
        pretrain(replace(config, **none))
    with pytest.raises(ValueError, match="batch-size"):
        StageConfig(updates=1, batch_size=0, window=8)
    with pytest.raises(ValueError, match="frame.spread must be positive"):
        replace(config.frame, spread=0.0)
    assert not (tmp_path / "run").exists()


def test_embeddings_of_other_weights_than_the_vlm_here_are_refused(data, tmp_path: Path) -> None:
    store, _ = data
    tiny_vlm(seed=1).save(tmp_path / "other")
    with pytest.raises(UserError, match=f"'mini' from other weights .*{tiny_vlm().checksum}.*{tiny_vlm(1).checksum}"):
        pretrain(pretrain_config(store, tmp_path / "other", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_vlm_that_is_not_here_cannot_be_asked(data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, vlm = data
    shutil.copytree(store, tmp_path / "store")
    shutil.copytree(vlm, tmp_path / "vlm")
    embed(EmbedConfig((tmp_path / "store",), str(tmp_path / "vlm"), "cpu"))
    shutil.rmtree(tmp_path / "vlm")  # The column says that it was there.
    monkeypatch.setattr("genrl.run.pretrain.load_vlm", None)
    config = replace(pretrain_config(tmp_path / "store", vlm, tmp_path / "run"), vlm="mini")
    assert pretrain(config).is_dir()


def test_a_name_alone_is_the_checkpoint_that_the_column_records(data, tmp_path: Path) -> None:
    store, vlm = data
    model = pretrain(replace(pretrain_config(store, vlm, tmp_path / "run"), vlm="mini"))
    spec = FoundationModel.load(model).spec
    assert (spec.vlm_checksum, spec.vlm_source) == (tiny_vlm().checksum, f"mini={vlm}")


def test_two_stores_whose_embeddings_other_weights_made_are_refused(data, tmp_path: Path) -> None:
    store, vlm = data
    shutil.copytree(store, tmp_path / "second")
    tiny_vlm(seed=1).save(tmp_path / "other")
    embed(EmbedConfig((tmp_path / "second",), str(tmp_path / "other"), "cpu", fresh=True))
    config = pretrain_config(store, vlm, tmp_path / "run")
    with pytest.raises(UserError, match=r"second has embeddings 'mini' from other weights than .*store"):
        pretrain(replace(config, data=(store, tmp_path / "second")))


def test_a_run_does_not_go_on_with_embeddings_of_other_weights(data, tmp_path: Path) -> None:
    store, vlm = data
    shutil.copytree(store, tmp_path / "store")
    shutil.copytree(vlm, tmp_path / "vlm")
    config = pretrain_config(tmp_path / "store", tmp_path / "vlm", tmp_path / "run")
    pretrain(replace(config, latent=replace(config.latent, updates=0)))
    tiny_vlm(seed=1).save(tmp_path / "vlm")
    embed(EmbedConfig((tmp_path / "store",), str(tmp_path / "vlm"), "cpu", fresh=True))
    then, now = tiny_vlm().checksum, tiny_vlm(1).checksum
    with pytest.raises(UserError, match=rf"vlm has changed since this run began \(then {then}, now {now}\)"):
        pretrain(config)
    # A run of before inputs were noted goes on until its checkpoint says the same.
    facts = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps({"verb": facts["verb"], "config": facts["config"]}))
    with pytest.raises(UserError, match=f"of checksum {then}, --data now has those of {now}"):
        pretrain(config)


def test_a_finished_run_whose_data_or_start_has_changed_is_refused_by_name(data, tmp_path: Path, capsys) -> None:
    store, vlm = data
    (tmp_path / "data").mkdir()
    shutil.copytree(store, tmp_path / "data" / "one")
    first = pretrain(pretrain_config(tmp_path / "data", vlm, tmp_path / "first"))
    config = replace(
        pretrain_config(tmp_path / "data", vlm, tmp_path / "run", updates=1), world_model=str(tmp_path / "first")
    )
    pretrain(config)
    shutil.copytree(store, tmp_path / "data" / "two")
    with pytest.raises(
        UserError, match=r"--data .*/data/two was not there when this run began.*--fresh.*another --out"
    ):
        pretrain(config)
    shutil.rmtree(tmp_path / "data" / "two")
    # Another model where the first was, and then none, which a finished run no longer needs.
    general = FoundationModel.load(first)
    GeneralPolicy.for_model(general, ActorCriticConfig(num_layers=1, hidden_dim=8)).save(first / "general")
    with pytest.raises(UserError, match=r"--world-model .*/first has changed since this run began"):
        pretrain(config)
    shutil.rmtree(tmp_path / "first")
    capsys.readouterr()
    pretrain(replace(config, log_every=7, save_every=9))
    assert "run: finished" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_the_lost_result_of_a_finished_run_is_written_again(data, tmp_path: Path, capsys, damage: str) -> None:
    config = pretrain_config(*data, tmp_path / "run")
    model = pretrain(config)
    before = tensors(model)
    if damage == "missing":
        shutil.rmtree(model)
    else:
        file = model / "tensors.safetensors"
        content = file.read_bytes()
        file.unlink()  # `before` is mapped from it.
        file.write_bytes(content[:1000])
    pretrain(config)
    said = capsys.readouterr()
    assert "run/model: " in said.err and "goes on to write it again" in said.err and "finished" not in said.out
    assert all(value.equal(before[name]) for name, value in tensors(model).items())
    shutil.rmtree(model)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(UserError, match="run/model: no such checkpoint; .* no checkpoint is left.*--fresh starts over"):
        pretrain(config)


def test_a_run_in_the_directory_of_its_data_never_touches_them(data, tmp_path: Path) -> None:
    shutil.copytree(data[0], tmp_path / "data" / "one")
    config = pretrain_config(tmp_path / "data", data[1], tmp_path / "data", updates=1)
    pretrain(config)
    pretrain(replace(config, seed=1, fresh=True))
    assert Store.open(tmp_path / "data" / "one").num_frames == Store.open(data[0]).num_frames
    with pytest.raises(UserError, match="holds model and no run of 'genrl pretrain'"):
        shutil.copytree(data[0], tmp_path / "other" / "model")
        pretrain(replace(config, out=tmp_path / "other"))


def test_starting_over_keeps_what_the_run_did_not_write_and_what_it_starts_from(data, tmp_path: Path, capsys) -> None:
    config = pretrain_config(*data, tmp_path / "run", updates=1)
    pretrain(config)
    (tmp_path / "run" / "notes.txt").write_text("kept")
    shutil.copytree(data[0], tmp_path / "run" / "data")
    pretrain(replace(config, seed=1, fresh=True))
    assert "--fresh keeps what this command does not write: data, notes.txt" in capsys.readouterr().err
    assert (tmp_path / "run" / "notes.txt").read_text() == "kept"
    assert Store.open(tmp_path / "run" / "data").num_frames == Store.open(data[0]).num_frames
    before = tensors(tmp_path / "run" / "model")
    with pytest.raises(UserError, match="--fresh would delete --world-model .*/run from --out .*; choose another"):
        pretrain(replace(config, world_model=str(tmp_path / "run"), fresh=True))
    assert all(value.equal(before[name]) for name, value in tensors(tmp_path / "run" / "model").items())


def test_the_learning_rate_warms_up_and_follows_a_cosine() -> None:
    stage = StageConfig(100, 1, 8, schedule="cosine", final_rate=0.1, warmup=10)
    assert stage.rate(0) == pytest.approx(0.1)
    assert stage.rate(50) == pytest.approx(0.55)
    assert stage.rate(100) == pytest.approx(0.1)
    assert StageConfig(100, 1, 8).rate(99) == 1.0


def test_the_paper_preset_has_the_released_numbers() -> None:
    paper = PretrainConfig()
    rssm = paper.model.world_model.rssm
    assert (rssm.deter_dim, rssm.hidden_dim, rssm.num_variables, rssm.num_classes) == (1024, 1024, 32, 32)
    assert (paper.joint.batch_size, paper.joint.window, paper.joint.updates) == (48, 48, 500_000)
    assert paper.joint.learner == FoundationLearnerConfig(*[OptimizerConfig(1e-4, 1e-8, 1000.0, 1e-6)] * 2)
