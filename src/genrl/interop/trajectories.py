"""Stores without their frames: what a simulator needs to draw them again, in a fiftieth of the space.

A file holds any number of stores. States, actions and rewards are rounded to fixed steps (`RESOLUTION`), and each
column is kept as differences from row to row, compressed. Frames are drawn from the states, in any look.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import Blosc

from genrl.data.episode import Array, Episode, StoreSpec
from genrl.data.store import Store
from genrl.data.writer import StoreWriter
from genrl.envs.domain import get_domain
from genrl.envs.rendering import Look, RenderPool
from genrl.envs.tasks import TASKS
from genrl.infra.checkpoint import atomic_path
from genrl.infra.errors import UserError

FORMAT = "genrl-trajectories-1"
RESOLUTION = {"position": 2e-4, "velocity": 1e-2, "activation": 2e-4, "action": 1 / 256, "reward": 1e-3}
"""Steps that numbers are rounded to: metres or radians, the same a second, the units of controls, actions, rewards."""
STATE = ("position", "velocity", "activation")
"""What a state is made of, in this order."""
EPISODES_PER_BATCH = 8
"""Episodes whose frames are held in memory at a time."""


@dataclass(frozen=True)
class PackedStore:
    """One store without frames.

    Attributes:
        name: Name of its directory.
        spec: What its episodes share; `look` is that of the frames that were left out.
        sources: Names of sources.
        source: (E,) index of each episode's source.
        length: (E,) rows of each episode.
        state: (N, S) float64 of the simulator.
        action: (N, A) float32.
        reward: (N,) float32.
        prompt: (E,) what each episode shows, in words; empty where files are older than that.
    """

    name: str
    spec: StoreSpec
    sources: tuple[str, ...]
    source: Array
    length: Array
    state: Array
    action: Array
    reward: Array
    prompt: tuple[str, ...] = ()


def pack_stores(paths: Sequence[Path], out: Path) -> int:
    """Writes the trajectories of stores to a file; returns its size in bytes.

    Stores of one name, as those of several runs are, get the names of the directories above them too.

    Raises:
        UserError: If a store keeps no simulator states.
    """
    arrays: dict[str, Any] = {}
    facts: list[dict[str, Any]] = []
    for number, (path, name) in enumerate(zip(paths, distinct_names(paths), strict=True)):
        store = Store.open(path)
        if not store.spec.state_dim:
            raise UserError(f"{path} keeps no simulator states, so that its frames could not be drawn again")
        rows = store.num_frames
        parts = np.split(store.read("state", 0, rows), _state_splits(store.spec), axis=1)
        columns = dict(zip(STATE, parts, strict=True)) | {
            "action": store.read("action", 0, rows),
            "reward": store.read("reward", 0, rows)[:, None],
        }
        arrays |= {
            f"{number}/{name}": _encode(values, RESOLUTION[name]) for name, values in columns.items() if values.size
        }
        arrays |= {f"{number}/source": store.episodes.source, f"{number}/length": store.episodes.length}
        words = {"sources": list(store.sources), "prompts": list(store.episodes.prompt)}
        facts.append({"name": name, "spec": dataclasses.asdict(store.spec)} | words)
    meta = json.dumps({"format": FORMAT, "resolution": RESOLUTION, "stores": facts})
    with atomic_path(out) as aside, aside.open("wb") as stream:
        np.savez(stream, meta=np.array(meta), **arrays)
    return out.stat().st_size


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """A name for each of several paths: its last part, and as many before it as tell it from the others."""
    parts = [path.resolve().parts[1:] for path in paths]  # without the root
    names = [own[-1] for own in parts]
    for depth in range(2, max(map(len, parts), default=0) + 1):
        names = [
            "-".join(own[-depth:]) if names.count(name) > 1 else name for own, name in zip(parts, names, strict=True)
        ]
    return names


def read_packed(file: Path) -> list[PackedStore]:
    """All stores of a file.

    Raises:
        UserError: If it is no such file, or a damaged one.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            meta = json.loads(str(arrays["meta"]))
            if meta.get("format") != FORMAT:
                raise UserError(f"{file} is no file of trajectories (`genrl data pack` makes one)")
            return [_read_store(arrays, number, facts, meta) for number, facts in enumerate(meta["stores"])]
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file} is no file of trajectories, or a damaged one (`genrl data pack` makes one)") from error


