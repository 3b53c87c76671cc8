"""What the server needs of an arm and of a gripper. Implementations: `franky_driver` (hardware), `sim_driver` (MuJoCo)."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
# Among `ArmState.errors`: a person holds the arm. Nobody but a person may end that.
USER_STOP = "user_stop"


class ArmFault(RuntimeError):  # noqa: N818
    """The arm does not obey: reflex, user stop, FCI off, connection lost. The message says what to do."""


@dataclass(frozen=True, eq=False)
class ArmState:
    """One reading of the arm, in its base frame.

    Attributes:
        q_rad: (7,) joint positions.
        dq_rad_s: (7,) joint velocities.
        pose: (4, 4) `O_T_EE`, the end effector as Desk defines it, metres.
        jacobian: (6, 7) of the end effector; its rows are xyz, then rotation.
        wrench: (6,) `K_F_ext_hat_K`, N and Nm.
        tau_ext_nm: (7,) external torques, filtered.
        in_control: a tracker or a motion that this program started is running.
        errors: names of the arm's present errors, or `USER_STOP`; empty when there are none.
        time_s: `time.monotonic()` of the reading.
    """

    q_rad: Vector
    dq_rad_s: Vector
    pose: Vector
    jacobian: Vector
    wrench: Vector
    tau_ext_nm: Vector
    in_control: bool
    errors: tuple[str, ...]
    time_s: float


@dataclass
class Impedance:
    """How stiffly the arm follows.

    Attributes:
        joint_stiffness_nm_rad: (7,), for joint tracking; damping is critical.
        translational_stiffness_n_m: for pose tracking, 0 to 3000.
        rotational_stiffness_nm_rad: for pose tracking, 0 to 300.
        translational_clip_m: the reference leads the measured pose by no more than this, 0 to 0.1.
        rotational_clip_rad: as above, 0 to 0.3 (rad).
    """

    joint_stiffness_nm_rad: list[float] = field(default_factory=lambda: [600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0])
    translational_stiffness_n_m: float = 1000.0
    rotational_stiffness_nm_rad: float = 60.0
    translational_clip_m: float = 0.02
    rotational_clip_rad: float = 0.1


class ArmDriver(Protocol):
    """One arm. All methods are called from one thread, the controller's. Every method may raise `ArmFault`."""

    model: str  # "fer" or "fr3"

    def read(self) -> ArmState:
        """The present state; at most 1 ms while a tracker runs."""

    def start_joint_tracking(self, impedance: Impedance) -> None:
        """Hold the present joint positions, and follow `set_joint_target` from now on."""

    def set_joint_target(self, q_rad: Vector, dq_rad_s: Vector) -> None:
        """Newest reference, with its velocity as feed-forward."""

    def start_pose_tracking(self, impedance: Impedance) -> None:
        """Hold the present pose, and follow `set_pose_target` from now on."""

    def set_pose_target(self, pose: Vector, twist: Vector) -> None:
        """Newest reference (4, 4), with its velocity (6,) in the base frame, m/s then rad/s, as feed-forward."""

    def stop_tracking(self) -> None:
        """End the tracker gently; does nothing without one."""

    def move_joints(self, q_rad: Vector, speed_fraction: float) -> None:
        """Begin a slow point-to-point motion; `read` says `in_control` until it ends, `stop_tracking` ends it early. No tracker may run."""

    def recover(self) -> None:
        """Clear errors, and connect again where the connection was lost; no motion follows."""

    def set_load(self, mass_kg: float, centre_m: Vector, inertia_kg_m2: Vector) -> None:
        """Payload: centre (3,), inertia (9,)."""

    def close(self) -> None:
        """Stop and disconnect; may be called twice, never raises."""


class GripperDriver(Protocol):
    """One gripper; its calls may block for seconds, so it lives in its own threads: `width_m` may be called while another method runs.

    Every method may raise `ArmFault`.
    """

    max_width_m: float

    def width_m(self) -> float:
        """Distance of the fingers now; about 0.1 s on hardware."""

    def move(self, width_m: float, speed_m_s: float) -> bool:
        """Open or close to a width; returns when done, and whether the fingers are there."""

    def grasp(self, speed_m_s: float, force_n: float) -> bool:
        """Close on whatever is there, and hold it. Returns whether the fingers have closed: True also where nothing was between them."""

    def homing(self) -> None:
        """Find the end stops."""

    def close(self) -> None:
        """Disconnect; may be called twice, never raises."""
