"""Actions of LeRobot's `gamepad` and `keyboard_ee` teleoperators in the keys of `franka_sim` and `franka`.

These devices give `delta_x`, `delta_y`, `delta_z` in -1..1 and `gripper`, which is a wish and not a position.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

AXES = ("delta_x", "delta_y", "delta_z")
GRIPPER = "gripper"
CLOSE, STAY, OPEN = 0, 1, 2
# What keyboard_ee of LeRobot 0.6.1 gives once the key that closes has been let go.
_CLOSE_KEY_RELEASED = -1


@dataclass(frozen=True)
class RobotKeys:
    """What a robot calls that.

    Attributes:
        axes: its keys for `AXES`.
        gripper: its key; None for a robot without a gripper.
        closed, opened: positions of its gripper.
    """

    axes: tuple[str, ...]
    gripper: str | None
    closed: float
    opened: float


def in_robot_keys(action: Mapping[str, Any], keys: RobotKeys, gripper_target: float | None) -> Mapping[str, Any]:
    """Return the action with the robot's own keys where only the device's stand; the device's stay in it, and own keys go before them.

    Args:
        action: of any device; one without the keys of `AXES` comes back as it is.
        keys: the robot's.
        gripper_target: where the gripper stays if it is told to stay or told nothing; None leaves its key out then.

    Raises:
        ValueError: `gripper` is none of 0 (close), 1 (stay) and 2 (open).
    """
    if not any(axis in action for axis in AXES):
        return action
    translated = {key: action[axis] for axis, key in zip(AXES, keys.axes, strict=True) if axis in action}
    wish = action.get(GRIPPER, STAY)
    positions = {CLOSE: keys.closed, STAY: gripper_target, OPEN: keys.opened, _CLOSE_KEY_RELEASED: gripper_target}
    if float(wish) not in positions:
        raise ValueError(f"action entry {GRIPPER!r} is {wish}, expected {CLOSE} (close), {STAY} (stay) or {OPEN} (open)")
    position = positions[int(wish)]
    if keys.gripper is not None and position is not None:
        translated[keys.gripper] = position
    return {**translated, **action}
