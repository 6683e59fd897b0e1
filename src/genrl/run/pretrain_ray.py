"""Pretraining on a Ray cluster: Ray Train starts the processes that `torchrun` starts elsewhere."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from genrl.infra.compute import pick_device
from genrl.infra.errors import UserError
from genrl.run.pretrain import PretrainConfig, pretrain


def pretrain_on_ray(config: PretrainConfig) -> Path:
    """Pretrains with `--workers` processes on the cluster of `--ray`; all machines see the working
    directory, `--data` and `--out`.

    Returns:
        Directory of the model.

    Raises:
        UserError: If Ray is not installed, or a process failed.
    """
    try:
        import ray
        from ray.train import ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise UserError(f"--ray needs Ray Train ({error}): pip install 'genrl[ray]'") from error
    if config.out is None:
        raise UserError("--ray needs --out, on storage that all machines see")
    own = replace(config, ray=None, workers=1)
    # On busy machines workers take longer to import everything than Ray's half minute.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "180")
    began = not ray.is_initialized()
    if began:
        # A cluster of this machine alone has room for the workers and for who watches over them, however few its cores.
        local = {"num_cpus": config.workers + 1} if config.ray == "local" else {"address": config.ray}
        ray.init(**local)
    on_gpu = pick_device(config.device).type == "cuda"
    try:
        trainer = TorchTrainer(
            _train_worker,
            train_loop_config={"config": own, "directory": os.getcwd()},
            torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
            scaling_config=ScalingConfig(num_workers=config.workers, use_gpu=on_gpu),
        )
        trainer.fit()
    except Exception as error:
        raise UserError(f"--ray {config.ray}: {error}") from error
    finally:
        if began:
            ray.shutdown()
    return config.out / "model"


def _train_worker(options: dict[str, Any]) -> None:
    # Workers start in a directory of their own, where relative paths would lead nowhere.
    os.chdir(options["directory"])
    pretrain(options["config"])
