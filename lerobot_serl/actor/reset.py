"""What happens between two episodes."""

import logging
import math
import time
from collections.abc import Callable, Mapping

from .controls import GO, QUIT, Controls
from .pace import Pace
from .settings import ResetConfig
from .world import WorldError

REPORT_PERIOD_S = 5.0
SETTLE_S = 2.0
TOLERANCE = 0.1
# A joint crosses its demonstrated range in no less than this.
AUTO_CROSSING_S = 4.0


class Reset:
    """Brings the robot back to the beginning.

    Args:
        settings: mode, already decided ("auto" no more).
        go_home: the robot's own way back, for mode "robot".
        pose: action key -> position, for mode "pose".
        ranges: action key -> width of its range in the demonstrations, from which an automatic speed and the tolerance come.
        drive: what the person with the teleoperator asks for now, for mode "teleop"; None while there is nothing.
        send: sends an action within the limits.
        read: the robot's numbers, fresh.
        pace: of the control loop.
        controls: Enter ends a wait, q too.
    """

    def __init__(
        self,
        settings: ResetConfig,
        go_home: Callable[[], None],
        pose: Mapping[str, float],
        ranges: Mapping[str, float],
        drive: Callable[[Mapping[str, float]], Mapping[str, float] | None],
        send: Callable[[Mapping[str, float]], object],
        read: Callable[[], Mapping[str, float]],
        pace: Pace,
        controls: Controls,
    ) -> None:
        self._settings, self._go_home, self._drive = settings, go_home, drive
        self._pose = dict(pose)
        # An arm's own steady-state error must fit into the tolerance.
        self._tolerance = {key: TOLERANCE * ranges[key] for key in pose}
        self._speed = {key: settings.speed or ranges[key] / AUTO_CROSSING_S for key in pose}
        self._send, self._read, self._pace, self._controls = send, read, pace, controls

    def run(self, hold: Callable[[], None]) -> None:
        """Reset, then give the person time.

        Args:
            hold: keeps the arm where it is; called at every tick while nothing else moves it.

        Raises:
            WorldError: the pose was not reached.
        """
        if self._settings.mode == "robot":
            self._go_home()
        elif self._settings.mode == "pose":
            self._move()
        if self._settings.pause_s:
            self._pause(hold)

    def _move(self) -> None:
        """Move every joint at its share of the speed limit, so that all arrive together."""
        start = self._read()
        seconds = max(abs(self._pose[key] - start[key]) / self._speed[key] for key in self._pose)
        ticks = max(1, math.ceil(seconds / self._pace.period_s))
        self._pace.begin()
        for tick in range(1, ticks + 1):
            share = tick / ticks
            self._send({key: start[key] * (1 - share) + target * share for key, target in self._pose.items()})
            self._pace.wait()
            self._read()
        late: list[str] = []
        for _ in range(round(SETTLE_S / self._pace.period_s)):  # the limit on the step may hold the targets back
            measured = self._read()
            left = {key: abs(target - measured[key]) for key, target in self._pose.items()}
            late = [key for key in left if left[key] > self._tolerance[key]]
            if not late:
                return
            self._send(self._pose)
            self._pace.wait()
        raise WorldError(
            f"Reset: '{late[0]}' stays {left[late[0]]:.3g} away from its pose {self._pose[late[0]]:.3g}. Is something in the way? "
            "Check --reset.pose, or use --reset.mode=teleop."
        )

    def _pause(self, hold: Callable[[], None]) -> None:
        by_hand = self._settings.mode == "teleop"
        logging.info(
            f"{'Take over and drive the arm back' if by_hand else 'Prepare the scene'}: {self._settings.pause_s:.0f} s; "
            "Enter goes on at once."
        )
        self._controls.take(GO)
        self._pace.begin()
        until, told = time.monotonic() + self._settings.pause_s, time.monotonic()
        while (left := until - time.monotonic()) > 0 and not self._controls.take(GO) and not self._controls.asked(QUIT):
            action = self._drive(self._read()) if by_hand else None
            if action is None:
                hold()
            else:
                self._send(action)
            self._pace.wait()
            if time.monotonic() - told >= REPORT_PERIOD_S:
                told = time.monotonic()
                logging.info(f"Starts in {left:.0f} s.")
