"""`genrl embed`: embed the clip that ends at every frame of a store, and keep the embeddings in it."""

from __future__ import annotations

import contextlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from genrl.data.embedding_parts import EmbeddingParts
from genrl.data.store import EmbeddingInfo, EmbeddingWriter, Store, find_stores
from genrl.infra.compute import DeviceName, pick_device
from genrl.infra.errors import UserError
from genrl.infra.progress import ProgressReport
from genrl.run.embed_workers import (
    Compute,
    Rows,
    WorkerConfig,
    embedding_info,
    in_processes,
    in_this_process,
    on_ray,
)
from genrl.vlm.registry import Dtype, load_vlm, vlm_source


@dataclass(frozen=True)
class EmbedConfig:
    """Adds a video-language model's embedding of every clip to stores. Run again it goes on.

    Workers compute whole shards; whoever computes them, the embeddings are the same. Over several machines either by
    hand, with --part 1/3, 2/3, 3/3 there and the command without --part at last, or with --ray.
    """

    data: tuple[Path, ...]
    """Episode stores, or directories of stores."""
    vlm: str = "mini"
    """A name (`genrl vlm list`), NAME=WHERE for another checkpoint (a directory or hub id), the directory of a trained
    mini VLM, or package:Class."""
    device: DeviceName = "auto"
    fresh: bool = False
    """Embed anew, whatever the stores hold."""
    dtype: Dtype = "float32"
    """Precision of the computation; bfloat16 is faster on a GPU."""
    frames: int | None = None
    """Frames of a clip, where the model leaves them open (by default as many as it was trained with, or 8)."""
    workers: int = 1
    """Processes, which take this machine's GPUs in turn; with --ray, actors."""
    threads: int = 1
    """CPU threads of each worker. Another number rounds differently in some last digits."""
    part: str | None = None
    """Compute the I-th of N parts of each store alone, I/N, and leave it in STORE.parts: copied beside the store, the
    parts are taken up by the same command without --part. The store itself is not written."""
    ray: str | None = None
    """Compute on a Ray cluster: its address, `auto` for the one this machine belongs to, or `local`."""

    def __post_init__(self) -> None:
        if self.workers < 1 or self.threads < 1:
            raise ValueError(f"--workers and --threads must be at least 1, got {self.workers} and {self.threads}")
        if self.part is not None:
            part_of(self.part)


def embed(config: EmbedConfig) -> list[Path]:
    """Embed all stores, or the asked part of them, and return them.

    Raises:
        UserError: If there is no store or no such model, or a store has embeddings from other weights.
    """
    stores = find_stores(config.data)
    if not stores:
        raise UserError("no episode store was named; pass --data STORE")
    alone = config.workers == 1 and config.ray is None
    model = load_vlm(config.vlm, pick_device(config.device) if alone else "cpu", config.dtype, config.frames)
    info = embedding_info(model, vlm_source(config.vlm))
    for path in stores:
        # Before anything is written to any store.
        refuse_other_weights(Store.open(path), info, config.fresh)
    unfinished = [path for path in stores if not _complete(path, info, config)]
    workers = WorkerConfig(info, config.device, config.dtype, config.threads)
    with contextlib.ExitStack() as stack:
        if unfinished:  # Otherwise nobody needs to load anything.
            if config.ray is not None:
                compute = stack.enter_context(on_ray(workers, config.workers, config.ray))
            elif config.workers > 1:
                compute = stack.enter_context(in_processes(workers, config.workers))
            else:
                compute = stack.enter_context(in_this_process(workers, model))
        for path in unfinished:
            if config.part is None:
                _embed_store(path, info, config.fresh, compute)
            else:
                _embed_part(path, info, config, compute)
    return stores


