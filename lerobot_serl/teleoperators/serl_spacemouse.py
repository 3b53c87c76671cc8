"""A 3Dconnexion SpaceMouse behind LeRobot's `Teleoperator` interface: `--teleop.type=serl_spacemouse`.

As in SERL and HIL-SERL, touching the cap or a button is the takeover.
"""

from typing import Any

import numpy as np
from lerobot.teleoperators import Teleoperator
from lerobot.utils import DeviceNotConnectedError

from ..robots.gamepad_action import CLOSE, OPEN, STAY
from ..robots.uncalibrated import Uncalibrated
from .config_serl_spacemouse import SerlSpacemouseConfig
from .events import intervention_events
from .spacemouse_reader import Device, Reading, SpaceMouseReader

INSTALL = "serl_spacemouse needs pyspacemouse and hidapi: pip install 'pyspacemouse>=2,<3' and, on Debian, apt install libhidapi-hidraw0"
UDEV = (
    "If it is plugged in, your user may not read it. Put these two lines into /etc/udev/rules.d/99-spacemouse.rules, "
    "run `sudo udevadm control --reload && sudo udevadm trigger`, and plug it in again:\n"
    'KERNEL=="hidraw*", ATTRS{idVendor}=="256f", MODE="0660", TAG+="uaccess"\n'
    'KERNEL=="hidraw*", ATTRS{idVendor}=="046d", MODE="0660", TAG+="uaccess"'
)


class SerlSpacemouse(Uncalibrated, Teleoperator):
    """Displacements in -1..1, and the gripper.

    Actions: `delta_x` (forward), `delta_y` (left), `delta_z` (up), with `rotation` also `delta_rx`, `delta_ry`, `delta_rz`, and `gripper`;
    names, order and signs are configurable.
    """

    config_class = SerlSpacemouseConfig
    name = "serl_spacemouse"

    def __init__(self, config: SerlSpacemouseConfig) -> None:
        super().__init__(config)
        self.config = config
        self._reader: SpaceMouseReader | None = None
        self._gripper_position = self._open_position

    @property
    def action_features(self) -> dict[str, type]:
        return dict.fromkeys([*self.config.used_axes, *([self.config.gripper_key] if self.config.gripper_key else [])], float)

    @property
    def feedback_features(self) -> dict[str, type]:
        """The gripper's key, where the device gives its position."""
        return {self.config.gripper_key: float} if self.config.gripper_key and self.config.gripper_positions is not None else {}

    @property
    def is_connected(self) -> bool:
        return self._reader is not None and self._reader.is_alive

    def connect(self, calibrate: bool = True) -> None:
        """Open the device and read it from now on; does nothing if it is being read.

        Raises:
            ModuleNotFoundError: pyspacemouse is not installed.
            ConnectionError: there is no such device, or it may not be read.
            ValueError: `left_button` or `right_button` is no button of the device.
        """
        if self.is_connected:
            return
        self.disconnect()
        reader = SpaceMouseReader(self._open())
        n_buttons = len(reader.latest().buttons)
        for name in ("left_button", "right_button"):
            index = getattr(self.config, name)
            if not -n_buttons <= index < n_buttons:
                reader.close()
                raise ValueError(f"teleop.{name} is {index}, but the device has {n_buttons} buttons")
        self._reader, self._gripper_position = reader, self._open_position

    def get_action(self) -> dict[str, float]:
        """Return the cap's present position in -1..1, and the gripper's wish or position.

        Raises:
            DeviceNotConnectedError: `connect` has not been called.
            ConnectionError: the device was unplugged.
        """
        reading = self._reading()
        action = dict(zip(self.config.used_axes, self._displacement(reading).tolist(), strict=True))
        if self.config.gripper_key:
            action[self.config.gripper_key] = self._gripper(reading)
        return action

    def get_teleop_events(self) -> dict[str, Any]:
        """Return whether the person takes over now, under LeRobot's `TeleopEvents`; the device never ends an episode.

        Raises:
            DeviceNotConnectedError: `connect` has not been called.
            ConnectionError: the device was unplugged.
        """
        reading = self._reading()
        is_pushed = bool(np.linalg.norm(self._displacement(reading)) > self.config.intervention_threshold)
        return intervention_events(is_pushed or any(reading.buttons))

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        """Take the gripper's target over, until the next button; otherwise the first push would open a gripper that somebody else closed."""
        if self.config.gripper_positions is not None and self.config.gripper_key in feedback:
            self._gripper_position = float(feedback[self.config.gripper_key])

    def disconnect(self) -> None:
        """Close the device; calling it again does nothing."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    @property
    def _open_position(self) -> float:
        return 0.0 if self.config.gripper_positions is None else float(self.config.gripper_positions[0])

    def _open(self) -> Device:
        try:
            import pyspacemouse
        except ImportError as error:
            raise ModuleNotFoundError(INSTALL) from error
        ros = pyspacemouse.AxisConvention.ROS
        try:
            if self.config.path is not None:
                return pyspacemouse.open_by_path(self.config.path, axis_convention=ros)
            return pyspacemouse.open(device=self.config.device, axis_convention=ros)
        except AttributeError as error:  # what its HID library raises without libhidapi
            raise ModuleNotFoundError(INSTALL) from error
        except (RuntimeError, ValueError, OSError) as error:
            if isinstance(error.__cause__, AttributeError):
                raise ModuleNotFoundError(INSTALL) from error
            raise ConnectionError(f"no SpaceMouse can be opened: {error} {UDEV}") from error

    def _reading(self) -> Reading:
        if self._reader is None:
            raise DeviceNotConnectedError("SerlSpacemouse is not connected. Run `.connect()` first.")
        return self._reader.latest()

    def _displacement(self, reading: Reading) -> np.ndarray:
        """(3,) or (6,) in -1..1, 0 within the deadzone and continuous at its edge."""
        pushed = np.array([sign * reading.axes[axis] for axis, sign in self.config.used_axes.values()])
        deadzone = self.config.deadzone
        beyond = np.clip(np.abs(pushed) - deadzone, 0.0, 1.0 - deadzone) / (1.0 - deadzone)
        return np.sign(pushed) * beyond

    def _gripper(self, reading: Reading) -> float:
        """Both buttons together mean as much as none."""
        closes, opens = reading.buttons[self.config.left_button], reading.buttons[self.config.right_button]
        if self.config.gripper_positions is not None:
            if closes != opens:
                self._gripper_position = float(self.config.gripper_positions[int(closes)])
            return self._gripper_position
        return float(STAY if closes == opens else CLOSE if closes else OPEN)
