"""Which OpenGL MuJoCo shall use. MuJoCo reads the choice once, when it is imported."""

import ctypes.util
import importlib
import os
import sys

VARIABLE = "MUJOCO_GL"
READS_IT = "mujoco.rendering.classic.gl_context"


def choose_gl_platform() -> str | None:
    """Set ``MUJOCO_GL`` where nobody has: EGL, else OSMesa, else none, on Linux without a display; returns the value then in force.

    Without it MuJoCo takes GLFW, which fails without a display, and a second attempt in the same process aborts it (MuJoCo 3.8).
    """
    has_display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if sys.platform == "linux" and not has_display and not os.environ.get(VARIABLE):
        found = [name for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")) if ctypes.util.find_library(library)]
        os.environ[VARIABLE] = found[0] if found else "disable"
    return os.environ.get(VARIABLE)


def apply_gl_platform() -> None:
    """Choose, and let a MuJoCo that is imported already read the choice: LeRobot imports all plugins first, and another arm's may have done so."""
    choose_gl_platform()
    if READS_IT in sys.modules:
        importlib.reload(sys.modules[READS_IT])
