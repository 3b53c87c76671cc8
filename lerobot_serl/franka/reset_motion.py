"""What a slow motion to a posture (`/jointreset`) may do. The governors limit streams of commands only, and have no part in it."""

import numpy as np
from numpy.typing import ArrayLike

from lerobot_serl.franka.arm_limits import ArmLimits
from lerobot_serl.franka.controller_settings import ControllerSettings
from lerobot_serl.franka.driver import ArmState, Vector
from lerobot_serl.franka.governor import Box, checked
from lerobot_serl.franka.kinematics import tool_of, tool_pose


def checked_goal(q_rad: ArrayLike, state: ArmState, limits: ArmLimits, settings: ControllerSettings) -> Vector:
    """Return the goal (7,) as a new array. Only the goal is looked at: on the way the end effector may leave the workspace.

    Args:
        q_rad: (7,) wanted joint positions.
        state: of the arm now.
        limits: the arm's own limits.
        settings: margin to them, and the workspace.

    Raises:
        ValueError: outside the joint limits, or the end effector would be outside the workspace and further out than now.
    """
    goal = checked("joint positions", q_rad, 7)
    margin = settings.joint_limit_margin_rad
    low, high = limits.low_rad + margin, limits.high_rad - margin
    if np.any(goal < low) or np.any(goal > high):
        raise ValueError(f"joint positions are {goal.round(4).tolist()}, expected between {low.round(4)} and {high.round(4)}")
    box = Box.of(settings).with_point(state.pose[:3, 3])
    point_m = tool_pose(goal, tool_of(state.q_rad, state.pose))[:3, 3]
    if not box.contains(point_m):
        raise ValueError(
            f"joint positions {goal.round(4).tolist()} bring the end effector to {point_m.round(4).tolist()} m, expected between "
            f"{box.low_m.round(4)} and {box.high_m.round(4)}: choose others, or start the server with another "
            "--controller.workspace_min_m or --controller.workspace_max_m"
        )
    return goal


def speed_fraction(limits: ArmLimits, settings: ControllerSettings) -> float:
    """Return the speed, 1 being the arm's fastest, with which no joint exceeds the cap on joint speeds.

    A driver scales the limits of all joints by this one number, so the fastest joint decides, whichever joints have a way to go.
    """
    return min(settings.reset_speed_fraction, settings.max_joint_velocity_rad_s / float(np.max(limits.velocity_rad_s)))
