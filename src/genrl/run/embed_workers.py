"""Who computes embeddings: this process, several of this machine, or those of a Ray cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch

from genrl.data.episode import Array, EmbeddingInfo
from genrl.data.store import Store
from genrl.infra.compute import DeviceName, pick_device, quiet_threads
from genrl.infra.errors import UserError
from genrl.infra.process import end_with_parent
from genrl.run.sliding import SlidingEmbedder
from genrl.vlm.protocol import VideoLanguageModel
from genrl.vlm.registry import Dtype, load_vlm

Rows = tuple[int, int]
Compute = Callable[[Path, Sequence[Rows]], Iterator[Array]]
"""(store, ranges of rows) -> the embeddings of each range, in order."""


@dataclass(frozen=True)
class WorkerConfig:
    """What every worker needs to know.

    Attributes:
        info: What the embeddings must be: its source is the `--vlm`, its clips have so many frames. A worker that finds
            other weights there refuses.
        device: auto, cpu or cuda.
        dtype: Precision of the computation.
        threads: CPU threads of a worker.
    """

    info: EmbeddingInfo
    device: DeviceName
    dtype: Dtype
    threads: int


def embedding_info(model: VideoLanguageModel, source: str) -> EmbeddingInfo:
    """What a column of this model's embeddings is; `source` is the `--vlm` that finds it again (`vlm_source`)."""
    return EmbeddingInfo(model.name, model.embed_dim, model.frames_per_clip, model.checksum, source)


class Worker:
    """One process's model, and the store it reads at present."""

    def __init__(self, config: WorkerConfig, number: int = 0, model: VideoLanguageModel | None = None) -> None:
        """Load the model, unless it is given, on the `number`-th GPU where there are several."""
        quiet_threads(config.threads)
        if model is None:
            device = pick_device(config.device)
            if device.type == "cuda":
                device = torch.device("cuda", number % torch.cuda.device_count())
            source = config.info.source
            model = load_vlm(source, device, config.dtype, config.info.frames_per_clip)
            if embedding_info(model, source) != config.info:
                raise UserError(
                    f"--vlm {source}: a worker has other weights under this name (checksum {model.checksum}, "
                    f"wanted {config.info.checksum}); give all machines the same"
                )
        self._model = model
        self._embedder: SlidingEmbedder | None = None

    def rows(self, path: Path, start: int, stop: int) -> Array:
        """As `SlidingEmbedder.rows`."""
        if self._embedder is None or self._embedder.store.path != path:
            self._embedder = SlidingEmbedder(Store.open(path), self._model)
        return self._embedder.rows(start, stop)


@contextlib.contextmanager
def in_this_process(config: WorkerConfig, model: VideoLanguageModel) -> Iterator[Compute]:
    """One after the other."""
    before = torch.get_num_threads()
    worker = Worker(config, model=model)
    try:
        yield lambda path, ranges: (worker.rows(path, *rows) for rows in ranges)
    finally:
        quiet_threads(before)


@contextlib.contextmanager
def in_processes(config: WorkerConfig, workers: int) -> Iterator[Compute]:
    """Several processes, which take the GPUs in turn.

    Raises:
        UserError: If one of them ends, for instance for want of memory.
    """
    # Its server has imported everything once and has touched no GPU.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(workers, context, _start_worker, (config, context.Value("i", 0)))
    try:
        yield lambda path, ranges: in_order(lambda rows: pool.submit(_rows, path, *rows), ranges, 2 * workers)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker has ended, perhaps for want of memory; the same command goes on (with fewer --workers)"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def on_ray(config: WorkerConfig, workers: int, address: str) -> Iterator[Compute]:
    """Actors of a Ray cluster, whose machines all see the store under its path.

    Args:
        config: Of every worker; with a GPU here, each actor asks for one.
        workers: Number of actors.
        address: Of the cluster, `auto` for the one this machine belongs to, `local` for one of its own.
    """
    import ray

    began = not ray.is_initialized()
    if began:
        ray.init(address=None if address == "local" else address, log_to_driver=False)
    on_gpu = pick_device(config.device).type == "cuda"
    actor: Any = ray.remote(num_cpus=config.threads, num_gpus=int(on_gpu))(Worker)
    actors = [actor.remote(config) for _ in range(workers)]
    turn = count()

    def submit(path: Path, rows: Rows) -> Future[Array]:
        return actors[next(turn) % workers].rows.remote(path, *rows).future()

    try:
        yield lambda path, ranges: in_order(lambda rows: submit(path.resolve(), rows), ranges, 2 * workers)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from error
        raise
    finally:
        for one in actors:
            ray.kill(one)
        if began:
            ray.shutdown()


def in_order(submit: Callable[[Rows], Future[Array]], ranges: Sequence[Rows], ahead: int) -> Iterator[Array]:
    """Results in the order of the ranges, at most `ahead` of them begun and not yet taken."""
    waiting: deque[Future[Array]] = deque()
    for rows in ranges:
        waiting.append(submit(rows))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_worker: Worker | None = None


def _start_worker(config: WorkerConfig, started: Any) -> None:
    global _worker
    end_with_parent()
    # Ctrl-C is for all processes of the terminal; a worker ends without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    _worker = Worker(config, number)


def _rows(path: Path, start: int, stop: int) -> Array:
    assert _worker is not None
    return _worker.rows(path, start, stop)
