"""Two processes train as one would with the same batches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genrl.infra.checkpoint import load_checkpoint
from genrl.infra.errors import UserError
from genrl.infra.logging import read_metrics
from genrl.nn import noise
from genrl.run.pretrain import pretrain
from tests.run.tiny import make_store, pretrain_config

COMMAND = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "genrl"]
OPTIONS = ["--joint.batch-size", "2", "--latent.batch-size", "2", "--frame.batch-size", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_store(tmp_path_factory.mktemp("data"))


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def command(data: tuple[Path, Path], out: Path, *more: str) -> list[str]:
    store, vlm = data
    return [*COMMAND, "pretrain", "debug", "--data", str(store), "--vlm", str(vlm), "--out", str(out), *OPTIONS, *more]


def losses(run: Path) -> dict[tuple[float, str], float]:
    rows = read_metrics(run)
    return {(row["step"], name): value for row in rows for name, value in row.items() if name != "step"}


def test_losses_of_every_stage_and_the_weights_are_those_of_one_process(data, tmp_path: Path) -> None:
    subprocess.run(command(data, tmp_path / "two"), check=True, env=environment(), capture_output=True)
    config = replace(pretrain_config(*data, tmp_path / "one"), log_every=1)
    one = pretrain(config)
    expected, found = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert expected.keys() == found.keys()
    assert {name for _, name in expected} >= {"loss/reconstruction", "loss/kl", "loss/connector_kl", "loss/uniform_kl"}
    for key, value in expected.items():
        # Adam lets rounding of the smallest gradients grow from update to update; norms of gradients show it first.
        rel = 1e-5 if key[1].startswith("loss/") else 1e-3
        assert found[key] == pytest.approx(value, rel=rel, abs=1e-6), key
    ours, theirs = load_checkpoint(one)[0], load_checkpoint(tmp_path / "two" / "model")[0]
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-3, atol=1e-5)


def test_all_processes_stop_together_and_go_on(data, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(data, out, "--joint.updates", "100000"), env=environment(), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while len(read_metrics(out)) < 5 and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert "the same command goes on" in process.communicate(timeout=60)[1]
    done = max(row["step"] for row in read_metrics(out))
    more = command(data, out, "--joint.updates", str(int(done)), "--latent.updates", "2")
    again = subprocess.run(more, check=True, env=environment(), capture_output=True, text=True)
    assert "goes on after update" in again.stderr and (out / "model").is_dir()


def test_a_batch_that_cannot_be_divided_is_refused(data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.run(
        command(data, tmp_path / "run", "--joint.batch-size", "3"), env=environment(), capture_output=True, text=True
    )
    assert failed.returncode != 0
    assert "--joint.batch-size 3 cannot be divided among 2 processes; choose a multiple" in failed.stderr
    assert not (tmp_path / "run").exists()


def test_shares_of_noise_together_are_the_noise_of_the_whole() -> None:
    cpu = torch.device("cpu")

    def drawn(share: int, size: int) -> list[torch.Tensor]:
        torch.manual_seed(0)
        with noise.share_of_rows(share, size):
            rows = 6 // size
            return [
                noise.uniform([rows, 3], cpu),
                noise.normal([rows, 2, 4], cpu),
                noise.uniform([5, rows], cpu, dim=1),
            ]

    whole, parts = drawn(0, 1), [drawn(rank, 3) for rank in range(3)]
    for index, dim in enumerate((0, 0, 1)):
        assert torch.cat([part[index] for part in parts], dim).equal(whole[index])
    with pytest.raises(UserError, match="--x 7 cannot be divided"):
        from genrl.infra.distributed import World

        World(0, 2).share(7, "--x")


@pytest.mark.slow
def test_a_ray_cluster_of_this_machine_trains_as_one_process(data, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("ray.train")
    monkeypatch.chdir(tmp_path)
    store, vlm = data
    config = replace(pretrain_config(store, vlm, Path("one")), log_every=1)
    two = replace(config, out=Path("two"), ray="local", workers=2)
    one, other = load_checkpoint(pretrain(config))[0], load_checkpoint(pretrain(two))[0]
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5)


def test_workers_without_a_cluster_are_told_of_torchrun(data, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="torchrun --nproc-per-node"):
        pretrain(replace(pretrain_config(*data, tmp_path / "run"), workers=2))
