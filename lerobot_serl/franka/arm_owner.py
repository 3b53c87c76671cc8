"""What the arm's own thread does: one tick after another, modes, watchdog, faults and recoveries. Starts no thread."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .arm_limits import limits_of
from .controller_settings import ArmRefused, ControllerSettings, StaleState, changed_impedance, check_arm, with_clips_within
from .driver import USER_STOP, ArmDriver, ArmFault, ArmState, Vector
from .governor import JointGovernor, checked
from .pose_governor import PoseGovernor, governor_of
from .recovery_budget import RecoveryBudget
from .reset_motion import checked_goal, speed_fraction

SETTLE_S = 0.05
ARRIVED_RAD = 0.03
CLEAR = "remove the cause, look at the arm, then POST /clearerr"

logger = logging.getLogger(__name__)


class ArmOwner:
    """The only one that talks to the arm.

    `command` and the attributes may be used from any thread while holding `lock`; all other methods belong to one thread.
    While `busy`, the driver does what takes long, and the state grows old without meaning that the arm is lost; it may be read without `lock`.

    Args:
        arm: the driver.
        settings: limits; its impedance may be changed by `update_impedance`, its clips not beyond what they are now.
        clock: seconds, never backwards.

    Raises:
        ValueError: the home posture is outside the limits of this arm.
    """

    def __init__(self, arm: ArmDriver, settings: ControllerSettings, clock: Callable[[], float]) -> None:
        self._arm, self._settings, self._clock = arm, settings, clock
        self.limits = limits_of(arm.model)
        check_arm(settings, self.limits)
        self._first_impedance = settings.impedance
        self.lock = threading.Lock()
        self.state: ArmState | None = None
        self.read_s = -np.inf
        self.mode = "idle"
        self.fault, self.busy = "", False
        self.epoch = self.clamps = 0
        self._governor: JointGovernor | PoseGovernor | None = None
        self._commanded_s = -np.inf
        self._move: tuple[Vector, Future[None]] | None = None
        self._recoveries = RecoveryBudget(settings.max_recoveries_per_min)
        self._recovers_itself = False
        self._settled_s: float | None = None
        self._resume = ""

    @property
    def recovering(self) -> bool:
        """Whether a recovery was asked for whose outcome is not known yet."""
        return self._settled_s is not None

    def tick(self) -> None:
        """Read the arm once, and send the next reference; a fault is kept, not raised."""
        try:
            state, now_s = self._read()
            if state.errors and self.mode != "fault":
                self._fail(f"the arm reports {', '.join(state.errors)}: {CLEAR}", by_itself=USER_STOP not in state.errors)
            if self.mode == "fault":
                self._try_to_leave_the_fault(state, now_s)
            elif self.mode == "moving":
                self._watch_the_move(state)
            elif self.mode != "idle":
                self._track(state, now_s)
        except ArmFault as fault:
            self._fail(str(fault), by_itself=True)
        except Exception as error:  # nobody may leave an arm under way without its thread
            logger.exception("In the arm's thread")
            self._fail(f"internal error, {type(error).__name__}: {error}; please report it with the log", by_itself=False)

    def _read(self) -> tuple[ArmState, float]:
        try:
            state, now_s = self._arm.read(), self._clock()
            with self.lock:
                self.state, self.read_s = state, now_s
            return state, now_s
        finally:
            self.busy = False

    def _slowly(self, call: Callable[..., None], *args: Any) -> None:
        """Call the driver where that may take longer than a state may be old; `busy` until the arm is read again."""
        self.busy = True
        call(*args)

    def command(self, mode: str, values: ArrayLike, period_s: float, epoch: int | None) -> Vector | None:
        """Give the running tracker a new goal.

        Args:
            mode: "joint" or "pose".
            values: (7,) joint positions, or x, y, z, qx, qy, qz, qw.
            period_s: time until the next command.
            epoch: the one that the command was made for; None does not ask.

        Returns:
            The goal (7,) that is carried out; None where no tracker of this mode runs.

        Raises:
            ValueError: bad values.
            ArmRefused: a fault, a motion in progress, or an old epoch.
            StaleState: the arm has not been heard for too long.
        """
        checked("target", values, 7)
        now_s = self._clock()
        with self.lock:
            self._admit(epoch, now_s)
            if self.mode != mode or self._governor is None:
                return None
            goal, changed = self._governor.command(values, period_s, now_s)
            self.clamps += changed
            self._commanded_s = now_s
            return goal

    def _admit(self, epoch: int | None, now_s: float) -> None:
        if self.fault:
            raise ArmRefused(self.fault)
        if self.mode == "moving":
            raise ArmRefused("the arm is moving to another posture; wait for the end of that motion, or stop it with POST /stop")
        if epoch is not None and epoch != self.epoch:
            raise ArmRefused(f"the command is for epoch {epoch}, the arm is in epoch {self.epoch}: read the state again and go on there")
        if now_s - self.read_s > self._settings.state_timeout_s:
            raise StaleState(f"the newest state is {now_s - self.read_s:.2f} s old, expected at most {self._settings.state_timeout_s} s")

    def _look_and_admit(self) -> ArmState:
        """As `_admit`, for the arm's own thread: that its own slow work has kept it from reading is no reason to refuse."""
        if self.fault:
            raise ArmRefused(self.fault)
        state, now_s = self._read()
        with self.lock:
            self._admit(None, now_s)
        return state

    def track(self, mode: str) -> None:
        """Begin to hold the present posture and to follow commands of this mode ("joint" or "pose"); nothing where it does.

        Raises:
            ArmRefused: a fault, or a motion in progress.
            ArmFault: the arm does not obey.
        """
        self._look_and_admit()
        if self.mode == mode:
            return
        try:
            if self.mode != "idle":
                self._go_idle()
            self._start(mode)
        except ArmFault as fault:
            self._fail(str(fault), by_itself=False)
            raise

    def _start(self, mode: str) -> None:
        start = self._arm.start_joint_tracking if mode == "joint" else self._arm.start_pose_tracking
        self._slowly(start, self._settings.impedance)
        # Read again: the tracker holds the posture of its start, and so must the first reference.
        state, now_s = self._read()
        governor = governor_of(mode, self.limits, self._settings, state, now_s)
        with self.lock:
            self._governor, self._commanded_s, self.mode = governor, now_s, mode

    def _track(self, state: ArmState, now_s: float) -> None:
        if not state.in_control:
            return self._fail(f"the arm stopped following without naming an error: {CLEAR}", by_itself=True)
        if now_s - self._commanded_s > self._settings.watchdog_stop_s:
            logger.info("No command for %.1f s: tracking ends", self._settings.watchdog_stop_s)
            return self._go_idle()
        with self.lock:
            governor = self._governor
            if now_s - self._commanded_s > self._settings.watchdog_s and governor is not None:
                governor.freeze()
            if isinstance(governor, JointGovernor):
                q_rad, dq_rad_s = governor.tick(state.q_rad, now_s)
            elif governor is not None:
                pose, twist = governor.tick(state.pose, state.q_rad, state.jacobian, now_s)
        if isinstance(governor, JointGovernor):
            self._arm.set_joint_target(q_rad, dq_rad_s)
        elif governor is not None:
            self._arm.set_pose_target(pose, twist)

    def _go_idle(self) -> None:
        with self.lock:
            self._governor, self.mode = None, "idle"
        self._slowly(self._arm.stop_tracking)

    def stop(self) -> None:
        """End tracking or a motion; a fault stays."""
        self._end_move(ArmRefused("the motion was stopped"))
        if self.mode == "fault":
            self._resume, self._recovers_itself = "", False
            return
        try:
            self._go_idle()
        except ArmFault as fault:
            self._fail(str(fault), by_itself=False)
            raise

    def move(self, q_rad: ArrayLike) -> "Future[None]":
        """Begin a slow motion to (7,) joint positions; the future ends with it.

        Raises:
            ValueError: outside the joint limits or the workspace.
            ArmRefused: a fault, or a motion in progress.
            ArmFault: the arm cannot be read.
        """
        target = checked_goal(q_rad, self._look_and_admit(), self.limits, self._settings)
        end: Future[None] = Future()
        # Before the driver is asked for anything: a fault on the way ends the future, too.
        self._move = target, end
        try:
            self._go_idle()
            with self.lock:
                self.mode = "moving"
            self._slowly(self._arm.move_joints, target, speed_fraction(self.limits, self._settings))
        except ArmFault as fault:
            self._fail(str(fault), by_itself=False)
        return end

    def stop_move(self, end: "Future[None]", problem: Exception) -> None:
        """Stop the motion that this future belongs to; nothing where it has ended, whatever the arm does now."""
        if self._move is not None and self._move[1] is end:
            logger.warning("A motion is stopped: %s", problem)
            self._end_move(problem)
            self.stop()

    def _watch_the_move(self, state: ArmState) -> None:
        if state.in_control or self._move is None:
            return
        away = float(np.max(np.abs(state.q_rad - self._move[0])))
        if away > ARRIVED_RAD:
            return self._fail(f"the motion ended {away:.3f} rad before its goal; is something in the way? {CLEAR}", by_itself=False)
        self._go_idle()
        self._end_move(None)

    def _end_move(self, problem: Exception | None) -> None:
        move, self._move = self._move, None
        if move is not None and problem is None:
            move[1].set_result(None)
        elif move is not None:
            move[1].set_exception(problem)

    def clear_errors(self) -> None:
        """Recover from a fault, by request; does nothing without one. The mode changes some ticks later.

        Raises:
            ArmFault: the arm refuses.
        """
        if self.mode != "fault":
            return
        self._recoveries.clear()
        try:
            self._recover("")
        except ArmFault as fault:
            self._fail(str(fault), by_itself=False)
            raise

    def update_impedance(self, **changes: object) -> None:
        """Change fields of the impedance; a running tracker starts anew from the present posture. Clips become no larger than at the start.

        Raises:
            ValueError: unknown field or bad value.
            ArmFault: the arm does not obey.
        """
        before, mode = self._settings.impedance, self.mode
        self._settings.impedance = with_clips_within(changed_impedance(before, changes), self._first_impedance)
        if mode in ("joint", "pose"):
            try:
                self.stop()
                self.track(mode)
            except ArmFault:
                self._settings.impedance = before
                raise

    def set_load(self, mass_kg: float, centre_m: ArrayLike, inertia_kg_m2: ArrayLike) -> None:
        """Tell the arm its payload; tracking ends for it.

        Raises:
            ValueError: bad numbers.
            ArmFault: the arm does not obey.
        """
        centre, inertia = checked("load centre", centre_m, 3), checked("load inertia", inertia_kg_m2, 9)
        if not 0 <= mass_kg <= 20:
            raise ValueError(f"load mass is {mass_kg} kg, expected 0 to 20")
        self.stop()
        self._slowly(self._arm.set_load, float(mass_kg), centre, inertia)

    def close(self) -> None:
        """End everything; never raises."""
        self._end_move(ArmRefused("the controller was closed"))
        try:
            self._go_idle()
        except ArmFault as fault:
            logger.warning("While closing: %s", fault)
        self._arm.close()

    def _fail(self, text: str, by_itself: bool) -> None:
        """Enter the fault mode; `by_itself` says whether automatic recovery may be tried."""
        if self.mode == "fault" and self.fault == text:
            return
        logger.error("Fault: %s", text)
        try:
            self._slowly(self._arm.stop_tracking)
        except ArmFault as fault:
            logger.warning("While stopping: %s", fault)
        resume = self.mode if self.mode in ("joint", "pose") else self._resume
        with self.lock:
            self._governor, self.mode, self.fault = None, "fault", text
        self._resume, self._recovers_itself, self._settled_s = resume, by_itself, None
        self._end_move(ArmFault(text))

    def _try_to_leave_the_fault(self, state: ArmState, now_s: float) -> None:
        if self._settled_s is not None:
            if now_s >= self._settled_s:
                self._leave_the_fault(state)
            return
        self._recovers_itself &= USER_STOP not in state.errors  # pressed after another fault: people have to see to it
        if not (self._recovers_itself and self._settings.auto_recover):
            return
        if not self._recoveries.take(now_s):
            self._recovers_itself = False
            with self.lock:
                self.fault = f"{self.fault} (no more automatic recoveries: {len(self._recoveries)} in the last minute)"
            return
        logger.warning("Automatic recovery %d of %d in a minute", len(self._recoveries), self._settings.max_recoveries_per_min)
        self._recover(self._resume)

    def _recover(self, resume: str) -> None:
        self._slowly(self._arm.recover)
        self._resume, self._settled_s = resume, self._clock() + SETTLE_S

    def _leave_the_fault(self, state: ArmState) -> None:
        self._settled_s = None
        if state.errors:
            return self._fail(f"recovery did not help, the arm still reports {', '.join(state.errors)}: {CLEAR}", by_itself=False)
        resume, self._resume = self._resume, ""
        with self.lock:
            self.fault, self.mode, self.epoch = "", "idle", self.epoch + 1
        logger.warning("Recovered; epoch %d", self.epoch)
        if resume:
            self._start(resume)
