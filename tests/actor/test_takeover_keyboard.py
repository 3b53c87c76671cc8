"""LeRobot's own `keyboard_ee` takes over; only the window system's key events are scripted."""

import enum

import pytest
from lerobot.teleoperators.keyboard import KeyboardEndEffectorTeleop, KeyboardEndEffectorTeleopConfig, teleop_keyboard

from lerobot_serl.actor.controls import FAILURE, REDO, SUCCESS, Controls
from lerobot_serl.actor.settings import TakeoverConfig
from lerobot_serl.actor.takeover import Stage, Takeover
from lerobot_serl.actor.world import WorldError

STILL = {"delta_x": 0.0, "delta_y": 0.0, "delta_z": 0.0, "gripper": 1.0}


class ScriptedKeys:
    """In the place of `pynput.keyboard`, which cannot be imported without a display."""

    Key = enum.Enum("Key", "up down left right shift shift_r ctrl_r ctrl_l esc")

    class Listener:
        def __init__(self, on_press, on_release):
            self.alive = True

        def start(self):
            pass

        def stop(self):
            self.alive = False

        def is_alive(self):
            return self.alive


@pytest.fixture
def keyboard(monkeypatch, tmp_path):
    monkeypatch.setattr(teleop_keyboard, "PYNPUT_AVAILABLE", True)
    monkeypatch.setattr(teleop_keyboard, "keyboard", ScriptedKeys)
    monkeypatch.setattr(teleop_keyboard, "pynput_can_capture", lambda: True)
    teleop = KeyboardEndEffectorTeleop(KeyboardEndEffectorTeleopConfig(calibration_dir=tmp_path))
    teleop.connect()
    return teleop


def make(keyboard):
    controls = Controls()
    return Takeover(keyboard, controls, TakeoverConfig(), 0.1), controls


def test_a_movement_key_takes_over_for_as_long_as_it_repeats(keyboard):
    hand, _ = make(keyboard)
    assert hand.poll({}) is None
    for _ in range(20):  # a window system repeats a held key
        keyboard._on_press(ScriptedKeys.Key.left)
        assert hand.poll({}) == {**STILL, "delta_x": 1.0}
    assert hand.stage is Stage.PERSON
    keyboard._on_release(ScriptedKeys.Key.left)
    assert hand.poll({}) is None
    assert (hand.stage, hand.count) == (Stage.POLICY, 1)


def test_the_gripper_s_key_takes_over_too(keyboard):
    hand, _ = make(keyboard)
    keyboard._on_press(ScriptedKeys.Key.ctrl_l)
    assert hand.poll({}) == {**STILL, "gripper": 0.0}


@pytest.mark.parametrize(("key", "request_"), [("s", SUCCESS), ("r", REDO), ("q", FAILURE)])
def test_its_own_keys_end_the_episode_while_the_policy_moves_the_robot(keyboard, key, request_):
    hand, controls = make(keyboard)
    keyboard._on_press(type("KeyCode", (), {"char": key}))
    assert hand.poll({}) is None
    assert controls.take(SUCCESS, REDO, FAILURE) == request_


def test_escape_disconnects_it_and_it_does_not_answer_any_more(keyboard):
    hand, _ = make(keyboard)
    keyboard._on_release(ScriptedKeys.Key.esc)
    with pytest.raises(WorldError, match="The teleoperator keyboard_ee does not answer"):
        hand.poll({})
