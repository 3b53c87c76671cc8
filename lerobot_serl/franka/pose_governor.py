"""Reference governor for end effector poses. No I/O."""

import numpy as np
from numpy.typing import ArrayLike

from lerobot_serl.franka import kinematics
from lerobot_serl.franka.arm_limits import ArmLimits
from lerobot_serl.franka.controller_settings import ControllerSettings
from lerobot_serl.franka.driver import ArmState, Vector
from lerobot_serl.franka.governor import Box, GoalClock, JointGovernor, braking_speed, checked, checked_period

_MAX_NORM_ERROR = 0.05
_OUTWARD_RAD_S = 1e-3
_DAMPING_M = 0.05


class PoseGovernor:
    """Limits a stream of end effector poses.

    Args:
        limits: the arm's own limits; motion that would push a joint further into the margin is stopped.
        settings: caps, workspace, and the error clips of its impedance.
        pose: (4, 4) measured pose: the first reference.
        now_s: time of the clock that `tick` is called with.
    """

    def __init__(self, limits: ArmLimits, settings: ControllerSettings, pose: Vector, now_s: float) -> None:
        self._settings, self._impedance = settings, settings.impedance
        self._low = limits.low_rad + settings.joint_limit_margin_rad
        self._high = limits.high_rad - settings.joint_limit_margin_rad
        self._box = Box.of(settings)
        self._pace = GoalClock(now_s)
        self.pose = np.array(pose, dtype=np.float64)
        self.goal = self.pose.copy()
        self.velocity_m_s: Vector = np.zeros(3)
        self.rotation_rad_s: Vector = np.zeros(3)

    def command(self, pose7: ArrayLike, period_s: float, now_s: float) -> tuple[Vector, bool]:
        """Take a new goal.

        Args:
            pose7: (7,) wanted x, y, z in metres, then the quaternion qx, qy, qz, qw.
            period_s: time until the next command.
            now_s: the time.

        Returns:
            The goal (7,) that the reference is going to, and whether it had to be changed.

        Raises:
            ValueError: not 7 finite numbers, no unit quaternion, or a period that no stream has.
        """
        wanted = checked("pose", pose7, 7)
        length = float(np.linalg.norm(wanted[3:]))
        if abs(length - 1) > _MAX_NORM_ERROR:
            raise ValueError(f"the quaternion qx, qy, qz, qw is {wanted[3:].tolist()} of length {length:.3f}, expected length 1")
        wanted[3:] /= length
        period = checked_period(period_s)
        here, turned = self.pose[:3, 3], self.pose[:3, :3]
        box = self._box.with_point(here)
        step = _shortened(box.clamp(wanted[:3]) - here, self._settings.max_step_m)
        turn = kinematics.rotvec_of_matrix(kinematics.matrix_of_quaternion(wanted[3:]) @ turned.T)
        limited = _shortened(turn, self._settings.max_step_rotation_rad)
        goal = np.eye(4)
        goal[:3, 3] = here + step
        goal[:3, :3] = kinematics.matrix_of_rotvec(limited) @ turned
        self.goal = goal
        self._pace.due_in(period, now_s)
        goal7 = kinematics.pose7_of_matrix(goal)
        if goal7[3:] @ wanted[3:] < 0:
            goal7[3:] *= -1  # the sender's sign of the quaternion, so that both can be compared
        return goal7, not np.allclose(goal7, wanted, rtol=0, atol=1e-6)

    def freeze(self) -> None:
        """Brake, and stay where that ends."""
        turn = _braking_distance(self.rotation_rad_s, self._settings.max_tool_rotation_acceleration_rad_s2)
        self.goal = self.pose.copy()
        self.goal[:3, 3] += _braking_distance(self.velocity_m_s, self._settings.max_tool_acceleration_m_s2)
        self.goal[:3, :3] = kinematics.matrix_of_rotvec(turn) @ self.pose[:3, :3]

    def tick(self, measured: Vector, q_rad: Vector, jacobian: Vector, now_s: float) -> tuple[Vector, Vector]:
        """Move the reference.

        Args:
            measured: (4, 4) pose of the end effector now.
            q_rad: (7,) joint positions now.
            jacobian: (6, 7) of the end effector now.
            now_s: the time.

        Returns:
            The reference (4, 4) and its velocity (6,), m/s then rad/s.
        """
        dt_s, left_s = self._pace.tick(now_s)
        if dt_s > 0:
            self._advance(q_rad, jacobian, dt_s, left_s)
            self._clip_to(measured)
        return self.pose.copy(), np.concatenate([self.velocity_m_s, self.rotation_rad_s])

    def _advance(self, q_rad: Vector, jacobian: Vector, dt_s: float, left_s: float) -> None:
        caps = self._settings
        way = self.goal[:3, 3] - self.pose[:3, 3]
        turn = kinematics.rotvec_of_matrix(self.goal[:3, :3] @ self.pose[:3, :3].T)
        velocity = _next_velocity(self.velocity_m_s, way, caps.max_tool_speed_m_s, caps.max_tool_acceleration_m_s2, dt_s, left_s)
        rotation = _next_velocity(
            self.rotation_rad_s, turn, caps.max_tool_rotation_rad_s, caps.max_tool_rotation_acceleration_rad_s2, dt_s, left_s
        )
        strained = self._strains_a_joint(np.concatenate([velocity, rotation]), q_rad, jacobian)
        if strained or not self._stays_in_box(velocity, dt_s):
            velocity = _braked(self.velocity_m_s, caps.max_tool_acceleration_m_s2, dt_s)
        if strained:
            rotation = _braked(self.rotation_rad_s, caps.max_tool_rotation_acceleration_rad_s2, dt_s)
        self.velocity_m_s, self.rotation_rad_s = velocity, rotation
        self.pose[:3, 3] += velocity * dt_s
        turned = kinematics.matrix_of_rotvec(rotation * dt_s) @ self.pose[:3, :3]
        # A round trip through the quaternion keeps it a rotation for hours.
        self.pose[:3, :3] = kinematics.matrix_of_quaternion(kinematics.quaternion_of_matrix(turned))

    def _stays_in_box(self, velocity: Vector, dt_s: float) -> bool:
        """Return whether braking after `dt_s` at this velocity (3,) ends in the workspace; sideways ways to a goal may not."""
        acceleration, here = self._settings.max_tool_acceleration_m_s2, self.pose[:3, 3]
        box = self._box.with_point(here).with_point(here + _braking_distance(self.velocity_m_s, acceleration))
        return box.contains(here + velocity * dt_s + _braking_distance(velocity, acceleration))

    def _strains_a_joint(self, twist: Vector, q_rad: Vector, jacobian: Vector) -> bool:
        """Return whether this motion (6,) would take a joint further into the margin of its limit."""
        gram = jacobian @ jacobian.T + _DAMPING_M**2 * np.eye(6)
        dq = jacobian.T @ np.linalg.solve(gram, twist)
        up = (q_rad > self._high) & (dq > _OUTWARD_RAD_S)
        down = (q_rad < self._low) & (dq < -_OUTWARD_RAD_S)
        return bool(np.any(up | down))

    def _clip_to(self, measured: Vector) -> None:
        lead = self.pose[:3, 3] - measured[:3, 3]
        if float(np.linalg.norm(lead)) > self._impedance.translational_clip_m:
            self.pose[:3, 3] = measured[:3, 3] + _shortened(lead, self._impedance.translational_clip_m)
            self.velocity_m_s = np.zeros(3)
        turn = kinematics.rotvec_of_matrix(self.pose[:3, :3] @ measured[:3, :3].T)
        if float(np.linalg.norm(turn)) > self._impedance.rotational_clip_rad:
            limited = _shortened(turn, self._impedance.rotational_clip_rad)
            self.pose[:3, :3] = kinematics.matrix_of_rotvec(limited) @ measured[:3, :3]
            self.rotation_rad_s = np.zeros(3)


