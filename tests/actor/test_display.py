"""Live pictures through LeRobot's own viewers."""

import socket

import numpy as np
import pytest

from lerobot_serl.actor.display import Display, DisplaySettings

OBSERVATION = {"elbow.pos": 0.1, "front": np.zeros((32, 32, 3), np.uint8)}


def is_open(port):
    with socket.socket() as probe:
        probe.settimeout(2.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_viewer_is_there_before_the_first_tick():
    port = free_port()
    display = Display(DisplaySettings(display_data=True, display_mode="foxglove", display_port=port))
    assert not is_open(port)
    display.start()
    assert is_open(port)
    for _ in range(3):
        display.show(OBSERVATION, {"elbow.pos": 0.2})
    display.close()
    display.close()


def test_nothing_starts_without_the_flag():
    port = free_port()
    display = Display(DisplaySettings(display_mode="foxglove", display_port=port))
    display.start()
    display.show(OBSERVATION, {"elbow.pos": 0.2})
    assert not display.on
    assert not is_open(port)
    display.close()


def test_an_unknown_viewer_is_named():
    with pytest.raises(ValueError, match=r"--display_mode=paint: expected one of rerun, foxglove"):
        DisplaySettings(display_mode="paint")
