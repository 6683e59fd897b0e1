"""Minari data sets (https://minari.farama.org), by the Minari library itself.

Minari keeps T + 1 observations and T actions of an episode, action t taken at observation t. A store of the same
episode has T + 1 rows: the reset, with a zero action, then every action with the frame it led to. Nothing is lost
either way but the reward of the reset, which Minari has no room for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from genrl.data.episode import Array, Episode, StoreSpec
from genrl.infra.errors import UserError
from genrl.interop.actions import ActionUnits, after_frames, given_units
from genrl.interop.importing import (
    FoundEpisode,
    ImportOptions,
    Provenance,
    describe,
    fitted_frames,
    recorded_fps,
    rgb_frames,
)
from genrl.interop.original import CorruptEpisodeError
from genrl.interop.rate import frames_per_row

PIXELS, STATE = "pixels", "state"
"""Observations that we write, named as Gymnasium's `AddRenderObservation` does; read they may be of any name."""
PROVENANCE = "genrl"
"""Key of a data set's metadata under which the store's own description travels."""


class MinariSource:
    """Episodes of a Minari data set.

    Args:
        path: Directory of a data set, or the id of one in Minari's own directory.
        options: What the data do not tell.

    Raises:
        UserError: If there is no data set, it shows no images, or something is to be said about it.
    """

    def __init__(self, path: Path, options: ImportOptions) -> None:
        from minari import MinariDataset

        self.place = str(path)
        directory = _data_directory(path)
        try:
            self.data = MinariDataset(directory)
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise UserError(f"{path} is no Minari data set, or a damaged one ({error})") from error
        self.camera = _camera(self.data.observation_space, options.camera, path)
        self.origins = [f"{self.data.id}#{index}" for index in self.data.episode_indices]
        self.spec, self.units, self.every = _describe(self.data, self.camera, options, self.place)

    def read(self, index: int) -> FoundEpisode:
        """One episode.

        Raises:
            CorruptEpisodeError: If it cannot be used.
        """
        number = self.data.episode_indices[index]
        try:
            (found,) = self.data.iterate_episodes([number])
            (facts,) = self.data.storage.get_episode_metadata([number])
        except (OSError, ValueError, KeyError, TypeError, AssertionError, RuntimeError) as error:
            raise CorruptEpisodeError(f"the episode cannot be read ({error})") from error
        images = rgb_frames(np.asarray(_leaf(found.observations, self.camera)))
        frames, size = fitted_frames(images, self.spec.frame_size)
        steps = len(found.rewards)
        if len(frames) != steps + 1 or len(found.actions) != steps:
            raise CorruptEpisodeError(
                f"it has {len(frames)} observations, {len(found.actions)} actions and {steps} rewards; "
                "one more observation than actions is needed"
            )
        episode = Episode(
            frames=frames,
            action=after_frames(self._actions(np.asarray(found.actions))),
            reward=after_frames(np.asarray(found.rewards, np.float32).reshape(steps)),
            is_terminal=after_frames(np.asarray(found.terminations, bool).reshape(steps)),
            state=np.asarray(found.observations[STATE], np.float64) if self.spec.state_dim else None,
            prompt=str(facts.get("prompt", "")),
        )
        return FoundEpisode(episode, str(facts.get("source", f"minari:{self.data.id}")), size, self.every)

    def _actions(self, native: Array) -> Array:
        """(T, A) actions of a store."""
        space = self.data.action_space
        if isinstance(space, gym.spaces.Discrete):
            index = native.reshape(len(native)).astype(np.int64) - int(space.start)
            if ((index < 0) | (index >= space.n)).any():
                raise CorruptEpisodeError(f"actions are not among the {space.n} of the action space")
            return np.eye(int(space.n), dtype=np.float32)[index]
        return self.units.to_store(native.reshape(len(native), -1))


class MinariSink:
    """Writes episodes to a new Minari data set.

    Args:
        directory: Empty directory.
        name: The data set's id, such as `walker-v0`.
        spec: What the episodes share.
        lossless: Whether frames stay as they are; else they become JPEG, as is Minari's own default.
    """

    def __init__(self, directory: Path, name: str, spec: StoreSpec, lossless: bool) -> None:
        import minari
        from minari.dataset.minari_storage import MinariStorage

        self.spec, self.units = spec, ActionUnits.of(spec)
        spaces: dict[str, gym.Space[Any]] = {
            PIXELS: gym.spaces.Box(0, 255, (spec.frame_size, spec.frame_size, 3), np.uint8)
        }
        if spec.state_dim:
            spaces[STATE] = gym.spaces.Box(-np.inf, np.inf, (spec.state_dim,), np.float64)
        (directory / "data").mkdir(parents=True)
        self.storage = MinariStorage.new(
            directory / "data",
            observation_space=gym.spaces.Dict(spaces),
            action_space=_action_space(spec),
            data_format="hdf5",
            jpeg_encoding=not lossless,
        )
        self.storage.update_metadata(
            {
                "dataset_id": name,
                "minari_version": minari.__version__,
                "description": f"{spec.domain}, camera {spec.camera}, look {spec.look}",
                PROVENANCE: Provenance(spec, lossless).to_json(),
            }
        )
        self.origins: set[str] = set()

    def write(self, episode: Episode, source: str, origin: str) -> None:
        """Adds an episode of two rows or more.

        Raises:
            CorruptEpisodeError: If it has a single row, from which no action starts.
        """
        from minari.data_collector.episode_buffer import EpisodeBuffer

        if len(episode) < 2:
            raise CorruptEpisodeError("it has a single frame, so no action")
        action = episode.action[1:]
        ended = np.arange(len(action)) == len(action) - 1
        observations = {PIXELS: episode.frames} | ({} if episode.state is None else {STATE: episode.state})
        self.storage.update_episodes(
            [
                EpisodeBuffer(
                    observations=observations,
                    actions=action.argmax(axis=1) if self.spec.discrete else self.units.to_native(action),
                    rewards=episode.reward[1:],
                    terminations=episode.is_terminal[1:],
                    truncations=ended & ~episode.is_terminal[1:],
                )
            ]
        )
        facts = {"prompt": episode.prompt, "source": source, "origin": origin}
        self.storage.update_episode_metadata([facts], [len(self.origins)])
        self.origins.add(origin)


