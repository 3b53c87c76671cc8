"""Reference governors: between commands that nobody has checked and the references that an arm follows. No I/O.

A governor owns the reference. A command moves its goal, after the goal was made safe; a tick moves the reference towards the
goal, at a speed that arrives when the next command is due, within caps on velocity and acceleration. The speed is always
such that the reference can still brake in front of its goal, so it never overshoots, and stays where goals may be.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lerobot_serl.franka import kinematics
from lerobot_serl.franka.arm_limits import ArmLimits
from lerobot_serl.franka.controller_settings import ControllerSettings
from lerobot_serl.franka.driver import Vector

MAX_TICK_S = 0.03
MIN_PERIOD_S = 0.002
MAX_PERIOD_S = 1.0
_BOX_STEPS = 4
_BOX_DAMPING_M = 0.05
# Straight in the joints is not straight in space. Goals are inside the box; on the way to them the tool may bulge out this far.
BULGE_M = 0.005


def checked(name: str, values: ArrayLike, size: int) -> Vector:
    """Return `values` as a new float array.

    Raises:
        ValueError: not `size` numbers, or one of them is not finite.
    """
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {values!r:.80}, expected {size} numbers") from None
    if array.shape != (size,):
        raise ValueError(f"{name} has shape {array.shape}, expected {size} numbers")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is {array.tolist()}, expected finite numbers")
    return array


def checked_period(period_s: float) -> float:
    """Return the period, or raise ValueError where it is not a number of seconds that a command stream can have."""
    try:
        period = float(period_s)
    except (TypeError, ValueError):
        raise ValueError(f"period_s is {period_s!r:.80}, expected a number of seconds") from None
    if not MIN_PERIOD_S <= period <= MAX_PERIOD_S:
        raise ValueError(f"period_s is {period}, expected {MIN_PERIOD_S} to {MAX_PERIOD_S} s: the time until your next command")
    return period


def braking_speed(distance: Vector, acceleration: Vector, dt_s: float) -> Vector:
    """Return the highest speed for the next `dt_s` after which one can still stop within `distance` (>= 0)."""
    slack = acceleration * dt_s
    return np.sqrt(slack**2 + 2 * acceleration * distance) - slack


@dataclass(frozen=True, eq=False)
class Box:
    """A box in the base frame: `low_m` and `high_m` (3,)."""

    low_m: Vector
    high_m: Vector

    @classmethod
    def of(cls, settings: ControllerSettings) -> "Box":
        """Return the workspace of the settings."""
        return cls(np.array(settings.workspace_min_m, dtype=np.float64), np.array(settings.workspace_max_m, dtype=np.float64))

    def with_point(self, point_m: Vector) -> "Box":
        """Return the smallest box that also contains `point_m` (3,): an arm that stands outside may only come closer."""
        return Box(np.minimum(self.low_m, point_m), np.maximum(self.high_m, point_m))

    def grown(self, by_m: float) -> "Box":
        """Return the box with every side moved outwards."""
        return Box(self.low_m - by_m, self.high_m + by_m)

    def clamp(self, point_m: Vector) -> Vector:
        """Return the point (3,) of the box that is closest to `point_m`."""
        return np.clip(point_m, self.low_m, self.high_m)

    def contains(self, point_m: Vector, tolerance_m: float = 1e-9) -> bool:
        """Return whether `point_m` (3,) is inside."""
        return bool(np.all(point_m >= self.low_m - tolerance_m) and np.all(point_m <= self.high_m + tolerance_m))


class GoalClock:
    """When the goal is due, and how long the present tick is."""

    def __init__(self, now_s: float) -> None:
        self._ticked_s = now_s
        self._due_s = now_s

    def due_in(self, period_s: float, now_s: float) -> None:
        """A new goal is to be reached `period_s` from now."""
        self._due_s = now_s + period_s

    def tick(self, now_s: float) -> tuple[float, float]:
        """Return the length of this tick and the time left for the goal, in seconds; time never runs backwards."""
        dt_s = min(max(now_s - self._ticked_s, 0.0), MAX_TICK_S)
        self._ticked_s = max(now_s, self._ticked_s)
        return dt_s, max(self._due_s - now_s, 0.0) + dt_s


class JointGovernor:
    """Limits a stream of joint positions.

    Args:
        limits: the arm's own limits.
        settings: the caps asked for; the lower of both counts.
        q_rad: (7,) measured joint positions: the first reference.
        tool: (4, 4) end effector in the flange's frame, the point that stays in the workspace.
        now_s: time of the clock that `tick` is called with.
    """

    def __init__(self, limits: ArmLimits, settings: ControllerSettings, q_rad: Vector, tool: Vector, now_s: float) -> None:
        self._max_velocity = np.minimum(limits.velocity_rad_s, settings.max_joint_velocity_rad_s)
        self._max_acceleration = np.minimum(limits.acceleration_rad_s2, settings.max_joint_acceleration_rad_s2)
        self._low = limits.low_rad + settings.joint_limit_margin_rad
        self._high = limits.high_rad - settings.joint_limit_margin_rad
        self._max_step, self._clip = settings.max_step_rad, settings.joint_clip_rad
        self._box, self._tool = Box.of(settings), tool
        self._pace = GoalClock(now_s)
        self.q_rad = np.array(q_rad, dtype=np.float64)
        self.dq_rad_s = np.zeros_like(self.q_rad)
        self.goal_rad = self.q_rad.copy()

    def command(self, q_rad: ArrayLike, period_s: float, now_s: float) -> tuple[Vector, bool]:
        """Take a new goal.

        Args:
            q_rad: (7,) wanted joint positions.
            period_s: time until the next command.
            now_s: the time.

        Returns:
            The goal (7,) that the reference is going to, and whether it had to be changed.

        Raises:
            ValueError: not 7 finite numbers, or a period that no stream has.
        """
        wanted = checked("joint positions", q_rad, 7)
        period = checked_period(period_s)
        goal = self._within_box(self._within_reach(wanted))
        self.goal_rad = goal
        self._pace.due_in(period, now_s)
        return goal.copy(), not np.allclose(goal, wanted, rtol=0, atol=1e-9)

    def freeze(self) -> None:
        """Brake, and stay where that ends."""
        self.goal_rad = self._stop(self.q_rad, self.dq_rad_s)

    def tick(self, measured_rad: Vector, now_s: float) -> tuple[Vector, Vector]:
        """Move the reference.

        Args:
            measured_rad: (7,) joint positions of the arm now.
            now_s: the time.

        Returns:
            The reference (7,) and its velocity (7,).
        """
        dt_s, left_s = self._pace.tick(now_s)
        if dt_s > 0:
            before = self.q_rad
            self._advance(dt_s, left_s)
            clipped = np.clip(self.q_rad, measured_rad - self._clip, measured_rad + self._clip)
            # Where the arm cannot follow, the velocity is that of the clip: none for an arm that is held fast.
            speed = np.clip((clipped - before) / dt_s, np.minimum(self.dq_rad_s, 0), np.maximum(self.dq_rad_s, 0))
            self.dq_rad_s = np.where(clipped == self.q_rad, self.dq_rad_s, speed)
            self.q_rad = clipped
        return self.q_rad.copy(), self.dq_rad_s.copy()

    def _advance(self, dt_s: float, left_s: float) -> None:
        distance = self.goal_rad - self.q_rad
        speed = distance / left_s
        # One factor for all joints keeps the motion straight; braking in front of the goal is each joint's own.
        speed *= min(1.0, float(np.min(self._max_velocity / np.maximum(np.abs(speed), 1e-12))))
        cap = braking_speed(np.abs(distance), self._max_acceleration, dt_s)
        change = self._max_acceleration * dt_s
        velocity = np.clip(np.clip(speed, -cap, cap), self.dq_rad_s - change, self.dq_rad_s + change)
        ahead = self.q_rad + velocity * dt_s
        if not self._stays_in_box(ahead, velocity):
            velocity = np.sign(self.dq_rad_s) * np.maximum(np.abs(self.dq_rad_s) - change, 0.0)
            ahead = self.q_rad + velocity * dt_s
        self.q_rad, self.dq_rad_s = ahead, velocity

    def _stays_in_box(self, ahead_rad: Vector, velocity: Vector) -> bool:
        """Return whether the tool is in the workspace at the next reference, and where braking from there ends."""
        here, stop = self._tip(self.q_rad), self._tip(self._stop(self.q_rad, self.dq_rad_s))
        box = self._box.grown(BULGE_M)
        return box.with_point(here).contains(self._tip(ahead_rad)) and box.with_point(stop).contains(
            self._tip(self._stop(ahead_rad, velocity))
        )

    def _stop(self, q_rad: Vector, dq_rad_s: Vector) -> Vector:
        """Return where full braking from this state ends."""
        return q_rad + dq_rad_s * np.abs(dq_rad_s) / (2 * self._max_acceleration)

    def _tip(self, q_rad: Vector) -> Vector:
        return kinematics.tool_pose(q_rad, self._tool)[:3, 3]

    def _within_reach(self, goal: Vector) -> Vector:
        """Return the goal within the joint limits and one step from the reference; an arm outside may only come closer."""
        low, high = np.minimum(self._low, self.q_rad), np.maximum(self._high, self.q_rad)
        return np.clip(np.clip(goal, low, high), self.q_rad - self._max_step, self.q_rad + self._max_step)

    def _within_box(self, goal: Vector) -> Vector:
        """Return a goal whose tool is in the workspace, by the shortest way that the joints have; so it slides along walls."""
        box = self._box.with_point(self._tip(self.q_rad))
        for _ in range(_BOX_STEPS):
            point = self._tip(goal)
            if box.contains(point):
                return goal
            linear = kinematics.jacobian(goal, self._tool)[:3]
            gram = linear @ linear.T + _BOX_DAMPING_M**2 * np.eye(3)
            goal = self._within_reach(goal + linear.T @ np.linalg.solve(gram, box.clamp(point) - point))
        return self._part_of_the_way(goal, box)

    def _part_of_the_way(self, goal: Vector, box: Box) -> Vector:
        """Return a point between reference and goal whose tool is in the box, as far as 10 halvings find."""
        inside, outside = 0.0, 1.0
        if box.contains(self._tip(goal)):
            return goal
        for _ in range(10):
            middle = (inside + outside) / 2
            if box.contains(self._tip(self.q_rad + middle * (goal - self.q_rad))):
                inside = middle
            else:
                outside = middle
        return self.q_rad + inside * (goal - self.q_rad)
