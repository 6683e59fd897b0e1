"""Clips that the mini VLM is trained on: puppets drawn in many looks, and clips of episode stores."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from genrl.data.store import Store
from genrl.envs.appearance import Appearance
from genrl.envs.rendering import Look, render_states
from genrl.infra.checkpoint import load_checkpoint, remove_leftovers, save_checkpoint
from genrl.infra.errors import UserError
from genrl.infra.progress import ProgressReport
from genrl.vlm.bodies import CONCEPTS, get_body, label_clips, measurements
from genrl.vlm.contrastive import LabelledClips

SHARD_CLIPS = 256
CLIP_FRAMES = 8
SIZE = 64
TEST_EPISODES = 10
"""Of every so many episodes of a store, the last is kept for testing."""


@dataclass(frozen=True)
class ClipSource:
    """How puppet clips are made.

    Attributes:
        domain: The body.
        look: Rendering look of the world model's data.
        own_look_share: Share of clips with the domain's own camera, colours and light; the rest have random ones.
        seed: Of everything drawn.
    """

    domain: str
    look: Look
    own_look_share: float
    seed: int


def make_puppet_clips(directory: Path, name: str, source: ClipSource, count: int, workers: int) -> list[Path]:
    """Draw puppet clips into shards `<name>_*`; shards that are there already are kept.

    Args:
        directory: Where the shards lie.
        name: Clips of another name are other clips.
        source: How they are made.
        count: How many clips.
        workers: Processes that draw.

    Returns:
        The shards.
    """
    directory.mkdir(parents=True, exist_ok=True)
    remove_leftovers(directory)
    shards = [directory / f"{name}_{index:04d}" for index in range(-(-count // SHARD_CLIPS))]
    missing = [(shard, index) for index, shard in enumerate(shards) if not shard.is_dir()]
    sizes = [min(SHARD_CLIPS, count - index * SHARD_CLIPS) for _, index in missing]
    jobs = [(shard, source, name, index, size) for (shard, index), size in zip(missing, sizes, strict=True)]
    done = len(shards) - len(missing)
    with ProgressReport(len(shards), done, f"drawing {name} clips", "shard") as progress:
        for number, _ in enumerate(_drawn(jobs, workers), done + 1):
            progress.advance(number)
    return shards


def _drawn(jobs: list[tuple[Path, ClipSource, str, int, int]], workers: int) -> Iterator[None]:
    """Do the jobs, yielding after each."""
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            _draw_shard(*job)
            yield
        return
    # Forked processes would share the parent's OpenGL state.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for future in [pool.submit(_draw_shard, *job) for job in jobs]:
            future.result()
            yield


def _draw_shard(shard: Path, source: ClipSource, name: str, index: int, count: int) -> None:
    body = get_body(source.domain)
    rng = np.random.default_rng([source.seed, index, *name.encode()])
    frames, positions, own_look = [], [], []
    for number in range(count):
        behaviour = body.puppets[(index * SHARD_CLIPS + number) % len(body.puppets)]
        qpos = body.puppet_clip(behaviour, CLIP_FRAMES, rng)
        own = bool(rng.random() < source.own_look_share)
        appearance = None if own else Appearance.random(rng)
        states = np.zeros((CLIP_FRAMES, body.state_size))
        states[:, : body.num_positions] = qpos
        frames.append(render_states(source.domain, states, source.look, SIZE, appearance))
        positions.append(qpos)
        own_look.append(own)
    _save_shard(shard, np.stack(frames), np.stack(positions), np.array(own_look))


def take_store_clips(
    directory: Path, name: str, stores: Sequence[Path], domain: str, count: int, test: bool, seed: int
) -> list[Path]:
    """Copy clips of episode stores into shards `<name>_*`, as evenly over the behaviours as they occur.

    Args:
        directory: Where the shards lie; nothing is done if there are some.
        name: Clips of another name are other clips.
        stores: Stores of that body with simulator states.
        domain: The body.
        count: At most so many clips.
        test: Take them from the episodes kept for testing, rather than from the others.
        seed: Of the draw.
    """
    shards = sorted(directory.glob(f"{name}_*"))
    if shards or not stores or not count:
        return shards
    body = get_body(domain)
    rng = np.random.default_rng(seed)
    candidates: list[tuple[int, int]] = []
    positions: list[np.ndarray] = []
    opened = [Store.open(path) for path in stores]
    for store_index, store in enumerate(opened):
        state = store.read("state", 0, store.num_frames)
        for number, (start, length) in enumerate(zip(store.episodes.start, store.episodes.length, strict=True)):
            if (number % TEST_EPISODES == TEST_EPISODES - 1) != test or length < CLIP_FRAMES:
                continue
            # Every fourth window is enough to choose from: neighbours are nearly the same.
            for first in range(int(start), int(start + length) - CLIP_FRAMES + 1, 4):
                candidates.append((store_index, first))
                positions.append(state[first : first + CLIP_FRAMES, : body.num_positions])
    if not candidates:
        return []
    qpos = np.stack(positions)
    chosen = _spread(label_clips(body, body.describe(qpos)), count, rng)
    frames = np.empty((len(chosen), CLIP_FRAMES, SIZE, SIZE, 3), np.uint8)
    for store_index, store in enumerate(opened):
        mine = [i for i, row in enumerate(chosen) if candidates[row][0] == store_index]
        store.read_into("frames", [candidates[chosen[i]][1] for i in mine], [frames[i] for i in mine])
    # In one rename: a killed process leaves all of them or none.
    shard = directory / f"{name}_0000"
    _save_shard(shard, frames, qpos[chosen], np.ones(len(chosen), bool))
    return [shard]


def load_clips(shards: Sequence[Path], domain: str) -> tuple[LabelledClips, np.ndarray]:
    """Label the clips of some shards of one body.

    Returns:
        The clips, their motion not yet standardised with a column for each of `measurements()`, and (N,) whether each
        is in the domain's own look.
    """
    loaded = [load_checkpoint(shard)[0] for shard in shards]
    qpos = torch.cat([tensors["qpos"] for tensors in loaded]).double().numpy()
    body = get_body(domain)
    measured = body.describe(qpos)
    unknown = np.full(len(qpos), np.nan)
    own = [measured.get(name, unknown) if kind == body.kind else unknown for kind, name in measurements()]
    clips = LabelledClips(
        frames=torch.cat([tensors["frames"] for tensors in loaded]),
        labels=label_clips(body, measured),
        motion=torch.from_numpy(np.stack(own, axis=1).astype(np.float32)),
    )
    return clips, torch.cat([tensors["own_look"] for tensors in loaded]).numpy()


def join_clips(parts: Sequence[LabelledClips]) -> LabelledClips:
    """The clips of several bodies as one."""
    return LabelledClips(
        torch.cat([part.frames for part in parts]),
        np.concatenate([part.labels for part in parts]),
        torch.cat([part.motion for part in parts]),
    )


def _spread(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Row numbers, at most `count`, drawn so that rare concepts are as frequent as common ones where possible."""
    chosen: list[int] = []
    taken = np.zeros(len(labels), bool)
    piles = [rng.permutation(np.flatnonzero(labels[:, column] == 1)) for column in range(len(CONCEPTS))]
    for depth in range(max((len(pile) for pile in piles), default=0)):
        for pile in piles:
            if depth < len(pile) and not taken[pile[depth]]:
                if len(chosen) == count:
                    return np.array(chosen)
                taken[pile[depth]] = True
                chosen.append(int(pile[depth]))
    return np.array(chosen, int)


def stores_by_domain(stores: Sequence[Path], domains: Sequence[str]) -> dict[str, list[Path]]:
    """The stores of each body.

    Raises:
        UserError: If a store is of another body or has no states.
    """
    found: dict[str, list[Path]] = {domain: [] for domain in domains}
    for path in stores:
        spec = Store.open(path).spec
        if spec.domain not in found:
            raise UserError(f"--data {path} holds {spec.domain}, not --domains {' '.join(domains)}: leave it out")
        if not spec.state_dim:
            raise UserError(f"--data {path} has no simulator states, which captions are made from: leave it out")
        found[spec.domain].append(path)
    return found


def _save_shard(shard: Path, frames: np.ndarray, qpos: np.ndarray, own_look: np.ndarray) -> None:
    tensors = {"frames": torch.from_numpy(frames), "qpos": torch.from_numpy(qpos.astype(np.float32))}
    save_checkpoint(shard, {**tensors, "own_look": torch.from_numpy(own_look)}, {})
