"""Actions of LeRobot's `gamepad` and `keyboard_ee` teleoperators in the keys of `franka_sim`.

These devices give `delta_x`, `delta_y`, `delta_z` in -1..1 and `gripper`, which is a wish and not a position.
"""

from collections.abc import Mapping
from typing import Any

AXES = ("delta_x", "delta_y", "delta_z")
GRIPPER = "gripper"
CLOSE, STAY, OPEN = 0, 1, 2
# What keyboard_ee of LeRobot 0.6.1 gives once the key that closes has been let go.
_CLOSE_KEY_RELEASED = -1


def in_robot_keys(action: Mapping[str, Any], gripper_target: float) -> Mapping[str, Any]:
    """Return the action with `delta_x.pos`, `delta_y.pos`, `delta_z.pos` and `gripper.pos` where only the device's own keys stand.

    Args:
        action: of any device; one without the keys of `AXES` comes back as it is.
        gripper_target: where the gripper stays if it is told to stay or told nothing; 0 open to 1 closed.

    Raises:
        ValueError: `gripper` is none of 0 (close), 1 (stay) and 2 (open).
    """
    if not any(axis in action for axis in AXES):
        return action
    translated = {f"{axis}.pos": action[axis] for axis in AXES if axis in action}
    wish = action.get(GRIPPER, STAY)
    closures = {CLOSE: 1.0, STAY: gripper_target, OPEN: 0.0, _CLOSE_KEY_RELEASED: gripper_target}
    if float(wish) not in closures:
        raise ValueError(f"action entry {GRIPPER!r} is {wish}, expected {CLOSE} (close), {STAY} (stay) or {OPEN} (open)")
    return {**translated, f"{GRIPPER}.pos": closures[int(wish)], **action}
