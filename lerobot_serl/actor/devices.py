"""Makes and connects robot and teleoperator. Drivers raise anything; here it becomes a sentence that names the flag, before anything moves."""

import sys
from collections.abc import Callable
from ctypes import ArgumentError
from typing import Any

from lerobot.robots import Robot, RobotConfig, make_robot_from_config
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig, make_teleoperator_from_config

from ..robots.gamepad_action import GRIPPER
from ..typed_flags import given
from .said import said

_LOOK = "Is it plugged in and switched on, are its cable and port right, and is its package installed?"


class DeviceError(RuntimeError):
    """A robot or teleoperator cannot be used. The message says which, why, and what to look at."""


def type_flag(config: RobotConfig | TeleoperatorConfig) -> str:
    """``--robot.type=so101_follower``, as it was typed: one class may have several types (so100, so101)."""
    kind, base = ("robot", RobotConfig) if isinstance(config, RobotConfig) else ("teleop", TeleoperatorConfig)
    typed = given(sys.argv[1:]).get(f"{kind}.type", "")
    is_it = typed in base.get_known_choices() and base.get_choice_class(typed) is type(config)
    return f"--{kind}.type={typed if is_it else config.type}"


def make_robot(config: RobotConfig) -> Robot:
    """The robot, not yet connected."""
    return _tried(type_flag(config), "cannot be made", lambda: make_robot_from_config(config))


def make_teleop(config: TeleoperatorConfig) -> Teleoperator:
    """The teleoperator, not yet connected."""
    return _tried(type_flag(config), "cannot be made", lambda: make_teleoperator_from_config(config))


def connect(device: Robot | Teleoperator, flag: str) -> None:
    """Connect; a device that wants to be calibrated asks in the terminal, as in LeRobot's own commands."""
    _tried(flag, "cannot be connected", device.connect)


def action_keys(teleop: Teleoperator, flag: str) -> list[str]:
    """Keys of its action, in order. LeRobot's gamepad and keyboard_ee describe a vector, whose entries have names."""
    features = _features(teleop, flag)
    return list(features["names"]) if _is_vector(features) else list(features)


def gripper_is_wish(teleop: Teleoperator, flag: str) -> bool:
    """Whether its gripper's number is a wish, 0 close, 1 stay, 2 open, as LeRobot's gamepad and keyboard_ee give it, and our SpaceMouse."""
    positions = getattr(getattr(teleop, "config", None), "gripper_positions", ())
    return GRIPPER in action_keys(teleop, flag) and (_is_vector(_features(teleop, flag)) or positions is None)


def _features(teleop: Teleoperator, flag: str) -> dict[str, Any]:
    features: dict[str, Any] = _tried(
        flag, "does not say what it gives", lambda: teleop.action_features, "Use a teleoperator made for an arm, as keyboard_ee."
    )
    return features


def _is_vector(features: dict[str, Any]) -> bool:
    return isinstance(features.get("names"), dict)


def is_scripted(teleop: Teleoperator) -> bool:
    """Whether it is a program instead of a person: it says ``scripted = True``."""
    return bool(getattr(teleop, "scripted", False))


def check_reading(teleop: Teleoperator, flag: str) -> None:
    """Read it once: a gamepad that is not there is noticed only then, and must not be at the first takeover.

    Raises:
        DeviceError: it cannot be read, or gives something else than numbers.
    """
    if is_scripted(teleop):  # looks at a simulation, and may count how often
        return
    reading = _tried(flag, "cannot be read", teleop.get_action)
    if callable(getattr(teleop, "get_teleop_events", None)):
        _tried(flag, "cannot be read", teleop.get_teleop_events)
    for key, value in reading.items():
        try:
            float(value)
        except (TypeError, ValueError) as error:
            raise DeviceError(
                f"{flag} gives {value!r:.80} for '{key}', expected a number. Use a teleoperator whose action is the robot's."
            ) from error


def _tried[Made](flag: str, what: str, call: Callable[[], Made], remedy: str = _LOOK) -> Made:
    try:
        return call()
    except EOFError as error:
        raise DeviceError(f"{flag} {what}: it asks something, and there is no terminal. Calibrate it first: lerobot-calibrate.") from error
    except ArgumentError:  # ctypes makes one of Ctrl-C
        raise
    except Exception as error:
        if type(error) is LookupError:  # of ours: a scripted expert without its simulated arm
            raise DeviceError(f"{flag}: {error}") from error
        raise DeviceError(f"{flag} {what}: {said(error)}. {remedy}") from error
