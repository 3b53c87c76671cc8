"""Robots and teleoperators that cannot be made, connected or read: a sentence with the flag, whatever their drivers raise."""

import sys
from ctypes import ArgumentError
from dataclasses import dataclass

import numpy as np
import pytest
from lerobot.robots import RobotConfig
from lerobot.teleoperators import TeleoperatorConfig
from lerobot.teleoperators.gamepad import GamepadTeleopConfig
from lerobot.teleoperators.keyboard import KeyboardTeleopConfig
from small_robots import Leader, LeaderWithEvents

from lerobot_serl.actor.devices import DeviceError, action_keys, check_reading, connect, is_scripted, make_robot, make_teleop, type_flag
from lerobot_serl.stock_hardware import register_stock_hardware
from lerobot_serl.teleoperators.config_franka_sim_expert import FrankaSimExpertConfig

FLAG = "--teleop.type=hand"
ERRORS = [
    KeyError("shoulder_pan"), AttributeError("'NoneType' object has no attribute 'get_axis'"), ConnectionError("no status packet"),
    OSError("no such port"), RuntimeError("boom"), ImportError("no module named 'scservo_sdk'"), ValueError("bad id"), Exception(""),
]  # fmt: skip


class Failing(Leader):
    """Fails at one of its calls."""

    error: Exception = Exception()

    def connect(self, calibrate=True):
        raise self.error


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_a_driver_raises_while_it_connects_becomes_a_sentence(error):
    device = Failing(a=0.0)
    device.error = error
    with pytest.raises(DeviceError) as caught:
        connect(device, FLAG)
    said = str(caught.value)
    assert said.startswith(f"{FLAG} cannot be connected: {type(error).__name__}")
    assert str(error) in said
    assert "Is it plugged in" in said
    assert "\n" not in said
    assert ("(test_devices.py, line " in said) == isinstance(error, KeyError | AttributeError)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ArgumentError("KeyboardInterrupt")])
def test_ctrl_c_stays_what_it_is(error):
    device = Failing(a=0.0)
    device.error = error
    with pytest.raises(type(error)):
        connect(device, FLAG)


def test_a_device_that_asks_without_a_terminal_says_how_to_calibrate_it():
    device = Failing(a=0.0)
    device.error = EOFError("EOF when reading a line")
    with pytest.raises(DeviceError, match=r"it asks something, and there is no terminal. Calibrate it first: lerobot-calibrate"):
        connect(device, FLAG)


def test_a_gamepad_that_is_not_there_is_noticed_at_the_start(tmp_path):
    config = GamepadTeleopConfig(calibration_dir=tmp_path)
    teleop = make_teleop(config)

    def start():
        connect(teleop, type_flag(config))
        check_reading(teleop, type_flag(config))

    with pytest.raises(DeviceError, match=r"^--teleop.type=gamepad cannot be .*Is it plugged in"):
        start()


def test_lerobots_keyboard_gives_no_action(tmp_path):
    teleop = make_teleop(KeyboardTeleopConfig(calibration_dir=tmp_path))
    with pytest.raises(DeviceError, match=r"--teleop.type=keyboard does not say what it gives: AttributeError: .*'arm'.* keyboard_ee"):
        action_keys(teleop, "--teleop.type=keyboard")


def test_a_reading_that_fails_is_noticed_at_the_start():
    leader = Leader(a=0.0)
    leader.failure = KeyError("wrist")
    with pytest.raises(DeviceError, match=rf"{FLAG} cannot be read: KeyError: 'wrist' \(small_robots.py, line"):
        check_reading(leader, FLAG)
    events = LeaderWithEvents(a=0.0)
    events.get_teleop_events = lambda: {}["rb"]
    with pytest.raises(DeviceError, match=f"{FLAG} cannot be read: KeyError: 'rb'"):
        check_reading(events, FLAG)


@pytest.mark.parametrize("value", [None, "open", np.zeros(3)])
def test_a_reading_that_is_no_number_is_refused(value):
    with pytest.raises(DeviceError, match=f"{FLAG} gives .* for 'b', expected a number"):
        check_reading(Leader(a=1.0, b=value), FLAG)
    check_reading(Leader(a=np.float32(1.0), b=np.array(2.0)), FLAG)


def test_a_scripted_person_is_not_asked_before_its_time():
    class Scripted(Leader):
        scripted = True

    leader = Scripted(a=0.0)
    check_reading(leader, FLAG)
    assert leader.asked == 0
    assert is_scripted(leader)
    assert not is_scripted(Leader())
    assert is_scripted(make_teleop(FrankaSimExpertConfig()))


def test_the_scripted_expert_without_its_arm_keeps_its_own_words():
    config = FrankaSimExpertConfig(robot_id="another")
    with pytest.raises(DeviceError, match=r"^--teleop.type=franka_sim_expert: there is no simulated robot with the id 'another'"):
        connect(make_teleop(config), type_flag(config))


@pytest.mark.parametrize(("kind", "base"), [("robot", RobotConfig), ("teleop", TeleoperatorConfig)])
def test_a_type_is_named_as_it_was_typed(monkeypatch, kind, base):
    register_stock_hardware()
    names = {"robot": ("so100_follower", "so101_follower"), "teleop": ("so100_leader", "so101_leader")}[kind]
    config = base.get_choice_class(names[0])(port="/dev/null")
    for name in names:
        for typed in ([f"--{kind}.type={name}"], [f"--{kind}.type", name]):
            monkeypatch.setattr(sys, "argv", ["lerobot-serl-actor", *typed])
            assert type_flag(config) == f"--{kind}.type={name}"
    for typed in (f"--{kind}.type=koch_follower", f"--{kind}.type=", "--config_path=a.yaml"):
        monkeypatch.setattr(sys, "argv", ["lerobot-serl-actor", typed])
        assert type_flag(config) == f"--{kind}.type={config.type}"


@RobotConfig.register_subclass("serl_test_missing")
@dataclass
class MissingRobotConfig(RobotConfig):
    """Its class does not exist."""


def test_a_robot_that_cannot_be_made_is_named():
    with pytest.raises(DeviceError, match=r"^--robot.type=serl_test_missing cannot be made: .*MissingRobot"):
        make_robot(MissingRobotConfig())
