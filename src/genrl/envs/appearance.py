"""Other colours, light and camera for a body: how videos of it are varied, without touching its motion."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Appearance:
    """How a body and its world look. The defaults are the model's own.

    Attributes:
        azimuth: Turn of the camera about the vertical through the body, degrees, counter-clockwise seen from above.
        elevation: Lift of the camera on a circle around the body, degrees.
        distance: Factor on the camera's distance from the body.
        body_color: Colour of the body, RGB in [0, 1].
        floor_color: Colour that the floor's pattern is multiplied with; above 1 it becomes brighter.
        sky_color: Colour that the sky is multiplied with.
        light_direction: Direction that the light shines in; it need not be of unit length.
        light_intensity: Factor on all lights.
    """

    azimuth: float = 0.0
    elevation: float = 0.0
    distance: float = 1.0
    body_color: Color | None = None
    floor_color: Color | None = None
    sky_color: Color | None = None
    light_direction: Color | None = None
    light_intensity: float = 1.0

    @classmethod
    def random(cls, random: np.random.Generator, strength: float = 1.0) -> Appearance:
        """A random appearance; `strength` 0 is close to the model's own, 1 varies everything widely."""

        def mixed(own: Color, low: float, high: float) -> Color:
            r, g, b = (1 - strength) * np.array(own) + strength * random.uniform(low, high, 3)
            return float(r), float(g), float(b)

        return cls(
            azimuth=float(strength * random.uniform(-40, 40)),
            elevation=float(strength * random.uniform(-12, 20)),
            distance=float(1 + strength * random.uniform(-0.15, 0.4)),
            body_color=mixed((0.7, 0.5, 0.3), 0.1, 1.0),
            floor_color=mixed((1.0, 1.0, 1.0), 0.3, 2.5),
            sky_color=mixed((1.0, 1.0, 1.0), 0.2, 1.8),
            light_direction=mixed((0.0, 0.0, -1.0), -0.7, 0.7)[:2] + (-1.0,),
            light_intensity=float(1 + strength * random.uniform(-0.35, 0.35)),
        )


class Paint:
    """Writes an appearance into a model, always starting from the model's own looks."""

    def __init__(self, model: mujoco.MjModel, camera: int) -> None:
        self._model = model
        self._camera = camera
        self._own = {name: np.array(getattr(model, name)) for name in _FIELDS}
        self._own_headlight = {name: np.array(getattr(model.vis.headlight, name)) for name in _LIGHT_PARTS}
        self._floor_materials = [
            model.geom_matid[geom] for geom in range(model.ngeom) if int(model.geom_type[geom]) == _PLANE
        ]
        self._body_materials = sorted({int(m) for m in model.geom_matid if m >= 0} - set(self._floor_materials))
        self._skies = [texture for texture in range(model.ntex) if int(model.tex_type[texture]) == _SKYBOX]
        self._small_skies: dict[int, np.ndarray] = {}
        self._current: Appearance | None = None

    def apply(self, appearance: Appearance | None) -> None:
        """Changes the model; None restores it."""
        if appearance == self._current:
            return
        for name, value in self._own.items():
            if name != "tex_data" or appearance is None:  # 11 MB; a new sky is painted over the old one anyway
                getattr(self._model, name)[:] = value
        for name, value in self._own_headlight.items():
            getattr(self._model.vis.headlight, name)[:] = value
        self._current = appearance
        if appearance is not None:
            self._move_camera(appearance)
            self._color(appearance)
            self._light(appearance)

    def upload(self, renderer: mujoco.Renderer) -> None:
        """Sends the sky to the graphics card; everything else is read from the model at each picture."""
        if renderer._gl_context:
            renderer._gl_context.make_current()
        for sky in self._skies:
            mujoco.mjr_uploadTexture(self._model, renderer._mjr_context, sky)

    def _move_camera(self, appearance: Appearance) -> None:
        model, camera = self._model, self._camera
        axes = self._own["cam_mat0"][camera].reshape(3, 3)
        turn = _rotation(np.array([0.0, 0.0, 1.0]), appearance.azimuth)
        lift = _rotation(axes[:, 0], -appearance.elevation)
        moved = turn @ lift
        offset = self._own["cam_poscom0"][camera]
        model.cam_mat0[camera] = (moved @ axes).ravel()
        model.cam_poscom0[camera] = moved @ offset * appearance.distance

    def _color(self, appearance: Appearance) -> None:
        model = self._model
        if appearance.body_color is not None:
            model.mat_rgba[self._body_materials, :3] = appearance.body_color
        if appearance.floor_color is not None:
            model.mat_rgba[self._floor_materials, :3] = appearance.floor_color
        for sky in self._skies:
            self._paint_sky(sky, appearance.sky_color or (1.0, 1.0, 1.0))

    def _paint_sky(self, sky: int, color: Color) -> None:
        """Sky of fewer pixels, so that a new one can be sent for every clip: the full one takes 200 ms."""
        model = self._model
        start, width, height = (int(self._own[name][sky]) for name in ("tex_adr", "tex_width", "tex_height"))
        if sky not in self._small_skies:
            sides = self._own["tex_data"][start : start + height * width * 3].reshape(-1, width, width, 3)
            block = max(1, width // _SKY_SIZE)
            side = width // block
            blocks = sides[:, : side * block, : side * block].reshape(-1, side, block, side, block, 3)
            self._small_skies[sky] = blocks.mean((2, 4))
        small = np.clip(self._small_skies[sky] * np.array(color), 0, 255).round().astype(np.uint8)
        model.tex_width[sky], model.tex_height[sky] = small.shape[1], small.shape[0] * small.shape[1]
        model.tex_data[start : start + small.size] = small.ravel()

    def _light(self, appearance: Appearance) -> None:
        model = self._model
        if appearance.light_direction is not None:
            direction = np.array(appearance.light_direction)
            model.light_dir0[:] = model.light_dir[:] = direction / np.linalg.norm(direction)
        for name in ("light_diffuse", "light_ambient"):
            getattr(model, name)[:] *= appearance.light_intensity
        for name in _LIGHT_PARTS:
            getattr(model.vis.headlight, name)[:] *= appearance.light_intensity


_FIELDS = (
    "cam_mat0",
    "cam_poscom0",
    "mat_rgba",
    "tex_adr",
    "tex_data",
    "tex_height",
    "tex_width",
    "light_dir",
    "light_dir0",
    "light_diffuse",
    "light_ambient",
)
_LIGHT_PARTS = ("ambient", "diffuse")
_SKYBOX = int(mujoco.mjtTexture.mjTEXTURE_SKYBOX)
_SKY_SIZE = 80
_PLANE = int(mujoco.mjtGeom.mjGEOM_PLANE)


def _rotation(axis: np.ndarray, degrees: float) -> np.ndarray:
    matrix, quaternion = np.empty(9), np.empty(4)
    mujoco.mju_axisAngle2Quat(quaternion, axis, np.deg2rad(degrees))
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)