def check_id(name: str) -> None:
    """Refuse a name that Minari could not load a data set by.

    Raises:
        UserError: If it is one.
    """
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(name)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"--out {name}: a Minari data set is named like walker-v0, with a version at the end"
        ) from error


def _data_directory(path: Path) -> Path:
    for directory in (path / "data", path):
        if (directory / "metadata.json").is_file():
            return directory
    if path.exists():
        raise UserError(
            f"{path} holds no Minari data set (it has no data/metadata.json); name the directory that holds data/"
        )
    from minari.storage.datasets_root_dir import get_dataset_path

    local = get_dataset_path(str(path)) / "data"
    if not local.is_dir():
        raise UserError(
            f"{path} is neither a directory with a Minari data set nor the id of one that was downloaded "
            f"(`minari download {path}`)"
        )
    return local


def _camera(space: gym.Space[Any], wanted: str | None, path: Path) -> str:
    """Name of the image among the observations: empty where the observation itself is one, dots for nested ones."""
    images = dict(_images(space))
    if not images:
        raise UserError(f"{path} has no images among its observations ({space}); models read frames")
    if wanted is not None and wanted not in images:
        known = ", ".join(filter(None, images)) or "a single one without a name"
        raise UserError(f"--camera {wanted}: no such images in {path}; known: {known}")
    if wanted is None and len(images) > 1:
        raise UserError(f"{path} has several images; choose with --camera: {', '.join(images)}")
    return wanted if wanted is not None else next(iter(images))


def _images(space: gym.Space[Any], name: str = "") -> Iterable[tuple[str, gym.Space[Any]]]:
    if isinstance(space, gym.spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _images(inner, f"{name}.{key}" if name else key)
    elif isinstance(space, gym.spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3):
        yield name, space


def _leaf(observations: Any, name: str) -> Any:
    for key in filter(None, name.split(".")):
        observations = observations[key]
    return observations


def _describe(data: Any, camera: str, options: ImportOptions, place: str) -> tuple[StoreSpec, ActionUnits, int]:
    """What a store of the data holds, the units of their actions, and how many of their steps become one."""
    space, observations, metadata = data.action_space, data.observation_space, data.storage.metadata
    state = observations.spaces.get(STATE) if isinstance(observations, gym.spaces.Dict) else None
    state_dim = state.shape[0] if isinstance(state, gym.spaces.Box) and len(state.shape) == 1 else 0
    own = None
    if PROVENANCE in metadata:
        own = Provenance.from_json(metadata[PROVENANCE], f"{place}, metadata {PROVENANCE}").spec
    if isinstance(space, gym.spaces.Discrete):
        action_dim, units = int(space.n), ActionUnits(discrete=True)
    elif isinstance(space, gym.spaces.Box) and space.shape:
        action_dim = int(np.prod(space.shape))
        units = _units(space, own, options, place)
    else:
        raise UserError(f"{place} has actions of {space}; only Box and Discrete can be imported")
    domain = data.env_spec.id if data.env_spec is not None else data.id
    spec = describe(options, units, action_dim, state_dim, own, domain, camera or "observation", None, place)
    return spec, units, frames_per_row(recorded_fps(options, own, None, place), options.store_fps, place)


def _units(space: gym.spaces.Box, own: StoreSpec | None, options: ImportOptions, place: str) -> ActionUnits:
    given = given_units(options.action_low, options.action_high, int(np.prod(space.shape)))
    if given is not None:
        return given
    if own is not None:
        return ActionUnits.of(own)
    if not space.is_bounded():
        raise UserError(f"{place}: its action space has no bounds; pass --action-low and --action-high")
    return ActionUnits(tuple(map(float, space.low.reshape(-1))), tuple(map(float, space.high.reshape(-1))))


def _action_space(spec: StoreSpec) -> gym.Space[Any]:
    if spec.discrete:
        return gym.spaces.Discrete(spec.action_dim)
    low, high = spec.action_low or (-1.0,) * spec.action_dim, spec.action_high or (1.0,) * spec.action_dim
    return gym.spaces.Box(np.asarray(low, np.float32), np.asarray(high, np.float32), dtype=np.float32)
