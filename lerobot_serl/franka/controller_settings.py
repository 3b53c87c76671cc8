"""What a user may set on the arm controller, what it reports, and how it says no."""

import logging
import math
from dataclasses import dataclass, field, replace
from typing import Any

from lerobot_serl.franka.arm_limits import N_JOINTS, ArmLimits
from lerobot_serl.franka.driver import ArmState, Impedance, Vector

from ..setting_error import checks_settings

MODES = ("idle", "joint", "pose", "moving", "fault")
READY_RAD = (0.0, -math.pi / 4, 0.0, -3 * math.pi / 4, 0.0, math.pi / 2, math.pi / 4)


logger = logging.getLogger(__name__)


class ArmRefused(RuntimeError):  # noqa: N818
    """The command is good but not now: the arm is in a fault or moving, or the command carries an old epoch."""


class StaleState(RuntimeError):  # noqa: N818
    """There is no state of the arm that is young enough to act on."""


@dataclass(frozen=True, eq=False)
class ArmSnapshot:
    """The newest state of arm, gripper and controller.

    Attributes:
        state: newest reading of the arm.
        velocity: (6,) of the end effector in the base frame, m/s then rad/s: the Jacobian times dq.
        gripper_width_m: newest known distance of the fingers; None without a gripper or before its first reading.
        max_width_m: its largest width; 0 without a gripper.
        mode: one of `MODES`.
        fault: what is wrong and what to do, empty unless mode is "fault".
        epoch: rises with every recovery; commands that were made for an older one are refused.
        clamps: number of commands so far that had to be changed to be safe.
        gripper_fault: what is wrong with the gripper, else empty.
    """

    state: ArmState
    velocity: Vector
    gripper_width_m: float | None
    max_width_m: float
    mode: str
    fault: str
    epoch: int
    clamps: int
    gripper_fault: str = ""


@dataclass
class ControllerSettings:
    """Limits and habits of the arm controller; the defaults are careful.

    Attributes:
        max_joint_velocity_rad_s: cap on every joint of the reference; the arm's own limit where that is lower.
        max_joint_acceleration_rad_s2: as above.
        max_tool_speed_m_s: cap on the reference in pose mode.
        max_tool_acceleration_m_s2: cap on the reference in pose mode.
        max_tool_rotation_rad_s: cap on the reference in pose mode.
        max_tool_rotation_acceleration_rad_s2: cap on the reference in pose mode.
        max_step_rad: a joint command is moved to within this distance of the reference, per joint.
        max_step_m: a pose command is moved to within this distance of the reference.
        max_step_rotation_rad: a pose command is turned to within this angle of the reference.
        joint_clip_rad: in joint mode, no joint of the reference leads the measured one by more than this.
        workspace_min_m: (3,) lowest corner of the box that the end effector stays in, in the base frame.
        workspace_max_m: (3,) highest corner.
        joint_limit_margin_rad: distance kept from the arm's joint limits.
        watchdog_s: without a command for so long, the reference stops.
        watchdog_stop_s: without a command for so long, tracking ends.
        state_timeout_s: a state older than this is stale.
        auto_recover: recover from reflexes without being asked (never from a pressed stop button).
        max_recoveries_per_min: more faults than this need `clear_errors`.
        home_rad: (7,) goal of `reset_joints` where none is given.
        reset_speed_fraction: speed of `reset_joints`, 1 being the arm's fastest.
        gripper_speed_m_s: speed of the fingers.
        gripper_force_n: force of a grasp.
        impedance: stiffness and error clips of the trackers.

    Raises:
        SettingError: a value is not finite or out of its range.
    """

    max_joint_velocity_rad_s: float = 0.8
    max_joint_acceleration_rad_s2: float = 8.0
    max_tool_speed_m_s: float = 0.3
    max_tool_acceleration_m_s2: float = 3.0
    max_tool_rotation_rad_s: float = 1.0
    max_tool_rotation_acceleration_rad_s2: float = 10.0
    max_step_rad: float = 0.1
    max_step_m: float = 0.05
    max_step_rotation_rad: float = 0.2
    joint_clip_rad: float = 0.08
    workspace_min_m: list[float] = field(default_factory=lambda: [0.2, -0.45, 0.02])
    workspace_max_m: list[float] = field(default_factory=lambda: [0.75, 0.45, 0.7])
    joint_limit_margin_rad: float = 0.05
    watchdog_s: float = 0.3
    watchdog_stop_s: float = 2.0
    state_timeout_s: float = 0.2
    auto_recover: bool = True
    max_recoveries_per_min: int = 3
    home_rad: list[float] = field(default_factory=lambda: list(READY_RAD))
    reset_speed_fraction: float = 0.15
    gripper_speed_m_s: float = 0.1
    gripper_force_n: float = 30.0
    impedance: Impedance = field(default_factory=Impedance)

    @checks_settings
    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            _check_range(name, getattr(self, name), low, high)
        if self.watchdog_stop_s < self.watchdog_s:
            raise ValueError(f"watchdog_stop_s is {self.watchdog_stop_s}, expected at least watchdog_s, {self.watchdog_s}")
        for name, size in (("workspace_min_m", 3), ("workspace_max_m", 3), ("home_rad", 7)):
            values = getattr(self, name)
            if len(values) != size or not all(math.isfinite(value) for value in values):
                raise ValueError(f"{name} is {values}, expected {size} finite numbers")
        if any(low >= high for low, high in zip(self.workspace_min_m, self.workspace_max_m, strict=True)):
            raise ValueError(
                f"workspace_min_m is {self.workspace_min_m}, expected less than workspace_max_m, {self.workspace_max_m}, on every axis"
            )
        check_impedance(self.impedance)


