"""A GELLO-style joint leader behind LeRobot's `Teleoperator` interface: `--teleop.type=serl_gello`. Needs hardware.

It only reads: the motors stay without torque. A takeover needs a key or pedal, because a leader that lies on the table moves nothing.
"""

import logging
import time
from typing import Any

import numpy as np
from lerobot.teleoperators import Teleoperator
from lerobot.utils import check_if_already_connected, check_if_not_connected

from ..lerobot_names import DynamixelMotorsBus, Motor, MotorCalibration, MotorNormMode, OperatingMode
from .config_serl_gello import SerlGelloConfig
from .joint_mapping import COUNTS_PER_TURN, GripperMapping, JointMapping

GRIPPER = "gripper"
_READ_RETRIES = 2
_LATE_ANSWER_S = 0.05

logger = logging.getLogger(__name__)


class SerlGello(Teleoperator):
    """Absolute joint positions (rad) and the gripper (0 to 1).

    The calibration holds the motors' counts in the home pose (`homing_offset`), and of the gripper the counts between open and closed
    (`range_min`, `range_max`; `drive_mode` 1 if closed is the smaller). It stays in LeRobot's file; nothing is written into the motors.

    Raises:
        ImportError: `dynamixel-sdk` is not installed.
        KeyError: LeRobot does not know the motor model.
    """

    config_class = SerlGelloConfig
    name = "serl_gello"

    def __init__(self, config: SerlGelloConfig) -> None:
        super().__init__(config)
        self.config = config
        self._joints = [f"joint_{i}" for i in range(1, len(config.motor_ids) + 1)]
        ids = zip(self._joints, config.motor_ids, strict=True)
        motors = {joint: Motor(motor_id, config.motor_model, MotorNormMode.DEGREES) for joint, motor_id in ids}
        if config.gripper_id is not None:
            motors[GRIPPER] = Motor(config.gripper_id, config.gripper_model, MotorNormMode.RANGE_0_100)
        self.bus = DynamixelMotorsBus(config.port, motors)
        self._joint_mapping: JointMapping | None = None
        self._gripper_mapping: GripperMapping | None = None

    @property
    def action_features(self) -> dict[str, type]:
        return dict.fromkeys([*self.config.keys, *([self.config.gripper_key] if GRIPPER in self.bus.motors else [])], float)

    @property
    def feedback_features(self) -> dict[str, type]:
        return {}

    @property
    def is_connected(self) -> bool:
        return self.bus.is_connected

    @property
    def is_calibrated(self) -> bool:
        """Whether the calibration file covers exactly these motors."""
        return {name: calibration.id for name, calibration in self.calibration.items()} == {n: m.id for n, m in self.bus.motors.items()}

    @check_if_already_connected
    def connect(self, calibrate: bool = True) -> None:
        """Open the port and find the motors; calibrate if there is no calibration file for them.

        Raises:
            ConnectionError: the port cannot be opened, or a motor does not answer.
        """
        self.bus.connect(handshake=False)
        try:
            self.bus.set_baudrate(self.config.baud_rate)
            missing = [motor.id for motor in self.bus.motors.values() if self.bus.ping(motor.id, num_retry=_READ_RETRIES) is None]
            if missing:
                raise ConnectionError(
                    f"motors {missing} on {self.config.port} do not answer at {self.config.baud_rate} baud; check power, cables, "
                    "teleop.motor_ids, teleop.gripper_id and teleop.baud_rate"
                )
            self.configure()
            if self.is_calibrated:
                self._resume()
            elif calibrate:
                self.calibrate()
        except BaseException:
            self.bus.disconnect(disable_torque=False)
            raise

    def configure(self) -> None:
        """Let the motors turn freely and count over several turns."""
        self.bus.disable_torque(num_retry=_READ_RETRIES)
        for motor in self.bus.motors:
            self.bus.write("Operating_Mode", motor, OperatingMode.EXTENDED_POSITION.value, num_retry=_READ_RETRIES)

    @check_if_not_connected
    def calibrate(self) -> None:
        """Ask a person to hold the leader in the home pose, and to release and pull the trigger; save the counts.

        Raises:
            ValueError: the trigger was not moved.
        """
        input(f"Hold the leader in the pose in which the arm's joints are {self.config.home_rad} rad, and press ENTER.")
        counts = self._read()
        half_turn = COUNTS_PER_TURN // 2
        calibration = {
            joint: MotorCalibration(self.bus.motors[joint].id, 0, counts[joint], counts[joint] - half_turn, counts[joint] + half_turn)
            for joint in self._joints
        }
        if GRIPPER in self.bus.motors:
            input("Release the trigger, so that the gripper is open, and press ENTER.")
            open_counts = self._read()[GRIPPER]
            input("Pull the trigger fully, so that the gripper is closed, and press ENTER.")
            closed_counts = self._read()[GRIPPER]
            GripperMapping(open_counts, closed_counts, self.config.gripper_flip)
            low, high = sorted((open_counts, closed_counts))
            calibration[GRIPPER] = MotorCalibration(self.bus.motors[GRIPPER].id, int(closed_counts < open_counts), 0, low, high)
        self.calibration = calibration
        self._save_calibration()
        logger.info("Calibration saved to %s", self.calibration_fpath)
        self._resume()

    @check_if_not_connected
    def get_action(self) -> dict[str, float]:
        """Return the arm's joint positions (rad) and the gripper for the leader's present pose.

        Raises:
            DeviceNotConnectedError: `connect` has not been called.
            RuntimeError: the leader is not calibrated.
            ConnectionError: a motor does not answer.
        """
        if self._joint_mapping is None:
            raise RuntimeError(f"the leader is not calibrated; run lerobot-calibrate --teleop.type=serl_gello --teleop.id={self.id} ...")
        counts = self._read()
        radians = self._joint_mapping.radians([counts[joint] for joint in self._joints])
        action = dict(zip(self.config.keys, radians.tolist(), strict=True))
        if self._gripper_mapping is not None:
            action[self.config.gripper_key] = self._gripper_mapping.position(counts[GRIPPER])
        return action

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        """Do nothing: the motors are only read."""

    @check_if_not_connected
    def disconnect(self) -> None:
        """Close the port."""
        self._joint_mapping = self._gripper_mapping = None
        self.bus.disconnect(disable_torque=False)

    def _read(self) -> dict[str, int]:
        """Counts of every motor, over several turns.

        Answers carry no number of the question, and the SDK throws nothing away: after one late answer all readings would be those of the
        question before. So the line is emptied before each question, and a question that was given up has time to be answered first.
        """
        for attempt in range(_READ_RETRIES + 1):
            self.bus.port_handler.ser.reset_input_buffer()
            try:
                counts = self.bus.sync_read("Present_Position", normalize=False)
                break
            except ConnectionError:
                if attempt == _READ_RETRIES:
                    raise
                time.sleep(_LATE_ANSWER_S)
        return {motor: int(value) for motor, value in counts.items()}

    def _resume(self) -> None:
        """Take the calibration into use, on the turn on which the motors count now."""
        config, counts = self.config, self._read()
        home = np.array([self.calibration[joint].homing_offset for joint in self._joints], dtype=np.int64)
        mapping = JointMapping(home, np.array(config.home_rad), np.array(config.signs), np.array(config.offset_rad))
        self._joint_mapping = mapping.on_the_turn_of([counts[joint] for joint in self._joints])
        if GRIPPER in self.bus.motors:
            trigger = self.calibration[GRIPPER]
            ends = (trigger.range_min, trigger.range_max)
            open_counts, closed_counts = reversed(ends) if trigger.drive_mode else ends
            self._gripper_mapping = GripperMapping(open_counts, closed_counts, config.gripper_flip).on_the_turn_of(counts[GRIPPER])
