"""`genrl embed`: embed the clip that ends at every frame of a store, and keep the embeddings in it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from genrl.data.store import EmbeddingInfo, EmbeddingWriter, Store, find_stores
from genrl.infra.compute import DeviceName, pick_device
from genrl.infra.errors import UserError
from genrl.infra.progress import ProgressReport
from genrl.vlm.protocol import VideoLanguageModel
from genrl.vlm.registry import Dtype, load_vlm, vlm_source


@dataclass(frozen=True)
class EmbedConfig:
    """Adds a video-language model's embedding of every clip to stores. Run again it goes on."""

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


def embed(config: EmbedConfig) -> list[Path]:
    """Embed all stores and return them.

    Raises:
        UserError: If there is no store or no such model, or a store has embeddings from other weights.
    """
    stores = find_stores(config.data)
    if not stores:
        raise UserError("no episode store was named; pass --data STORE")
    model = load_vlm(config.vlm, pick_device(config.device), config.dtype, config.frames)
    source = vlm_source(config.vlm)
    info = EmbeddingInfo(model.name, model.embed_dim, model.frames_per_clip, model.checksum, source)
    for path in stores:
        store = Store.open(path)
        # Before anything is written to any store.
        if model.name in store.embeddings and not config.fresh and store.embedding_info(model.name) != info:
            was = store.embedding_info(model.name)
            raise UserError(
                f"{path} has embeddings {model.name!r} from other weights (checksum {was.checksum} with "
                f"{was.frames_per_clip} frames, now {model.checksum} with {model.frames_per_clip}); "
                "--fresh computes them anew"
            )
    for path in stores:
        store = Store.open(path)
        whole = store.num_frames and store.embedded_rows(model.name) == store.num_frames
        if not config.fresh and whole and store.embedding_info(model.name).source == source:
            print(f"{path}: embeddings {model.name!r} are complete", file=sys.stderr)
        else:
            _embed_store(path, model, info, config.fresh)
    return stores


def _embed_store(path: Path, model: VideoLanguageModel, info: EmbeddingInfo, fresh: bool) -> None:
    with EmbeddingWriter(path, info, fresh) as writer:
        store = Store.open(path)
        with ProgressReport(writer.num_rows, writer.done_rows, f"embedding {path}", "frame") as progress:
            while writer.done_rows < writer.num_rows:
                start = writer.done_rows
                stop = min((start // writer.shard_frames + 1) * writer.shard_frames, writer.num_rows)
                writer.write(start, embed_rows(store, model, start, stop))
                progress.advance(stop)


def embed_rows(store: Store, model: VideoLanguageModel, start: int, stop: int) -> np.ndarray:
    """Embeddings of the rows `start` to `stop` (exclusive) of a store, (stop - start, E) float16.

    A row's clip ends there and lies within its episode; rows without a whole clip are zero.
    """
    rows = np.zeros((stop - start, model.embed_dim), np.float16)
    episode_start, length = np.asarray(store.episodes.start), np.asarray(store.episodes.length)
    for index in np.flatnonzero((episode_start < stop) & (episode_start + length > start)):
        begin, end = int(episode_start[index]), int(episode_start[index] + length[index])
        # Frames before the first row wanted complete its clip.
        first = max(begin, start - model.frames_per_clip + 1)
        last = min(end, stop)
        frames = torch.from_numpy(store.read("frames", first, last))
        embedded = model.embed_frames_sliding(frames).cpu().numpy()
        wanted = max(begin, start)
        rows[wanted - start : last - start] = embedded[wanted - first :]
    return rows