def refuse_other_weights(store: Store, info: EmbeddingInfo, fresh: bool = False) -> None:
    """Raises UserError where a store has embeddings of the same name that other weights made, unless `fresh`."""
    if info.name in store.embeddings and not fresh and store.embedding_info(info.name) != info:
        was = store.embedding_info(info.name)
        raise UserError(
            f"{store.path} has embeddings {info.name!r} from other weights (checksum {was.checksum} with "
            f"{was.frames_per_clip} frames, now {info.checksum} with {info.frames_per_clip}); "
            "--fresh computes them anew"
        )


def part_of(part: str) -> tuple[int, int]:
    """(index from 0, number of parts) of a --part.

    Raises:
        ValueError: If it is not I/N with I in 1 ... N.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"--part must be I/N with I from 1 to N, such as 2/8, got {part!r}")
    return int(found[1]) - 1, int(found[2])


def _complete(path: Path, info: EmbeddingInfo, config: EmbedConfig) -> bool:
    """Whether there is nothing to compute; says so."""
    store = Store.open(path)
    if config.fresh or info.name not in store.embeddings or store.embedded_rows(info.name) < store.num_frames:
        return False
    if config.part is None and store.embedding_info(info.name).source != info.source:
        EmbeddingWriter(path, info).close()  # It records where the weights are now.
    EmbeddingParts(store, info).remove()
    print(f"{path}: embeddings {info.name!r} are complete", file=sys.stderr)
    return True


def _embed_store(path: Path, info: EmbeddingInfo, fresh: bool, compute: Compute) -> None:
    """Completes the column, with the parts that were computed elsewhere where they fit."""
    with EmbeddingWriter(path, info, fresh) as writer:
        # Opened under the writer's lock, so that they agree on what the store holds.
        store = Store.open(path)
        parts = EmbeddingParts(store, info)
        ranges = _shards(writer.done_rows, writer.num_rows, writer.shard_frames)
        shard_of = {rows: (rows[0] // writer.shard_frames * writer.shard_frames, rows[1]) for rows in ranges}
        # Looked up once: a part that is copied here meanwhile must not shift what is computed.
        present = {rows for rows in ranges if parts.has(*shard_of[rows])}
        computed = compute(path, [rows for rows in ranges if rows not in present])
        with ProgressReport(writer.num_rows, writer.done_rows, f"embedding {path}", "frame") as progress:
            for rows in ranges:
                if rows in present:
                    found = parts.read(*shard_of[rows])
                    # One that does not fit is computed out of turn.
                    embeddings = next(compute(path, [rows])) if found is None else found[rows[0] - shard_of[rows][0] :]
                else:
                    embeddings = next(computed)
                writer.write(rows[0], embeddings)
                progress.advance(rows[1])
        parts.remove()


def _embed_part(path: Path, info: EmbeddingInfo, config: EmbedConfig, compute: Compute) -> None:
    """Computes the shards of one part that neither the store nor an earlier run has."""
    assert config.part is not None
    index, count = part_of(config.part)
    store = Store.open(path)
    parts = EmbeddingParts(store, info)
    shards = _shards(0, store.num_frames, store.shard_frames)
    done_rows = 0 if config.fresh else store.embedded_rows(info.name)
    # Neighbours: the block that two of them share is computed once.
    mine = shards[index * len(shards) // count : (index + 1) * len(shards) // count]
    wanted = [rows for rows in mine if rows[1] > done_rows and (config.fresh or parts.read(*rows) is None)]
    frames = sum(stop - start for start, stop in wanted)
    with ProgressReport(frames, 0, f"embedding {path}, part {config.part}", "frame") as progress:
        for rows, embeddings in zip(wanted, compute(path, wanted), strict=True):
            parts.write(rows[0], embeddings)
            progress.advance(progress.done + rows[1] - rows[0])
    print(f"{path}: part {config.part} is in {parts.directory}", file=sys.stderr)


def _shards(start: int, stop: int, size: int) -> list[Rows]:
    """Ranges of rows from `start` to `stop`, cut where shards end."""
    cuts = [start, *range((start // size + 1) * size, stop, size), stop]
    return list(zip(cuts[:-1], cuts[1:], strict=True)) if start < stop else []
