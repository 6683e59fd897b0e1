"""Choice of the OpenGL system that MuJoCo draws with."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from contextlib import suppress

from genrl.infra.errors import UserError, first_line

INSTALL_HINT = "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri (or libosmesa6 with MUJOCO_GL=osmesa)"
_EMPTY_WORLD = "<mujoco><worldbody><light/></worldbody></mujoco>"


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
        _choose_again()
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

        mujoco.Renderer(mujoco.MjModel.from_xml_string(_EMPTY_WORLD), 8, 8).close()
    except Exception as error:  # MuJoCo, PyOpenGL and ctypes each raise their own kinds here
        raise UserError(
            f"cannot render with MUJOCO_GL={os.environ.get('MUJOCO_GL')} ({first_line(error)}): {INSTALL_HINT}"
        ) from error


def load_triton() -> None:
    """Before MuJoCo loads Mesa: torch loads Triton where it is installed; after Mesa's LLVM that ends the process."""
    with suppress(ImportError):
        import triton  # noqa: F401


def gl_version() -> str:
    """What the OpenGL system calls itself, such as `4.5 (Compatibility Profile) Mesa 22.3.6`."""
    require_gl()
    import mujoco

    renderer = mujoco.Renderer(mujoco.MjModel.from_xml_string(_EMPTY_WORLD), 8, 8)
    from OpenGL import GL  # after MuJoCo, which tells PyOpenGL which system to speak to

    version = GL.glGetString(GL.GL_VERSION)
    renderer.close()
    return version.decode() if isinstance(version, bytes) else str(version)


def _choose_again() -> None:
    """MuJoCo reads MUJOCO_GL when it is imported; if the user's program has done that already, it reads it again."""
    for name in [name for name in sys.modules if name.startswith("mujoco.") and name.endswith(".gl_context")]:
        importlib.reload(sys.modules[name])


def _has_library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
