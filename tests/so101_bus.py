"""LeRobot's own SO-101 classes without an arm: a motor bus and a camera in memory, and faults at any call.

The bus takes the place of `FeetechMotorsBus`; robots and teleoperators are LeRobot's. Its port says where it writes what happened, and what
fails: `PATH?read@5=lost,torque@2x9=overload` loses the fifth reading, and refuses the second to the tenth time when torque is to go off.
"""

import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lerobot.cameras import Camera, CameraConfig
from lerobot.robots.so_follower import so_follower
from lerobot.teleoperators.so_leader import so_leader
from lerobot.utils.decorators import check_if_not_connected
from lerobot.utils.errors import DeviceNotConnectedError

MOTORS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
SO101_KEYS = tuple(f"{motor}.pos" for motor in MOTORS)
IMAGE_SHAPE = (6, 5, 3)
LOST = "Failed to sync read 'Present_Position' on ids=[1, 2, 3, 4, 5, 6] after 1 tries. [TxRxResult] There is no status packet!"


class PacketLostError(Exception):
    """Of a library that does not derive its errors from Python's."""


def raised(kind, what):
    """The exception of this name."""
    return {
        "lost": ConnectionError(LOST),
        "late": TimeoutError(f"Timed out waiting for {what} after 200 ms."),
        "io": OSError(5, "Input/output error"),
        "packet": PacketLostError("checksum"),
        "overload": RuntimeError(f"Failed to write 'Torque_Enable' on {what} after 6 tries. [RxPacketError] Overload error!"),
        "dead": RuntimeError(f"{what} read thread is not running."),
        "key": KeyError("shoulder_pan"),
        "type": TypeError("unsupported operand type(s) for +: 'NoneType' and 'float'"),
    }.get(kind)


class Faults:
    """What fails: `EVENT@FIRST` or `EVENT@FIRSTxTIMES`, `=KIND`, with commas between."""

    def __init__(self, text=""):
        found = [re.fullmatch(r"(\w+)@(\d+)(?:x(\d+))?=(\w+)", part) for part in text.split(",") if part]
        self.planned = [(event, int(first), int(times or 1), kind) for event, first, times, kind in (match.groups() for match in found)]
        self.counts = Counter()

    def soon(self, text):
        """Add faults that count from now."""
        now = dict(self.counts)
        self.planned += [(event, first + now.get(event, 0), times, kind) for event, first, times, kind in Faults(text).planned]

    def of(self, event, what=""):
        """The kind of fault that this event has now, or None; raises it if it is an exception."""
        self.counts[event] += 1
        count = self.counts[event]
        kind = next((kind for name, first, times, kind in self.planned if name == event and first <= count < first + times), None)
        if (error := raised(kind, what)) is not None:
            raise error
        return kind


class Bus:
    """Motors that are at once where they are told to be."""

    def __init__(self, port, motors, calibration=None):
        path, _, faults = port.partition("?")
        self.port, self.motors, self.faults = port, motors, Faults(faults)
        self.positions = dict.fromkeys(motors, 0.0)
        self.torque = dict.fromkeys(motors, False)
        self.is_connected, self.is_calibrated = False, True
        self.log, self._path = [], Path(f"{path}.log") if path.startswith("/") else None

    def _note(self, event):
        self.log.append(event)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(f"{event}\n")

    def connect(self, handshake=True):
        self.is_connected = True

    @check_if_not_connected
    def disconnect(self, disable_torque=True):
        if disable_torque:
            self.disable_torque(num_retry=5)
        self.is_connected = False
        self._note("closed")

    @check_if_not_connected
    def sync_read(self, name, motors=None, *, normalize=True, num_retry=0):
        kind = self.faults.of("read")
        values = dict(self.positions)
        if kind == "nan":
            values["elbow_flex"] = float("nan")
        if kind == "missing":
            del values["elbow_flex"]
        return values

    @check_if_not_connected
    def sync_write(self, name, values, *, normalize=True, num_retry=0):
        self.faults.of("write")
        self.positions |= values
        self._note(f"goal {values['shoulder_pan']:.3f}")

    @check_if_not_connected
    def enable_torque(self, motors=None, num_retry=0):
        self.torque = dict.fromkeys(self.motors, True)

    @check_if_not_connected
    def disable_torque(self, motors=None, num_retry=0):
        """One motor after the other, as on a real bus: those behind one that refuses keep their torque."""
        for motor in list(self.motors) if motors is None else [motors]:
            self.faults.of("torque", motor)
            self.faults.of(motor, motor)
            self.torque[motor] = False
            self._note(f"off {motor}")

    @contextmanager
    def torque_disabled(self, motors=None):
        yield
        self.enable_torque()

    def configure_motors(self):
        pass

    def write(self, name, motor, value, **_):
        pass


@CameraConfig.register_subclass("faulty_camera")
@dataclass
class FaultyCameraConfig(CameraConfig):
    """See `FaultyCamera`; `faults` as in a port, of the event `frame`."""

    faults: str = ""


class FaultyCamera(Camera):
    """Gray, two-dimensional, none or no frames, and a cable that can be pulled."""

    def __init__(self, config):
        super().__init__(config)
        self.faults, self._is_on = Faults(config.faults), False

    @property
    def is_connected(self):
        return self._is_on

    @staticmethod
    def find_cameras():
        return []

    def connect(self, warmup=True):
        self._is_on = True

    def disconnect(self):
        if not self._is_on:
            raise DeviceNotConnectedError(f"{self} not connected.")
        self._is_on = False

    def read(self, color_mode=None):
        return self.read_latest()

    def async_read(self, timeout_ms=200):
        return self.read_latest()

    def read_latest(self, max_age_ms=500):
        kind = self.faults.of("frame", "FaultyCamera(/dev/video0)")
        if kind == "unplug":
            self._is_on = False
        if not self._is_on:
            raise DeviceNotConnectedError("FaultyCamera(/dev/video0) is not connected.")
        frame = np.zeros(IMAGE_SHAPE, np.uint8)
        return {"gray": frame[..., 0], "none": None, "float": frame / 255.0}.get(kind, frame)


def never(observation):
    """Who decides success where no person can."""
    return False


def install():
    """LeRobot's SO-101 classes get this bus, until the process ends."""
    so_follower.FeetechMotorsBus = so_leader.FeetechMotorsBus = Bus
