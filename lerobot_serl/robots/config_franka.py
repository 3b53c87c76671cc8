"""Configuration of the real Franka arm: `--robot.type=franka`, or `serl_franka` where another plugin has taken that name.

Importing this module registers the type; it is cheap to import, and talks to nothing.
"""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from lerobot.cameras import CameraConfig
from lerobot.robots import RobotConfig

from ..franka.arm_limits import limits_of
from ..franka.kinematics import tool_pose
from ..setting_error import checks_settings
from .keep_alive import split_url

NAMES = ("franka", "serl_franka")
CONTROL_MODES = ("joint", "ee_delta")
GRIPPERS = ("franka", "robotiq", "none")
_JOINTS = tuple(f"joint_{i}" for i in range(1, 8))
# lerobot-rollout hands a policy only keys that end in .pos or .vel.
JOINT_KEYS = tuple(f"{joint}.pos" for joint in _JOINTS)
VELOCITY_KEYS = tuple(f"{joint}.vel" for joint in _JOINTS)
EE_KEYS = ("ee_x.pos", "ee_y.pos", "ee_z.pos", *(f"ee_r{i}.pos" for i in range(1, 7)))
EFFORT_KEYS = (*(f"tau_{i}.effort" for i in range(1, 8)), *(f"wrench_{axis}.effort" for axis in ("fx", "fy", "fz", "tx", "ty", "tz")))
TRANSLATION_KEYS = ("ee_dx.vel", "ee_dy.vel", "ee_dz.vel")
ROTATION_KEYS = ("ee_drx.vel", "ee_dry.vel", "ee_drz.vel")
GRIPPER_KEY = "gripper.pos"

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class FrankaConfig(RobotConfig):
    """A Franka arm behind a server: `lerobot-serl-franka-server`, or an existing SERL or HIL-SERL server.

    Stiffness, speed limits and the watchdog belong to the server, which is closer to the arm.

    Attributes:
        server_url: of the server.
        token_file: file with the server's token; without it the environment variable LEROBOT_SERL_FRANKA_TOKEN, if it is set.
        certificate: PEM file with the server's certificate, or that of its authority, for a `server_url` of https; without it, what this
            machine trusts.
        arm: "fr3" (Research 3) or "fer" (the older Panda).
        control_mode: "joint" takes absolute joint positions (rad), "ee_delta" displacements of the end effector in the base frame,
            -1 to 1, where 1 is `ee_step_m` or `ee_step_rad`.
        ee_rotation: in ee_delta, also take rotations; otherwise the orientation is held.
        gripper: "franka", "robotiq" (SERL and HIL-SERL servers only), or "none".
        home_joints: (7,) rad, goal of `reset`.
        home_on_connect: move there when connecting.
        max_relative_target: farthest that one action may lie from the measured joint positions, rad; one number, or one for each
            joint key; None for no limit here (the server has its own).
        ee_step_m: displacement that 1 stands for, at most 0.05.
        ee_step_rad: rotation that 1 stands for, at most 0.2.
        workspace_min: (3,) m, lowest corner of the box that ee_delta keeps its targets in, base frame.
        workspace_max: (3,) m, highest corner.
        joint_limit_margin_rad: distance that `home_joints` has to keep from the joint limits.
        observe_velocities: also observe `joint_1.vel` to `joint_7.vel`, rad/s.
        observe_ee_pose: also observe `ee_x.pos`, `ee_y.pos`, `ee_z.pos` (m), and the first two columns of the rotation matrix,
            `ee_r1.pos` to `ee_r6.pos`.
        observe_efforts: also observe external torques `tau_1.effort` to `tau_7.effort` (Nm) and the wrench `wrench_fx.effort` to
            `wrench_tz.effort` (N, Nm). lerobot-rollout never gives them to a policy.
        state_timeout_s: a state that the server has not renewed for so long raises.
        request_timeout_s: for the server to answer.
        recovery_wait_s: for the server to recover from a fault by itself before `send_action` raises; a reading may take so much longer.
        cameras: LeRobot cameras, with width, height and fps.

    Raises:
        SettingError: a value is unknown or out of range.
    """

    server_url: str = "http://127.0.0.1:5000"
    token_file: Path | None = None
    certificate: Path | None = None
    arm: str = "fr3"
    control_mode: str = "joint"
    ee_rotation: bool = False
    gripper: str = "franka"
    home_joints: list[float] = field(default_factory=lambda: [0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])
    home_on_connect: bool = False
    max_relative_target: float | dict[str, float] | None = 0.1
    ee_step_m: float = 0.01
    ee_step_rad: float = 0.05
    workspace_min: list[float] = field(default_factory=lambda: [0.2, -0.45, 0.02])
    workspace_max: list[float] = field(default_factory=lambda: [0.75, 0.45, 0.70])
    joint_limit_margin_rad: float = 0.05
    observe_velocities: bool = False
    observe_ee_pose: bool = False
    observe_efforts: bool = False
    state_timeout_s: float = 0.2
    request_timeout_s: float = 0.5
    recovery_wait_s: float = 1.0
    cameras: dict[str, CameraConfig] = field(default_factory=dict)

    @checks_settings
    def __post_init__(self) -> None:
        super().__post_init__()
        split_url(self.server_url)
        for name, choices in (("control_mode", CONTROL_MODES), ("gripper", GRIPPERS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"robot.{name} is {getattr(self, name)!r}, expected one of {choices}; set --robot.{name}={choices[0]}")
        self._check_range("ee_step_m", 0.05)
        self._check_range("ee_step_rad", 0.2)
        for name in ("state_timeout_s", "request_timeout_s"):
            self._check_range(name, 60.0)
        if not 0 <= self.recovery_wait_s <= 60.0:
            raise ValueError(f"robot.recovery_wait_s is {self.recovery_wait_s}, expected 0 to 60 seconds")
        self._check_workspace()
        self._check_home()
        self._check_max_relative_target()

    @property
    def action_keys(self) -> tuple[str, ...]:
        """Keys of an action, in order."""
        return (*self.arm_keys, *self.gripper_keys)

    @property
    def arm_keys(self) -> tuple[str, ...]:
        """Keys of an action without the gripper's."""
        if self.control_mode == "joint":
            return JOINT_KEYS
        return (*TRANSLATION_KEYS, *(ROTATION_KEYS if self.ee_rotation else ()))

    @property
    def observation_keys(self) -> tuple[str, ...]:
        """Keys of an observation that hold a number, in order."""
        optional = ((self.observe_velocities, VELOCITY_KEYS), (self.observe_ee_pose, EE_KEYS), (self.observe_efforts, EFFORT_KEYS))
        return (*JOINT_KEYS, *self.gripper_keys, *(key for is_wanted, keys in optional if is_wanted for key in keys))

    @property
    def gripper_keys(self) -> tuple[str, ...]:
        """The gripper's key, if there is a gripper."""
        return () if self.gripper == "none" else (GRIPPER_KEY,)

    @property
    def largest_steps_rad(self) -> list[float]:
        """(7,) farthest that one action may lie from the measured joint positions; infinite where there is no limit."""
        limit = self.max_relative_target
        if limit is None:
            return [math.inf] * len(JOINT_KEYS)
        return [float(limit[key]) for key in JOINT_KEYS] if isinstance(limit, dict) else [float(limit)] * len(JOINT_KEYS)

    def _check_range(self, name: str, highest: float) -> None:
        if not 0 < getattr(self, name) <= highest:
            raise ValueError(f"robot.{name} is {getattr(self, name)}, expected more than 0 and at most {highest}")

    def _check_workspace(self) -> None:
        corners = (self.workspace_min, self.workspace_max)
        if any(len(corner) != 3 or not np.isfinite(corner).all() for corner in corners) or not np.less(*corners).all():
            raise ValueError(
                f"robot.workspace_min is {self.workspace_min} and robot.workspace_max is {self.workspace_max}, "
                "expected 3 finite numbers each (metres), the first all below the second"
            )

    def _check_home(self) -> None:
        limits = limits_of(self.arm)
        low, high = limits.low_rad + self.joint_limit_margin_rad, limits.high_rad - self.joint_limit_margin_rad
        if not (math.isfinite(self.joint_limit_margin_rad) and (low < high).all() and self.joint_limit_margin_rad >= 0):
            raise ValueError(f"robot.joint_limit_margin_rad is {self.joint_limit_margin_rad}, expected a small number such as 0.05")
        if len(self.home_joints) != len(JOINT_KEYS) or not np.isfinite(self.home_joints).all():
            raise ValueError(f"robot.home_joints is {self.home_joints}, expected {len(JOINT_KEYS)} finite numbers (rad)")
        for i, (value, lowest, highest) in enumerate(zip(self.home_joints, low, high, strict=True)):
            if not lowest <= value <= highest:
                raise ValueError(
                    f"robot.home_joints: joint {i + 1} is {value} rad, expected {lowest:.4f} to {highest:.4f} on a {self.arm}; "
                    "correct it, or set --robot.arm if the arm is the other model"
                )
        position_m = tool_pose(self.home_joints)[:3, 3]
        inside = (np.array(self.workspace_min) <= position_m) & (position_m <= np.array(self.workspace_max))
        if self.gripper == "franka" and not inside.all():
            raise ValueError(
                f"robot.home_joints bring the hand to {position_m.round(3).tolist()} m, outside robot.workspace_min {self.workspace_min} "
                f"to robot.workspace_max {self.workspace_max}; change one of them"
            )

    def _check_max_relative_target(self) -> None:
        limit = self.max_relative_target
        if isinstance(limit, dict) and set(limit) != set(JOINT_KEYS):
            raise ValueError(f"robot.max_relative_target has the keys {sorted(limit)}, expected exactly {JOINT_KEYS}")
        if not all(value > 0 for value in self.largest_steps_rad):
            raise ValueError(f"robot.max_relative_target is {limit}, expected rad per action above 0, for example 0.1")


def _register() -> None:
    """Another plugin may have taken a name; that must not cost our other types."""
    for name in NAMES:
        try:
            RobotConfig.register_subclass(name, FrankaConfig)
        except ValueError as error:
            logger.warning("--robot.type=%s belongs to another plugin here; use --robot.type=%s. %s", name, NAMES[-1], error)


_register()