def draw_store(
    packed: PackedStore, out: Path, look: Look, workers: int, progress: Callable[[int], None] | None = None
) -> int:
    """Draws a store again; one that is there in part goes on. Returns its frames.

    Args:
        packed: What to draw.
        out: The store.
        look: How.
        workers: Processes that draw.
        progress: Called with the number of frames done.

    Raises:
        UserError: If `out` holds something else.
    """
    stop = np.cumsum(packed.length)
    with StoreWriter.open(out, dataclasses.replace(packed.spec, look=look)) as writer:
        done = writer.num_frames
        first = int(np.searchsorted(stop, done, side="right"))
        if done != (stop[first - 1] if first else 0):
            raise UserError(f"{out} holds other episodes than {packed.name}; choose another --out")
        if first == len(stop):
            return done
        with RenderPool(packed.spec.domain, look, workers) as pool:
            for begin in range(first, len(stop), EPISODES_PER_BATCH):
                batch = range(begin, min(begin + EPISODES_PER_BATCH, len(stop)))
                rows = [slice(int(stop[i] - packed.length[i]), int(stop[i])) for i in batch]
                names = [_drawn_as(packed, i) for i in batch]
                frames = pool.stream([packed.state[row] for row in rows], packed.spec.frame_size, names)
                for index, row, drawn in zip(batch, rows, frames, strict=True):
                    never = np.zeros(len(drawn), bool)
                    prompt = packed.prompt[index] if packed.prompt else ""
                    kept = packed.action[row], packed.reward[row], never, packed.state[row]
                    episode = Episode(drawn, *kept, prompt=prompt)
                    writer.add(episode, packed.sources[packed.source[index]])
                if progress is not None:
                    progress(int(stop[batch[-1]]))
    return int(stop[-1])


def _read_store(arrays: Any, number: int, facts: dict[str, Any], meta: dict[str, Any]) -> PackedStore:
    spec = dict(facts["spec"])
    bounds = {name: tuple(spec[name]) for name in ("action_low", "action_high")}
    resolution = meta["resolution"]
    # A column that would be empty is left out: few bodies have activations.
    names = [name for name in RESOLUTION if name != "activation" or f"{number}/{name}" in arrays]
    columns = {name: _decode(arrays[f"{number}/{name}"], resolution[name]) for name in names}
    return PackedStore(
        facts["name"],
        StoreSpec(**(spec | bounds)),
        tuple(facts["sources"]),
        arrays[f"{number}/source"],
        arrays[f"{number}/length"],
        np.concatenate([columns[name] for name in STATE if name in columns], axis=1),
        columns["action"].astype(np.float32),
        columns["reward"][:, 0].astype(np.float32),
        tuple(facts.get("prompts", ())),
    )


def _drawn_as(packed: PackedStore, episode: int) -> str:
    """Body or task whose floor an episode is drawn on: a source such as `expert_walker_run` names its task."""
    task = packed.sources[packed.source[episode]].partition("_")[2]
    return task if task in TASKS else packed.spec.domain


def _encode(values: Array, resolution: float) -> Array:
    """(N, C) numbers -> bytes: rounded, differences down each column, bit-shuffled, compressed."""
    steps = np.rint(np.asarray(values, np.float64) / resolution).astype(np.int64)
    differences = np.diff(steps, axis=0, prepend=0).astype(np.int32).T
    codec = Blosc(cname="zstd", clevel=9, shuffle=Blosc.BITSHUFFLE)
    body = codec.encode(np.ascontiguousarray(differences))
    return np.concatenate([np.frombuffer(np.int64(values.shape[1]).tobytes(), np.uint8), np.frombuffer(body, np.uint8)])


def _decode(data: Array, resolution: float) -> Array:
    """What `_encode` was given, rounded."""
    columns = int(np.frombuffer(data[:8].tobytes(), np.int64)[0])
    differences = np.frombuffer(Blosc().decode(data[8:].tobytes()), np.int32).reshape(columns, -1)
    return np.cumsum(differences.T.astype(np.int64), axis=0) * resolution


def _state_splits(spec: StoreSpec) -> tuple[int, int]:
    """Where the velocities and the activations of a state begin."""
    model = get_domain(spec.domain).load(spec.domain).model
    return int(model.nq), int(model.nq + model.nv)
