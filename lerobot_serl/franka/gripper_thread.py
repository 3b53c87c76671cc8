"""The gripper has threads of its own: its calls block for up to seconds, and the arm must not wait for them."""

import logging
import math
import threading
import time

from lerobot_serl.franka.controller_settings import ArmRefused, ControllerSettings
from lerobot_serl.franka.driver import ArmFault, GripperDriver

READ_PERIOD_S = 0.1
HOMING_TIMEOUT_S = 30.0
# A policy's gripper value flickers; only a change of the target by more than this is a new command.
HYSTERESIS_M = 0.004
# After a motion that failed the hand is left alone for so long: the next one may push against the same object.
RETRY_S = 1.0
# Below the first share of the full width a target means "grasp"; a grasp is let go above the second one.
GRASP_BELOW, RELEASE_ABOVE = 0.15, 0.25

logger = logging.getLogger(__name__)


class GripperThread:
    """Carries out the newest command, and keeps a reading of the width.

    Args:
        gripper: the driver.
        settings: speed and force.
    """

    def __init__(self, gripper: GripperDriver, settings: ControllerSettings) -> None:
        self._gripper, self._settings = gripper, settings
        self._wake = threading.Condition()
        self._stopping = threading.Event()
        self._target_m: float | None = None
        self._homing = False
        self._done_m: float | None = None
        self._grasped = False
        self._retry_s = -math.inf
        self._busy = False
        self.fault = ""
        self.width_m: float | None = None
        self._threads = [
            threading.Thread(target=self._act, name="gripper", daemon=True),
            threading.Thread(target=self._read, name="gripper-width", daemon=True),
        ]

    @property
    def max_width_m(self) -> float:
        """Largest distance of the fingers; homing may correct it."""
        return self._gripper.max_width_m

    def start(self) -> None:
        """Begin to read and to obey."""
        for thread in self._threads:
            thread.start()

    def command(self, width_m: float) -> None:
        """Set the newest target; near 0 grasps, else the fingers move there. Returns at once.

        Raises:
            ValueError: no distance, or negative.
            ArmRefused: the last command failed; home the gripper.
        """
        width_m = float(width_m)
        if not 0 <= width_m < 1:
            raise ValueError(f"gripper width is {width_m} m, expected 0 to {self.max_width_m}")
        if self.fault:
            raise ArmRefused(f"gripper: {self.fault}; home it first (POST /reset_gripper)")
        with self._wake:
            self._target_m = min(width_m, self.max_width_m)
            self._wake.notify_all()

    def home(self) -> None:
        """Find the end stops, and wait until that is done.

        Raises:
            ArmFault: it did not work.
        """
        with self._wake:
            self._homing, self._target_m = True, None
            self._wake.notify_all()
            done = self._wake.wait_for(lambda: self._stopping.is_set() or not (self._homing or self._busy), timeout=HOMING_TIMEOUT_S)
        if not done:
            raise ArmFault(f"gripper: homing took more than {HOMING_TIMEOUT_S:g} s; look at Desk")
        if self.fault:
            raise ArmFault(f"gripper: {self.fault}")

    def close(self) -> None:
        """Stop; a motion that is under way is waited for, for two seconds at most."""
        self._stopping.set()
        with self._wake:
            self._wake.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=2.0)
        self._gripper.close()

    def _read(self) -> None:
        failed = False
        while not self._stopping.wait(READ_PERIOD_S):
            try:
                self.width_m, failed = self._gripper.width_m(), False
            except ArmFault as fault:
                if not failed:
                    logger.error("Gripper: %s", fault)
                self.width_m, failed = None, True

    def _act(self) -> None:
        while not self._stopping.is_set():
            with self._wake:
                # Nobody wakes this thread when a command that came too early after a failure becomes due.
                wait_s = self._retry_s - time.monotonic()
                if not self._wake.wait_for(self._has_work, timeout=wait_s if wait_s > 0 else None):
                    continue
                homing, target_m = self._homing, self._target_m
                self._homing, self._target_m, self._busy = False, None, True
            try:
                if homing:
                    self._gripper.homing()
                    self.fault, self._done_m, self._grasped, self._retry_s = "", None, False, -math.inf
                elif target_m is not None and not self._stopping.is_set():
                    self._go_to(target_m)
            except ArmFault as fault:
                logger.error("Gripper: %s", fault)
                self.fault, self._done_m = str(fault), None
            with self._wake:
                self._busy = False
                self._wake.notify_all()

    def _has_work(self) -> bool:
        is_due = self._target_m is not None and time.monotonic() >= self._retry_s
        return self._stopping.is_set() or self._homing or is_due

    def _go_to(self, target_m: float) -> None:
        share = target_m / self.max_width_m
        grasp = share < (RELEASE_ABOVE if self._grasped else GRASP_BELOW)
        if grasp and not self._grasped:
            is_done = self._gripper.grasp(self._settings.gripper_speed_m_s, self._settings.gripper_force_n)
        elif not grasp and (self._done_m is None or self._grasped or abs(target_m - self._done_m) > HYSTERESIS_M):
            is_done = self._gripper.move(target_m, self._settings.gripper_speed_m_s)
        else:
            return
        if is_done:
            self._done_m, self._grasped = None if grasp else target_m, grasp
            return
        # Nobody knows where the fingers are: the next command is carried out, also if it is the same again.
        self._done_m, self._grasped, self._retry_s = None, False, time.monotonic() + RETRY_S
