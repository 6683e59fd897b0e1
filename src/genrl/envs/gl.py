"""Choice of the OpenGL system that MuJoCo draws with. It must be made before MuJoCo is first imported."""

from __future__ import annotations

import ctypes
import os
import sys

from genrl.infra.errors import UserError

INSTALL_HINT = "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri (or libosmesa6 with MUJOCO_GL=osmesa)"


def choose_gl() -> None:
    """Sets MUJOCO_GL where the user has not: on Linux EGL if its library is there, else OSMesa.

    Without a library nothing is set: simulation works, and rendering is refused by `require_gl`.
    """
    if "MUJOCO_GL" not in os.environ and sys.platform.startswith("linux"):
        if _has_library("libEGL.so.1"):
            os.environ["MUJOCO_GL"] = "egl"
        elif _has_library("libOSMesa.so.8") or _has_library("libOSMesa.so.6"):
            os.environ["MUJOCO_GL"] = "osmesa"
        else:
            os.environ["MUJOCO_GL"] = "disable"
    if os.environ.get("MUJOCO_GL") == "osmesa":
        os.environ.setdefault("PYOPENGL_PLATFORM", "osmesa")


def require_gl() -> None:
    """Draws one tiny picture to prove that rendering works.

    Raises:
        UserError: If it does not; the message names the packages to install.
    """
    choose_gl()
    if os.environ.get("MUJOCO_GL", "") in ("disable", "disabled", "off", "false", "0"):
        raise UserError(f"no OpenGL library for rendering (MUJOCO_GL={os.environ['MUJOCO_GL']}): {INSTALL_HINT}")
    try:
        import mujoco

        model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light/></worldbody></mujoco>")
        renderer = mujoco.Renderer(model, 8, 8)
        renderer.close()
    except Exception as error:  # MuJoCo, PyOpenGL and ctypes each raise their own kinds here
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"cannot render with MUJOCO_GL={os.environ.get('MUJOCO_GL')} ({reason}): {INSTALL_HINT}"
        ) from error


def _has_library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