def governor_of(mode: str, limits: ArmLimits, settings: ControllerSettings, state: ArmState, now_s: float) -> JointGovernor | PoseGovernor:
    """Return the governor of a tracker ("joint" or "pose") that begins in this state."""
    if mode == "joint":
        return JointGovernor(limits, settings, state.q_rad, kinematics.tool_of(state.q_rad, state.pose), now_s)
    return PoseGovernor(limits, settings, state.pose, now_s)


def _shortened(vector: Vector, longest: float) -> Vector:
    """Return the vector (3,), no longer than `longest`."""
    length = float(np.linalg.norm(vector))
    return vector if length <= longest else vector * (longest / length)


def _braking_distance(velocity: Vector, acceleration: float) -> Vector:
    return velocity * float(np.linalg.norm(velocity)) / (2 * acceleration)


def _braked(velocity: Vector, acceleration: float, dt_s: float) -> Vector:
    return velocity + _shortened(-velocity, acceleration * dt_s)


def _next_velocity(now: Vector, way: Vector, cap: float, acceleration: float, dt_s: float, left_s: float) -> Vector:
    """Return the next velocity (3,) towards the end of `way` (3,), within the caps, from which one can still stop there."""
    distance = np.array([np.linalg.norm(way)])
    fastest = min(cap, float(braking_speed(distance, np.array([acceleration]), dt_s)[0]))
    wanted = _shortened(way / left_s, fastest)
    return now + _shortened(wanted - now, acceleration * dt_s)
