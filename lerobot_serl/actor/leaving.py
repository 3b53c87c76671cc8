"""Leaving a robot or a teleoperator: torque at the end, and what to do when `disconnect` refuses."""

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from .deferred_signals import deferred_signals
from .device_parts import is_bus, is_camera, is_connected, is_device, moving_parts, parts
from .said import quoted

TORQUE = "disable_torque_on_disconnect"
# For each motor.
TRIES = 3


class StillPowered(RuntimeError):  # noqa: N818
    """Motors may still be under torque. To be said last of all."""


def torque_at_the_end(device: Any, role: str) -> str:
    """What happens to a device's torque when the process ends, in a sentence.

    Args:
        role: "robot" or "teleop", as in the flags.
    """
    goes_off = dict(_torque_settings(getattr(device, "config", None), f"--{role}"))
    if not goes_off:
        return f"Torque of {device.name} at the end: not known, since its configuration has no {TORQUE}. Support what may fall."
    kinds = {True: "goes off, and what is not supported falls", False: "stays on, at the last target"}
    if len(set(goes_off.values())) > 1:
        rows = [f"{flag}={str(value).lower()}: {kinds[value]}" for flag, value in goes_off.items()]
        return f"Torque of {device.name} at the end: {'; '.join(rows)}."
    value = next(iter(goes_off.values()))
    others = " ".join(f"{flag}={str(not value).lower()}" for flag in goes_off)
    return f"Torque of {device.name} at the end: {kinds[value]} ({others} changes that)."


def has_motors(device: Any) -> bool:
    """Whether a device can be under torque: every robot, and a teleoperator that shows it."""
    is_robot = hasattr(type(device), "get_observation")
    return is_robot or hasattr(type(device), "enable_torque") or any(is_bus(part) for part in moving_parts(device))


def leave(device: Any, has_been_connected: bool = True) -> None:
    """Disconnect a device, whether it says that it is connected or not; where it refuses or fails, its parts one by one.

    Args:
        has_been_connected: False after a `connect` that failed: what is not connected then never was.

    Raises:
        StillPowered: motors may still be under torque.
    """
    release = _Release(device, has_been_connected)
    try:
        with deferred_signals():
            release.run()
    finally:  # an interrupt that was held back comes now
        if release.powered:
            motors = f"its motors ({', '.join(release.powered)})" if all(release.powered) else "its motors"
            raise StillPowered(
                f"{device.name} could not be disconnected ({release.reason}): {motors} may still be under torque. "
                "Support the arm and switch its power off."
            )
        if release.reason and has_been_connected:
            logging.warning(f"{device.name}: disconnect() failed ({release.reason}); its parts were disconnected one by one.")


def close_all(closers: Sequence[Callable[[], object]]) -> None:
    """Call each, whatever the others raise.

    Raises:
        StillPowered: one of them did, after all others were called.
    """
    powered: list[str] = []
    for close in closers:
        try:
            close()
        except StillPowered as error:
            powered.append(str(error))
        except (Exception, KeyboardInterrupt) as error:
            logging.warning(f"While stopping: {error or type(error).__name__}")
    if powered:
        raise StillPowered(" ".join(powered))


class _Release:
    """One attempt to disconnect a device.

    Attributes:
        powered: names of the motors that may still be under torque; [""] stands for all of them.
        reason: why the device's own `disconnect` failed; empty if it did not.
    """

    def __init__(self, device: Any, has_been_connected: bool) -> None:
        self._device, self._has_been_connected = device, has_been_connected
        self._connected = {id(part) for part in moving_parts(device) if is_connected(part)}
        self.powered: list[str] = []
        self.reason = ""

    def run(self) -> None:
        said_connected = is_connected(self._device)
        try:
            self._device.disconnect()
        except (Exception, KeyboardInterrupt) as error:
            self.reason = quoted(error)
        if not self.reason and not said_connected and any(is_bus(part) and is_connected(part) for part in moving_parts(self._device)):
            self.reason = "it did nothing, since the device says that it is not connected"
        if not self.reason:
            return
        self.powered, knows_motors = self._parts(self._device)
        if self._has_been_connected and not knows_motors and has_motors(self._device):
            self.powered = [""]

    def _parts(self, owner: Any) -> tuple[list[str], bool]:
        """What may still be under torque of an owner's parts, and whether there are motors among them. Motors before cameras."""
        powered: list[str] = []
        knows_motors = False
        for name, part in sorted(parts(owner), key=lambda member: is_camera(member[1])):
            if is_bus(part):
                knows_motors = True
                powered += self._bus(name, part, bool(getattr(getattr(owner, "config", None), TORQUE, True)))
            elif is_device(part):
                knows_motors = True
                powered += self._arm(name, part)
            elif is_connected(part):
                _succeeds(part.disconnect)
        return powered, knows_motors

    def _arm(self, name: str, arm: Any) -> list[str]:
        if self._is_released(arm) or _succeeds(arm.disconnect):
            return []
        powered, knows_motors = self._parts(arm)
        return [f"{name} {motor}" for motor in powered] if knows_motors or not self._has_been_connected else [name]

    def _bus(self, name: str, bus: Any, torque_goes_off: bool) -> list[str]:
        """The whole, or else each motor by itself: one that refuses, in overload for example, must not keep the others under torque."""
        if self._is_released(bus):
            return []
        if not is_connected(bus):
            return [name] if self._has_been_connected else []
        takes_torque = _takes_torque(bus)
        if _succeeds(bus.disconnect, *([torque_goes_off] if takes_torque else [])):
            return []
        if not torque_goes_off:
            return [name]
        stiff = [str(motor) for motor in bus.motors if not any(_succeeds(bus.disable_torque, motor) for _ in range(TRIES))]
        if takes_torque:
            _succeeds(bus.disconnect, False)
        return stiff

    def _is_released(self, part: Any) -> bool:
        return id(part) in self._connected and not is_connected(part)


def _succeeds(call: Callable[..., object], *arguments: Any) -> bool:
    try:
        call(*arguments)
    except (Exception, KeyboardInterrupt) as error:
        logging.debug(f"{call}: {quoted(error)}")
        return False
    return True


def _takes_torque(bus: Any) -> bool:
    """Whether its `disconnect` is told if torque is to go off, as those of LeRobot's buses are."""
    try:
        return "disable_torque" in inspect.signature(bus.disconnect).parameters
    except (TypeError, ValueError):
        return False


def _torque_settings(config: Any, flag: str) -> Iterator[tuple[str, bool]]:
    """Flags and values of every setting on torque, also of arms within a robot."""
    named: Mapping[str, Any] = {}
    if is_dataclass(config):
        named = {field.name: getattr(config, field.name, None) for field in fields(config)}
    elif isinstance(config, Mapping):
        named = {str(key): value for key, value in config.items()}
    for name, value in named.items():
        if name == TORQUE and isinstance(value, bool):
            yield f"{flag}.{name}", value
        else:
            yield from _torque_settings(value, f"{flag}.{name}")
