"""Pictures of simulator states.

Two looks. `paper` is what the original was trained on: four samples per pixel, shadows. `fast` has neither, and draws
the walker about five times faster without a graphics card; reflections stay. Models see one look only, so it is
recorded with data and checkpoints.
"""

from __future__ import annotations

import atexit
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType
from typing import Any, Literal, Self, get_args

import mujoco
import numpy as np

from genrl.envs.appearance import Appearance, Paint
from genrl.envs.domain import Domain, FreeCamera, get_domain
from genrl.envs.gl import require_gl
from genrl.envs.physics import set_state, state_size
from genrl.envs.tasks import TASKS
from genrl.infra.errors import UserError
from genrl.infra.process import end_with_parent

Look = Literal["paper", "fast"]

_MAX_SIZE = 1024
_CHUNK = 256
"""States that one process draws at a time."""


def check_look(look: str) -> None:
    """Raises UserError for a look that does not exist."""
    if look not in get_args(Look):
        raise UserError(f"unknown look {look!r}: choose from {', '.join(get_args(Look))}")


class StateRenderer:
    """Draws the states of one body in one look; by the name of a task, on that task's floor.

    It has a model of its own, so that looks and appearances never touch a simulation. Each size of picture has its own
    OpenGL context, made on first use and kept, because making one costs as much as drawing many frames.
    """

    _shared: dict[tuple[str, str], StateRenderer] = {}

    def __init__(self, name: str, look: Look) -> None:
        check_look(look)
        require_gl()
        self._domain, model = _domain_and_model(name)
        physics = self._domain.load(model)
        self._physics = physics
        self._model: mujoco.MjModel = physics.model.ptr
        self._look = look
        # Quality is read when an OpenGL context is made, so it must be set before the first picture.
        self._model.vis.global_.offwidth = self._model.vis.global_.offheight = _MAX_SIZE
        if look == "fast":
            self._model.vis.quality.offsamples = 0
        self._contexts: dict[tuple[int, bool], mujoco.Renderer] = {}
        camera = self._domain.camera
        self._camera = _free_camera(camera) if isinstance(camera, FreeCamera) else self._model.camera(camera).id
        self._paint: Paint | None = None
        atexit.register(self.close)  # before Python takes the OpenGL library away from the contexts

    @classmethod
    def shared(cls, name: str, look: Look) -> StateRenderer:
        """The one renderer of this process for that body or task and look; tasks with the body's model share it."""
        model = _domain_and_model(name)[1]
        if (model, look) not in cls._shared:
            cls._shared[model, look] = cls(model, look)
        return cls._shared[model, look]

    def render(self, states: np.ndarray, size: int = 64, appearance: Appearance | None = None) -> np.ndarray:
        """Draws (N, S) states as (N, size, size, 3) uint8.

        Raises:
            UserError: For a size or states that do not fit, or another appearance where the camera follows no body.
        """
        if not 1 <= size <= _MAX_SIZE:
            raise UserError(f"size must lie in [1, {_MAX_SIZE}], got {size}")
        num = state_size(self._model)
        if np.shape(states)[1:] != (num,):
            raise UserError(f"states of {self._domain.name} have {num} numbers, got {np.shape(states)}")
        renderer = self._context(size, appearance)
        frames = np.empty((len(states), size, size, 3), np.uint8)
        for i, state in enumerate(states):
            set_state(self._physics, state)
            renderer.update_scene(self._physics.data.ptr, self._camera)
            renderer.render(out=frames[i])
        return frames

    def close(self) -> None:
        """Frees the OpenGL contexts; the next picture makes new ones."""
        while self._contexts:
            self._contexts.popitem()[1].close()

    def _context(self, size: int, appearance: Appearance | None) -> mujoco.Renderer:
        if appearance is not None and self._paint is None:
            if self._domain.tracked_body is None:
                raise UserError(f"{self._domain.name} has no other looks than its own two: leave the appearance out")
            self._paint = Paint(self._model, self._camera)
        if self._paint is not None:
            self._paint.apply(appearance)
        key = (size, appearance is not None)  # a painted sky has another size, which a context cannot change
        if key not in self._contexts:
            renderer = mujoco.Renderer(self._model, size, size)
            if self._look == "fast":
                renderer.scene.flags[int(mujoco.mjtRndFlag.mjRND_SHADOW)] = False
            self._contexts[key] = renderer
        if appearance is not None:
            assert self._paint is not None
            self._paint.upload(self._contexts[key])
        return self._contexts[key]


def _domain_and_model(name: str) -> tuple[Domain, str]:
    """The domain of a body or task, and the name that its model is loaded by."""
    domain = get_domain(TASKS[name].domain if name in TASKS else name)
    return domain, domain.model_of(name)


def _free_camera(camera: FreeCamera) -> mujoco.MjvCamera:
    view = mujoco.MjvCamera()
    view.type = mujoco.mjtCamera.mjCAMERA_FREE
    view.lookat[:] = camera.lookat
    view.distance, view.azimuth, view.elevation = camera.distance, camera.azimuth, camera.elevation
    return view


def render_states(
    name: str, states: np.ndarray, look: Look, size: int = 64, appearance: Appearance | None = None
) -> np.ndarray:
    """Draws simulator states.

    Args:
        name: The body, or a task of it; few tasks have another floor than the body.
        states: (N, S) positions, velocities, activations.
        look: `fast` or `paper`.
        size: Height and width in pixels.
        appearance: Other colours, light and camera than the model's own.

    Returns:
        (N, size, size, 3) uint8.

    Raises:
        UserError: For states of another body, an unknown domain or look, or when rendering does not work.
    """
    return StateRenderer.shared(name, look).render(np.asarray(states), size, appearance)


class RenderPool:
    """Worker processes that draw; each has an OpenGL context of its own. Use it as a context manager."""

    def __init__(self, name: str, look: Look, processes: int) -> None:
        if processes < 1:
            raise UserError(f"processes must be at least 1, got {processes}")
        require_gl()
        self._name, self._look, self._processes = name, look, processes
        # Forked processes would share the parent's OpenGL and OpenMP state, which breaks both.
        self._pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), end_with_parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def render(self, states: np.ndarray, size: int = 64) -> np.ndarray:
        """Draws (N, S) states as (N, size, size, 3) uint8, in order."""
        return np.concatenate(list(self.stream([states], size)))

    def stream(
        self, batches: Sequence[np.ndarray], size: int = 64, names: Sequence[str] | None = None
    ) -> Iterator[np.ndarray]:
        """Draws several batches of states at once and yields the frames of each, in order.

        Args:
            batches: (N, S) states each.
            size: Height and width in pixels.
            names: Body or task of each batch, where they differ from the pool's.
        """
        jobs: list[list[Any]] = []
        for states, name in zip(batches, names or [self._name] * len(batches), strict=True):
            chunks = [states[i : i + _CHUNK] for i in range(0, max(len(states), 1), _CHUNK)]
            jobs.append([self._pool.submit(render_states, name, chunk, self._look, size) for chunk in chunks])
        for futures in jobs:
            yield np.concatenate([future.result() for future in futures])


def parallel_render(name: str, states: np.ndarray, look: Look, processes: int, size: int = 64) -> np.ndarray:
    """As `render_states`, in several processes; worth it from some thousand states on."""
    with RenderPool(name, look, processes) as pool:
        return pool.render(states, size)
