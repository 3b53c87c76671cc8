"""Reads a SpaceMouse in a thread of its own, so that the control loop always has the newest state and never waits for USB."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .config_serl_spacemouse import DEVICE_AXES

# The device reports at up to 125 Hz, translation and rotation in turn.
_IDLE_S = 0.002


class DeviceState(Protocol):
    """What pyspacemouse says about the device; it changes the same object again and again."""

    t: float
    x: float
    y: float
    z: float
    roll: float
    pitch: float
    yaw: float
    buttons: Sequence[int]


class Device(Protocol):
    """An open pyspacemouse device in nonblocking mode."""

    def read(self) -> DeviceState:
        """Take in one report if there is one, and return the state."""

    def close(self) -> None:
        """Release it."""


@dataclass(frozen=True)
class Reading:
    """The device at one moment.

    Attributes:
        axes: position of each of `DEVICE_AXES`, about -1 to 1.
        buttons: whether each button is pressed.
    """

    axes: dict[str, float]
    buttons: tuple[bool, ...]


class SpaceMouseReader:
    """Reads `device` until `close`, which also closes the device.

    Args:
        device: open; from here on only the reader's thread touches it.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._error: Exception | None = None
        self._is_closing = threading.Event()
        state = device.read()
        self._reading = _reading_of(state)
        self._thread = threading.Thread(target=self._read_on, args=(state.t,), name="spacemouse", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it still reads."""
        return self._thread.is_alive()

    def latest(self) -> Reading:
        """Return the newest state.

        Raises:
            ConnectionError: the device can no longer be read.
        """
        if self._error is not None:
            raise ConnectionError(f"the SpaceMouse can no longer be read ({self._error}); plug it in and connect again") from self._error
        return self._reading

    def close(self) -> None:
        """End the thread and close the device; calling it again does nothing."""
        self._is_closing.set()
        self._thread.join()

    def _read_on(self, last_report: float) -> None:
        try:
            while not self._is_closing.is_set():
                state = self._device.read()
                self._reading = _reading_of(state)
                if state.t == last_report:
                    self._is_closing.wait(_IDLE_S)
                last_report = state.t
        except Exception as error:  # the HID library raises its own type
            self._error = error
        finally:
            self._device.close()


def _reading_of(state: DeviceState) -> Reading:
    return Reading({axis: float(getattr(state, axis)) for axis in DEVICE_AXES}, tuple(bool(button) for button in state.buttons))
