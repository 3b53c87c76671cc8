"""What happens between two episodes."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from .controls import GO, QUIT, Controls
from .pace import Pace
from .settings import ResetConfig
from .world import WorldError

REPORT_PERIOD_S = 5.0
SETTLE_S = 2.0
TOLERANCE = 0.1
# A joint crosses its demonstrated range in no less than this.
AUTO_CROSSING_S = 4.0


class Resettable(Protocol):
    """What is brought back: `robot_world.RobotWorld`."""

    @property
    def measured(self) -> Mapping[str, float]:
        """The robot's numbers, as they were read last."""

    def go_home(self) -> None:
        """The robot's own way back."""

    def send(self, action: Mapping[str, float]) -> object:
        """Send an action within the limits."""

    def read(self) -> Mapping[str, float]:
        """The robot's numbers, fresh."""

    def hold(self) -> None:
        """Keep the arm where it is."""


class Reset:
    """Brings the robot back to the beginning.

    Args:
        settings: mode, already decided ("auto" no more).
        pose: action key -> position, for mode "pose".
        ranges: action key -> width of its range in the demonstrations, from which an automatic speed and the tolerance come.
        drive: what the person with the teleoperator asks for now, for mode "teleop"; None while there is nothing.
        pace: of the control loop.
        controls: Enter ends a wait, q too.
        zeros: what every action that is sent has besides: velocities.
        check_home: asked with the numbers to which mode "robot" has led.
    """

    def __init__(
        self,
        settings: ResetConfig,
        pose: Mapping[str, float],
        ranges: Mapping[str, float],
        drive: Callable[[Mapping[str, float]], Mapping[str, float] | None],
        pace: Pace,
        controls: Controls,
        zeros: Mapping[str, float] | None = None,
        check_home: Callable[[Mapping[str, float]], None] = lambda measured: None,
    ) -> None:
        self._settings = settings
        self._pose = dict(pose)
        self._drive = drive
        self._pace = pace
        self._controls = controls
        self._zeros = dict(zeros or {})
        self._check_home = check_home
        # An arm's own steady-state error must fit into the tolerance.
        self._tolerance = {key: TOLERANCE * ranges[key] for key in pose}
        self._speed = {key: settings.speed or ranges[key] / AUTO_CROSSING_S for key in pose}

    def run(self, robot: Resettable) -> None:
        """Reset, then give the person time; the arm holds at every tick while nothing else moves it.

        Raises:
            WorldError: the pose was not reached.
        """
        if self._settings.mode == "robot":
            robot.go_home()
            self._check_home(robot.measured)
        elif self._settings.mode == "pose":
            self._move(robot)
        if self._settings.pause_s:
            self._pause(robot)

    def _move(self, robot: Resettable) -> None:
        """Move every joint at its share of the speed limit, so that all arrive together."""
        start = robot.read()
        seconds = max(abs(self._pose[key] - start[key]) / self._speed[key] for key in self._pose)
        ticks = max(1, math.ceil(seconds / self._pace.period_s))
        self._pace.begin()
        for tick in range(1, ticks + 1):
            share = tick / ticks
            self._send(robot, {key: start[key] * (1 - share) + target * share for key, target in self._pose.items()})
            self._pace.wait()
            robot.read()
        late: list[str] = []
        for _ in range(round(SETTLE_S / self._pace.period_s)):  # the limit on the step may hold the targets back
            measured = robot.read()
            left = {key: abs(target - measured[key]) for key, target in self._pose.items()}
            late = [key for key in left if left[key] > self._tolerance[key]]
            if not late:
                return
            self._send(robot, self._pose)
            self._pace.wait()
        raise WorldError(
            f"Reset: '{late[0]}' stays {left[late[0]]:.3g} away from its pose {self._pose[late[0]]:.3g}. Is something in the way? "
            "Check --reset.pose, or use --reset.mode=teleop."
        )

    def _send(self, robot: Resettable, action: Mapping[str, float]) -> None:
        robot.send({**self._zeros, **action})

    def _pause(self, robot: Resettable) -> None:
        person_drives = self._settings.mode == "teleop"
        logging.info(
            f"{'Take over and drive the arm back' if person_drives else 'Prepare the scene'}: {self._settings.pause_s:.0f} s; "
            "Enter goes on at once."
        )
        self._controls.take(GO)
        self._pace.begin()
        until, told = time.monotonic() + self._settings.pause_s, time.monotonic()
        while (left := until - time.monotonic()) > 0 and not self._controls.take(GO) and not self._controls.asked(QUIT):
            action = self._drive(robot.read()) if person_drives else None
            if action is None:
                robot.hold()
            else:
                self._send(robot, action)
            self._pace.wait()
            if time.monotonic() - told >= REPORT_PERIOD_S:
                told = time.monotonic()
                logging.info(f"Starts in {left:.0f} s.")