_RANGES = {
    "max_joint_velocity_rad_s": (0.01, 5.0),
    "max_joint_acceleration_rad_s2": (0.1, 20.0),
    "max_tool_speed_m_s": (0.001, 1.7),
    "max_tool_acceleration_m_s2": (0.01, 13.0),
    "max_tool_rotation_rad_s": (0.01, 2.5),
    "max_tool_rotation_acceleration_rad_s2": (0.1, 25.0),
    "max_step_rad": (1e-4, 0.5),
    "max_step_m": (1e-4, 0.3),
    "max_step_rotation_rad": (1e-3, 1.0),
    "joint_clip_rad": (0.001, 0.3),
    "joint_limit_margin_rad": (0.0, 0.5),
    "watchdog_s": (0.02, 10.0),
    "watchdog_stop_s": (0.02, 60.0),
    "state_timeout_s": (0.02, 10.0),
    "max_recoveries_per_min": (0, 60),
    "reset_speed_fraction": (0.01, 0.5),
    "gripper_speed_m_s": (0.001, 0.2),
    "gripper_force_n": (0.0, 140.0),
}
_IMPEDANCE_RANGES = {
    "translational_stiffness_n_m": (0.0, 3000.0),
    "rotational_stiffness_nm_rad": (0.0, 300.0),
    "translational_clip_m": (0.0, 0.1),
    "rotational_clip_rad": (0.0, 0.3),
}
_CLIPS = ("translational_clip_m", "rotational_clip_rad")
_MAX_JOINT_STIFFNESS_NM_RAD = 2000.0


def check_impedance(impedance: Impedance) -> None:
    """Raise ValueError where a stiffness or a clip is out of its range."""
    for name, (low, high) in _IMPEDANCE_RANGES.items():
        _check_range(name, getattr(impedance, name), low, high)
    stiffness = impedance.joint_stiffness_nm_rad
    if len(stiffness) != N_JOINTS:
        raise ValueError(f"joint_stiffness_nm_rad has {len(stiffness)} values, expected {N_JOINTS}")
    for joint, value in enumerate(stiffness, start=1):
        _check_range(f"joint_stiffness_nm_rad of joint {joint}", value, 0.0, _MAX_JOINT_STIFFNESS_NM_RAD)


def changed_impedance(impedance: Impedance, changes: dict[str, Any]) -> Impedance:
    """Return a copy of `impedance` with some fields changed.

    Raises:
        ValueError: no such field, or a value that is out of its range or no number.
    """
    unknown = sorted(set(changes) - set(vars(impedance)))
    if unknown:
        raise ValueError(f"unknown impedance field {unknown}, expected some of {sorted(vars(impedance))}")
    try:
        copy = replace(impedance, **changes)
        copy.joint_stiffness_nm_rad = [float(value) for value in copy.joint_stiffness_nm_rad]
        check_impedance(copy)
    except TypeError as error:
        raise ValueError(f"impedance {changes}: {error}; expected numbers, and a list of 7 for joint_stiffness_nm_rad") from None
    return copy


def with_clips_within(impedance: Impedance, largest: Impedance) -> Impedance:
    """Return a copy of `impedance` whose clips are no larger than those of `largest`, and say where one was larger.

    They bound the force. SERL's clients send clips of their own and end where they are refused, so these are cut instead.
    """
    cut = {name: getattr(largest, name) for name in _CLIPS if getattr(impedance, name) > getattr(largest, name)}
    for name, value in cut.items():
        logger.warning("%s stays at %g, which the server was started with; a client asked for %g", name, value, getattr(impedance, name))
    return replace(impedance, **cut)


def check_arm(settings: ControllerSettings, limits: ArmLimits) -> None:
    """Raise ValueError where the home posture is not within the limits of the arm."""
    margin = settings.joint_limit_margin_rad
    for joint, (value, low, high) in enumerate(zip(settings.home_rad, limits.low_rad, limits.high_rad, strict=True), start=1):
        _check_range(f"joint {joint} of home_rad of a {limits.model}", value, low + margin, high - margin)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN is in no range
        raise ValueError(f"{name} is {value}, expected {low:g} to {high:g}")
