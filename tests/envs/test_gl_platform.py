"""Which OpenGL is chosen, without loading any."""

import sys

import pytest

from lerobot_serl.envs import gl_platform
from lerobot_serl.envs.gl_platform import choose_gl_platform


@pytest.fixture
def headless(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    return monkeypatch


@pytest.mark.parametrize(("libraries", "expected"), [({"EGL", "OSMesa"}, "egl"), ({"OSMesa"}, "osmesa"), (set(), "disable")])
def test_without_a_display_the_first_library_found_is_taken(headless, libraries, expected):
    headless.setattr(gl_platform.ctypes.util, "find_library", lambda name: name if name in libraries else None)
    assert choose_gl_platform() == expected


def test_a_choice_is_respected(headless):
    headless.setenv("MUJOCO_GL", "osmesa")
    assert choose_gl_platform() == "osmesa"


def test_with_a_display_mujoco_decides(headless):
    headless.setenv("DISPLAY", ":0")
    assert choose_gl_platform() is None
