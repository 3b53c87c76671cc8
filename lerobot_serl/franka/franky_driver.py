"""Drives a real Franka arm and hand through franky-control, whose C++ threads run the 1 kHz loops.

An arm accepts one connection, and franky ends it when its `Robot` is destroyed. So nothing else may keep the `Robot` alive:
no local variable of a frame that an exception remembers, and no traceback of franky's exceptions.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lerobot_serl.franka.arm_limits import limits_of
from lerobot_serl.franka.driver import USER_STOP, ArmFault, ArmState, Impedance, Vector
from lerobot_serl.franka.franky_faults import explained, explaining

NOT_INSTALLED = (
    "franky-control is not installed on this computer: pip install '.[franka]', in lerobot_serl's directory; "
    "an arm with an older system needs another wheel, and connecting to it says which"
)
REALTIME = ("enforce", "ignore")
GRASP_EPSILON_M = 0.1
STOP_TIMEOUT_S = 5.0

logger = logging.getLogger(__name__)


def _franky() -> Any:
    try:
        import franky
    except ImportError as error:
        raise ArmFault(f"{NOT_INSTALLED} ({error})") from None
    return franky


class FrankyArm:
    """One arm over the FCI; an `ArmDriver`.

    Args:
        robot_ip: address of the arm's control box.
        model: "fer" or "fr3".
        realtime: "enforce" needs a real-time kernel, "ignore" does not and risks that the arm stops under load.
        torque_threshold_nm: the arm stops where a joint feels more.
        force_threshold_n: the arm stops where its end effector feels more.

    Raises:
        ValueError: unknown model or realtime.
        ArmFault: no connection, another version, another model; the message says what to do.
    """

    def __init__(
        self,
        robot_ip: str,
        model: str = "fr3",
        realtime: str = "enforce",
        torque_threshold_nm: float = 20.0,
        force_threshold_n: float = 30.0,
    ) -> None:
        if realtime not in REALTIME:
            raise ValueError(f"realtime is {realtime!r}, expected one of {REALTIME}")
        self.model = model
        self.robot_time_s = 0.0  # the arm's own clock at the newest reading
        self._limits = limits_of(model)
        self._ip, self._realtime = robot_ip, realtime
        self._thresholds = (float(torque_threshold_nm), float(force_threshold_n))
        self._franky = _franky()
        self._error_names = [name for name in dir(self._franky.Errors) if not name.startswith("_")]
        self._tracker: Any = None
        self._moving = False
        self._robot: Any = None
        self._connect()

    def _connect(self) -> None:
        franky = self._franky
        config = franky.RealtimeConfig.Enforce if self._realtime == "enforce" else franky.RealtimeConfig.Ignore
        torque, force = self._thresholds
        with explaining(self._ip):
            self._robot = franky.Robot(self._ip, default_torque_threshold=torque, default_force_threshold=force, realtime_config=config)
            self._check_model()

    def _check_model(self) -> None:
        try:
            name = self._robot.model_urdf.partition('<robot name="')[2].partition('"')[0].lower()
        except Exception as error:  # older systems send no description
            logger.debug("The arm sends no description: %s", error)
            return
        found = next((model for model, sign in (("fr3", "fr3"), ("fer", "fer"), ("fer", "panda")) if sign in name), None)
        if found is not None and found != self.model:
            self.close()
            raise ArmFault(f"the arm at {self._ip} calls itself {name!r}, the setting is --arm={self.model}: start with --arm={found}")

    def read(self) -> ArmState:
        """The present state; about 0.1 ms while a tracker runs, 1 ms else."""
        self._check_connected()
        with explaining(self._ip):
            in_control = self._robot.is_in_control
            state = self._robot.state
            self.robot_time_s = state.time.to_sec()
            jacobian = self._robot.model.zero_jacobian(self._franky.Frame.EndEffector, state)
            errors = self._errors_of(state)
            if not in_control and (self._tracker is not None or self._moving):
                errors = errors or self._why_it_ended()
        return ArmState(
            q_rad=np.array(state.q),
            dq_rad_s=np.array(state.dq),
            pose=np.array(state.O_T_EE.matrix),
            jacobian=np.array(jacobian),
            wrench=np.array(state.K_F_ext_hat_K),
            tau_ext_nm=np.array(state.tau_ext_hat_filtered),
            in_control=in_control,
            errors=errors,
            time_s=time.monotonic(),
        )

    def _errors_of(self, state: Any) -> tuple[str, ...]:
        names = [name for name in self._error_names if getattr(state.current_errors, name)]
        if state.robot_mode == self._franky.RobotMode.UserStopped:
            names.append(USER_STOP)
        return tuple(names)

    def _why_it_ended(self) -> tuple[str, ...]:
        """Ask for the exception of a motion that is no longer running: the state may be clean again already."""
        try:
            self._robot.join_motion(STOP_TIMEOUT_S)
        except self._franky.ControlException as error:
            named = tuple(name for name in self._error_names if name in str(error))
            logger.error("The motion ended: %s", error)
            return named or ("motion_aborted",)
        self._moving = False
        return ()

    def start_joint_tracking(self, impedance: Impedance) -> None:
        """Hold the present joint positions, and follow `set_joint_target`."""
        self._check_connected()
        with explaining(self._ip):
            self._tracker = self._franky.JointImpedanceTracker(
                self._robot,
                stiffness=np.array(impedance.joint_stiffness_nm_rad, dtype=np.float64),
                lower_joint_limits=self._limits.low_rad,
                upper_joint_limits=self._limits.high_rad,
            )

    def set_joint_target(self, q_rad: Vector, dq_rad_s: Vector) -> None:
        """Newest reference (7,), with its velocity (7,)."""
        with explaining(self._ip):
            self._tracker.set_target(q_rad, dq_rad_s)

    def start_pose_tracking(self, impedance: Impedance) -> None:
        """Hold the present pose, and follow `set_pose_target`."""
        self._check_connected()
        with explaining(self._ip):
            self._tracker = self._franky.CartesianImpedanceTracker(
                self._robot,
                translational_stiffness=float(impedance.translational_stiffness_n_m),
                rotational_stiffness=float(impedance.rotational_stiffness_nm_rad),
                translational_error_clip=np.full(3, impedance.translational_clip_m),
                rotational_error_clip=np.full(3, impedance.rotational_clip_rad),
                lower_joint_limits=self._limits.low_rad,
                upper_joint_limits=self._limits.high_rad,
            )

    def set_pose_target(self, pose: Vector, twist: Vector) -> None:
        """Newest reference (4, 4), with its velocity (6,)."""
        franky = self._franky
        with explaining(self._ip):
            self._tracker.set_target(franky.Affine(pose), franky.Twist(twist[:3], twist[3:]))

    def stop_tracking(self) -> None:
        """Bring the arm to rest; does nothing where nothing runs."""
        tracker, moving = self._tracker, self._moving
        self._tracker, self._moving = None, False
        if self._robot is None or not (tracker or moving):
            return
        try:
            # Not the tracker's own stop(), which waits without end where the connection is lost in that moment.
            if self._robot.is_in_control:
                stop = self._franky.TorqueStopMotion() if tracker is not None else self._franky.JointStopMotion()
                self._robot.move(stop, asynchronous=True)
            ended = self._robot.join_motion(STOP_TIMEOUT_S)
        except self._franky.ControlException as error:
            logger.debug("The motion had ended already: %s", error)
        except self._franky.Exception as error:
            raise explained(error, self._ip) from error.with_traceback(None)
        else:
            if not ended:
                raise ArmFault(
                    f"the arm at {self._ip} did not come to rest within {STOP_TIMEOUT_S:g} s; is it still connected? "
                    "Look at Desk, then POST /clearerr"
                )

    def move_joints(self, q_rad: Vector, speed_fraction: float) -> None:
        """Begin a slow motion to (7,) joint positions; `read` says `in_control` until it ends."""
        self._check_connected()
        with explaining(self._ip):
            motion = self._franky.JointMotion([float(q) for q in q_rad], relative_dynamics_factor=float(speed_fraction))
            self._robot.move(motion, asynchronous=True)
            self._moving = True

    def recover(self) -> None:
        """Clear errors; connect again where the connection was lost."""
        try:
            if self._robot is not None and self._robot.recover_from_errors():
                return
        except self._franky.NetworkException as error:
            logger.warning("Connecting again: %s", error)
            self._robot = None
        except self._franky.Exception as error:
            raise explained(error, self._ip) from error.with_traceback(None)
        if self._robot is not None:
            raise ArmFault(f"the arm at {self._ip} did not clear its errors: release the stop button, look at Desk, then POST /clearerr")
        self._connect()

    def set_load(self, mass_kg: float, centre_m: Vector, inertia_kg_m2: Vector) -> None:
        """Payload: centre (3,), inertia (9,). No tracker may run."""
        self._check_connected()
        with explaining(self._ip):
            self._robot.set_load(mass_kg, centre_m.tolist(), inertia_kg_m2.tolist())

    def close(self) -> None:
        """Stop and disconnect; may be called twice."""
        try:
            self.stop_tracking()
        except ArmFault as fault:
            logger.warning("While closing: %s", fault)
        self._robot = None

    def _check_connected(self) -> None:
        if self._robot is None:
            raise ArmFault(f"there is no connection to the arm at {self._ip}; POST /clearerr connects again")


class FrankyGripper:
    """The Franka Hand of an arm; a `GripperDriver`.

    Args:
        robot_ip: address of the arm's control box.

    Raises:
        ArmFault: no connection, or another version.
    """

    def __init__(self, robot_ip: str) -> None:
        self._ip = robot_ip
        self._franky = _franky()
        with explaining(self._ip):
            self._gripper = self._franky.Gripper(robot_ip)
            self.max_width_m = float(self._gripper.max_width)
        if self.max_width_m <= 0:
            logger.warning("The hand was not homed since it was switched on; home it (POST /reset_gripper) for true widths")
            self.max_width_m = 0.08

    def width_m(self) -> float:
        """Distance of the fingers now; about 0.1 s on hardware."""
        with explaining(self._ip):
            return float(self._gripper.width)

    def move(self, width_m: float, speed_m_s: float) -> bool:
        """Open or close to a width, and return whether the hand did; an object between the fingers may end it early."""
        return self._carried_out(lambda: self._gripper.move(float(width_m), float(speed_m_s)))

    def grasp(self, speed_m_s: float, force_n: float) -> bool:
        """Close on whatever is there, and hold it. Returns whether the fingers have closed: True also where nothing was between them."""

        def close() -> bool:
            # The hand answers whether it holds something. That is not asked here: closing again would find no more.
            self._gripper.grasp(0.0, float(speed_m_s), float(force_n), GRASP_EPSILON_M, GRASP_EPSILON_M)
            return True

        return self._carried_out(close)

    def homing(self) -> None:
        """Find the end stops; nothing may be between the fingers."""
        with explaining(self._ip):
            if not self._gripper.homing():
                raise ArmFault(f"the hand at {self._ip} could not be homed: take everything from between the fingers")
            self.max_width_m = float(self._gripper.max_width)

    def close(self) -> None:
        """Disconnect; may be called twice."""
        self._gripper = None

    def _carried_out(self, motion: Callable[[], bool]) -> bool:
        with explaining(self._ip):
            try:
                reason = "" if motion() else "it was not successful"
            except self._franky.CommandException as error:
                # An object in the way ends a motion like this; the next command may well succeed.
                reason = str(error)
            if reason:
                logger.warning("The hand ended a motion: %s", reason)
            return not reason
