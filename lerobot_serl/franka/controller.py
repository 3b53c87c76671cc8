"""Owns the arm and the gripper of one robot on behalf of many threads.

The arm's thread runs `ArmOwner` 100 times a second. Other threads swap goals and read copies; what needs the driver is handed
to the arm's thread as a job.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

from lerobot_serl.franka.arm_owner import ArmOwner
from lerobot_serl.franka.controller_settings import ArmRefused, ArmSnapshot, ControllerSettings, StaleState
from lerobot_serl.franka.driver import ArmDriver, ArmFault, GripperDriver, Vector
from lerobot_serl.franka.gripper_thread import GripperThread

__all__ = ["ArmController", "ArmRefused", "ArmSnapshot", "ControllerSettings", "StaleState"]

TICK_S = 0.01
# A tracker takes some tenths of a second to start or stop, as does a recovery, and the arm is not read meanwhile.
JOB_TIMEOUT_S = 10.0
# Of those who want the state: a robot waits 1.5 s for it (`request_timeout_s` and `recovery_wait_s`), and shall hear what is wrong.
BUSY_TIMEOUT_S = 1.2
MOVE_TIMEOUT_S = 90.0
WANTED_PERIOD_S = 0.1

logger = logging.getLogger(__name__)
Job = tuple[Callable[[], Any], "Future[Any]"]


class ArmController:
    """Owns the arm (one thread, 100 Hz) and the gripper (others). Every public method may be called from any thread.

    Args:
        arm: driver of the arm; belongs to the controller from now on.
        gripper: driver of the gripper; None without one.
        settings: limits and habits.
        clock: seconds, never backwards.

    Raises:
        ValueError: the settings do not fit the arm.
    """

    def __init__(
        self,
        arm: ArmDriver,
        gripper: GripperDriver | None,
        settings: ControllerSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._clock = settings, clock
        self._owner = ArmOwner(arm, settings, clock)
        self._gripper = None if gripper is None else GripperThread(gripper, settings)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._ticked = threading.Condition()
        self._open = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="arm", daemon=True)

    def start(self) -> None:
        """Read the state and start the threads; nothing moves.

        Raises:
            ArmFault: the arm cannot be read.
        """
        self._owner.tick()
        if self._owner.state is None:
            raise ArmFault(self._owner.fault)
        self._open = True
        self._thread.start()
        if self._gripper is not None:
            self._gripper.start()

    def close(self) -> None:
        """End tracking, join the threads, disconnect; may be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join(timeout=JOB_TIMEOUT_S)
        else:
            self._owner.close()
        if self._gripper is not None:
            self._gripper.close()

    @property
    def max_width_m(self) -> float:
        """Largest width of the gripper, known without hearing from the arm; 0 without a gripper."""
        return 0.0 if self._gripper is None else self._gripper.max_width_m

    def snapshot(self) -> ArmSnapshot:
        """Return a copy of the newest state; talks to nobody.

        Raises:
            StaleState: there is no state that is young enough.
        """
        self._wait_while_busy()
        age_s, owner = self._age_s(), self._owner
        with owner.lock:
            state = owner.state
            if state is None or age_s > self._settings.state_timeout_s:
                reason = f": {owner.fault}" if owner.fault else ""
                raise StaleState(f"the newest state is {age_s:.2f} s old, expected at most {self._settings.state_timeout_s} s{reason}")
            return ArmSnapshot(
                state=state,
                velocity=state.jacobian @ state.dq_rad_s,
                gripper_width_m=None if self._gripper is None else self._gripper.width_m,
                max_width_m=self.max_width_m,
                mode=owner.mode,
                fault=owner.fault,
                epoch=owner.epoch,
                clamps=owner.clamps,
                gripper_fault="" if self._gripper is None else self._gripper.fault,
            )

    def command_joints(self, q_rad: Vector, period_s: float, epoch: int | None = None) -> Vector:
        """Follow these joint positions (7,), from now on in joint mode.

        Args:
            q_rad: (7,) wanted joint positions.
            period_s: time until your next command.
            epoch: of the snapshot that the command was made from; None does not ask.

        Returns:
            The positions (7,) that the arm is going to: `q_rad` within limits, workspace and one step.

        Raises:
            ValueError: bad values.
            ArmRefused: a fault, a motion in progress, or an old epoch.
            StaleState: the arm has not been heard for too long.
            ArmFault: the tracker cannot be started.
        """
        return self._command("joint", q_rad, period_s, epoch)

    def command_pose(self, pose7: Vector, period_s: float, epoch: int | None = None) -> Vector:
        """As `command_joints` for the end effector: (7,) x, y, z, qx, qy, qz, qw, in pose mode."""
        return self._command("pose", pose7, period_s, epoch)

    def _command(self, mode: str, values: Vector, period_s: float, epoch: int | None) -> Vector:
        self._wait_while_busy()
        goal = self._owner.command(mode, values, period_s, epoch)
        if goal is None:
            self._do(lambda: self._owner.track(mode))
            goal = self._owner.command(mode, values, period_s, epoch)
        if goal is None:
            raise ArmRefused(f"another client took the arm out of {mode} mode; use one client, or one mode")
        return goal

    def command_gripper(self, width_m: float) -> None:
        """Open or close to a width; near 0 grasps. Returns at once; the newest command wins.

        Raises:
            ValueError: no gripper, or no distance.
            ArmRefused: the gripper is in a fault.
        """
        self._gripper_or_raise().command(width_m)

    def home_gripper(self) -> None:
        """Let the gripper find its end stops; returns when done.

        Raises:
            ValueError: no gripper.
            ArmFault: it did not work.
        """
        self._gripper_or_raise().home()

    def start_impedance(self, mode: str = "pose") -> None:
        """Hold the present posture compliantly, in "pose" or "joint" mode; without commands it ends after `watchdog_stop_s`."""
        if mode not in ("pose", "joint"):
            raise ValueError(f"mode is {mode!r}, expected 'pose' or 'joint'")
        self._do(lambda: self._owner.track(mode))

    def stop_impedance(self) -> None:
        """End tracking, or a motion; the arm holds with its own controller."""
        self._do(self._owner.stop)

    def clear_errors(self) -> None:
        """Recover from a fault, and raise the epoch; does nothing without a fault.

        Raises:
            ArmFault: the fault stays; the message says why.
        """
        self._do(self._owner.clear_errors)
        with self._ticked:
            self._ticked.wait_for(lambda: not self._owner.recovering, timeout=JOB_TIMEOUT_S)
        if self._owner.fault:
            raise ArmFault(self._owner.fault)

    def reset_joints(self, q_rad: Vector | None = None, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Move slowly to joint positions (7,), else home; returns when the arm is there.

        Args:
            q_rad: the goal.
            is_wanted: asked during the motion, which is stopped when it says no.

        Raises:
            ValueError: outside the joint limits or the workspace.
            ArmRefused: a fault, another motion, or it was stopped.
            ArmFault: something kept the arm from arriving.
        """
        target = self._settings.home_rad if q_rad is None else q_rad
        end: Future[None] = self._do(lambda: self._owner.move(target))
        until_s = time.monotonic() + MOVE_TIMEOUT_S
        while not wait([end], timeout=WANTED_PERIOD_S).done:
            problem: Exception | None = None if is_wanted() else ArmRefused("whoever asked for the motion has gone")
            if time.monotonic() > until_s:
                problem = ArmFault(f"the motion took more than {MOVE_TIMEOUT_S:g} s and was stopped; go there in several steps")
            if problem is not None:
                self._do(partial(self._owner.stop_move, end, problem))
        end.result()

    def update_impedance(self, **changes: Any) -> None:
        """Change fields of `Impedance`; a tracker that runs starts anew from the present posture.

        Raises:
            ValueError: unknown field or bad value.
            ArmFault: the arm does not obey.
        """
        self._do(lambda: self._owner.update_impedance(**changes))

    def set_load(self, mass_kg: float, centre_m: Vector, inertia_kg_m2: Vector) -> None:
        """Tell the arm its payload: centre (3,), inertia (9,); tracking ends for it.

        Raises:
            ValueError: bad numbers.
            ArmFault: the arm does not obey.
        """
        self._do(lambda: self._owner.set_load(mass_kg, centre_m, inertia_kg_m2))

    def _age_s(self) -> float:
        return self._clock() - self._owner.read_s

    def _wait_while_busy(self) -> None:
        """While the driver recovers the arm, or starts or stops a tracker, nobody reads; that is no reason to call the state stale.

        From half the age on, so that the state does not become stale between this look at it and the caller's.
        """
        if self._age_s() > self._settings.state_timeout_s / 2:
            with self._ticked:
                self._ticked.wait_for(lambda: not self._owner.busy, timeout=BUSY_TIMEOUT_S)

    def _gripper_or_raise(self) -> GripperThread:
        if self._gripper is None:
            raise ValueError("there is no gripper; start the server with one")
        return self._gripper

    def _do(self, work: Callable[[], Any]) -> Any:
        """Run `work` in the arm's thread, and return or raise what it does."""
        if not self._open or self._closed:
            raise StaleState("the controller is not running")
        outcome: Future[Any] = Future()
        self._jobs.put((work, outcome))
        try:
            return outcome.result(timeout=JOB_TIMEOUT_S)
        except TimeoutError:
            raise ArmFault(f"the arm did not answer within {JOB_TIMEOUT_S:g} s; look at Desk") from None

    def _run(self) -> None:
        next_s = self._clock()
        while True:
            self._owner.tick()
            with self._ticked:
                self._ticked.notify_all()
            # A late tick is not made up for: the governor moves by the time that has passed.
            next_s = max(next_s + TICK_S, self._clock())
            try:
                job = self._jobs.get(timeout=max(next_s - self._clock(), 1e-4))
            except queue.Empty:
                continue
            if job is None:
                break
            self._carry_out(job)
        self._owner.close()
        self._refuse_the_rest()

    def _carry_out(self, job: Job) -> None:
        work, outcome = job
        try:
            outcome.set_result(work())
        except Exception as error:  # it belongs to the thread that asked
            outcome.set_exception(error)

    def _refuse_the_rest(self) -> None:
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                job[1].set_exception(StaleState("the controller was closed"))
