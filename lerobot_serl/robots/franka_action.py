"""What an action dictionary asks of a Franka arm."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config_franka import EFFORT_KEYS, GRIPPER_KEY, JOINT_KEYS, ROTATION_KEYS, TRANSLATION_KEYS, VELOCITY_KEYS, FrankaConfig
from .gamepad_action import AXES, GRIPPER, RobotKeys, in_robot_keys

Vector = NDArray[np.float64]
KNOWN_KEYS = {*VELOCITY_KEYS, *EFFORT_KEYS, *TRANSLATION_KEYS, *ROTATION_KEYS, *AXES, GRIPPER}


@dataclass(frozen=True, eq=False)
class FrankaCommand:
    """A checked action.

    Attributes:
        keys: of the arm's part, in the order of `values`.
        values: (7,) joint positions in rad, or (3,) or (6,) displacements, -1 to 1.
        is_joint: which of the two.
        opening: of the gripper, 0 closed to 1 open; None leaves it alone.
        aliases: the action's own entries where it came from a gamepad or keyboard; else empty.
    """

    keys: tuple[str, ...]
    values: Vector
    is_joint: bool
    opening: float | None
    aliases: Mapping[str, float]

    def as_action(self, values: Vector, opening: float | None) -> dict[str, float]:
        """Return the action with what the arm and the gripper (None: there is none) do instead; gamepad keys come with the robot's."""
        action = {key: float(value) for key, value in zip(self.keys, values, strict=True)}
        if opening is not None:
            action[GRIPPER_KEY] = float(opening)
        return action | {
            alias: action[TRANSLATION_KEYS[AXES.index(alias)]] if alias in AXES else wish for alias, wish in self.aliases.items()
        }


def in_own_keys(action: Mapping[str, Any], config: FrankaConfig, held_opening: float | None) -> Mapping[str, Any]:
    """Return an action of a gamepad or keyboard in the robot's keys, if it takes displacements; any other one as it is.

    Args:
        held_opening: what the gripper was told last; None leaves its key out where the device does not ask for anything.

    Raises:
        ValueError: `gripper` is no wish.
    """
    if config.control_mode != "ee_delta" or not any(key in action for key in AXES):
        return action
    keys = RobotKeys(TRANSLATION_KEYS, GRIPPER_KEY if config.gripper_keys else None, closed=0.0, opened=1.0)
    return {**dict.fromkeys(config.arm_keys[len(AXES) :], 0.0), **in_robot_keys(action, keys, held_opening)}


def parse_action(action: Mapping[str, Any], config: FrankaConfig) -> FrankaCommand:
    """Check an action.

    In ee_delta, joint keys without any displacement are a joint motion: lerobot-rollout returns to the start that way. Beside a gamepad's entries,
    which `in_own_keys` has translated, the gripper's may be missing: it is then left alone.
    Further keys that end in .pos are ignored, because it sends every observation that does.

    Raises:
        ValueError: a key is missing or unknown, or a value is not a finite number.
    """
    unknown = [key for key in action if key not in KNOWN_KEYS and not key.endswith(".pos") and key not in config.cameras]
    if unknown:
        raise ValueError(f"the action has the unknown keys {unknown}; robot.control_mode={config.control_mode} takes {config.action_keys}")
    aliases = _aliases(action, config)
    is_displacement = any(key in action for key in (*TRANSLATION_KEYS, *ROTATION_KEYS))
    is_joint = config.control_mode == "joint" or (not is_displacement and any(key in action for key in JOINT_KEYS))
    keys = JOINT_KEYS if is_joint else config.arm_keys
    _check_complete(action, (*keys, *(() if aliases else config.gripper_keys)), config)
    values = np.array([_number(action, key) for key in keys])
    opening = min(max(_number(action, GRIPPER_KEY), 0.0), 1.0) if config.gripper_keys and GRIPPER_KEY in action else None
    return FrankaCommand(keys, values if is_joint else np.clip(values, -1.0, 1.0), is_joint, opening, aliases)


def _aliases(action: Mapping[str, Any], config: FrankaConfig) -> dict[str, float]:
    """The entries of a gamepad or keyboard that stand beside the robot's own (`in_own_keys`)."""
    if not any(key in action for key in AXES):
        return {}
    if config.control_mode != "ee_delta":
        raise ValueError(f"the action has {AXES}, which move the end effector; set --robot.control_mode=ee_delta")
    _check_complete(action, AXES, config)
    return {key: _number(action, key) for key in (*AXES, GRIPPER) if key in action}


def _check_complete(action: Mapping[str, Any], keys: tuple[str, ...], config: FrankaConfig) -> None:
    missing = [key for key in keys if key not in action]
    if missing:
        raise ValueError(f"the action lacks {missing}; it has {sorted(action)}, and robot.control_mode={config.control_mode} needs {keys}")


def _number(action: Mapping[str, Any], key: str) -> float:
    value = float(action[key])
    if not math.isfinite(value):
        raise ValueError(f"action entry {key!r} is {value}, expected a finite number; check the policy or teleoperator")
    return value
