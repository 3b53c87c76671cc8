"""Rendering without a display."""

import subprocess
import sys

import pytest


def opengl_platform():
    """Return a platform that renders without a display; osmesa first, as it is the one with traps. Else skip."""
    for platform in ("osmesa", "egl"):
        probe = f"import os; os.environ['MUJOCO_GL'] = '{platform}'; import mujoco; mujoco.GLContext(8, 8).free()"
        if subprocess.run([sys.executable, "-c", probe], capture_output=True, timeout=300, check=False).returncode == 0:
            return platform
    pytest.skip("no OpenGL library for rendering without a display (libegl1 or libosmesa6)")
