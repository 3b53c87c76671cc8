"""What an action dictionary asks of a Franka arm."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config_franka import EFFORT_KEYS, GRIPPER_KEY, JOINT_KEYS, ROTATION_KEYS, TRANSLATION_KEYS, VELOCITY_KEYS, FrankaConfig

Vector = NDArray[np.float64]
# What LeRobot's gamepad and keyboard_ee send; their gripper is a wish.
ALIAS_KEYS = ("delta_x", "delta_y", "delta_z")
GRIPPER_ALIAS = "gripper"
# The last one is what keyboard_ee of LeRobot 0.6.1 gives once the key that closes has been let go.
WISHES: dict[float, float | None] = {0.0: 0.0, 1.0: None, 2.0: 1.0, -1.0: None}
KNOWN_KEYS = {*VELOCITY_KEYS, *EFFORT_KEYS, *TRANSLATION_KEYS, *ROTATION_KEYS, *ALIAS_KEYS, GRIPPER_ALIAS}


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
            alias: action[TRANSLATION_KEYS[ALIAS_KEYS.index(alias)]] if alias in ALIAS_KEYS else wish
            for alias, wish in self.aliases.items()
        }


def parse_action(action: Mapping[str, Any], config: FrankaConfig) -> FrankaCommand:
    """Check an action.

    In ee_delta, joint keys without any displacement are a joint motion: lerobot-rollout returns to the start that way.
    Further keys that end in .pos are ignored, because it sends every observation that does.

    Raises:
        ValueError: a key is missing or unknown, or a value is not a finite number.
    """
    unknown = [key for key in action if key not in KNOWN_KEYS and not key.endswith(".pos") and key not in config.cameras]
    if unknown:
        raise ValueError(f"the action has the unknown keys {unknown}; robot.control_mode={config.control_mode} takes {config.action_keys}")
    if any(key in action for key in ALIAS_KEYS):
        return _parse_aliases(action, config)
    is_displacement = any(key in action for key in (*TRANSLATION_KEYS, *ROTATION_KEYS))
    is_joint = config.control_mode == "joint" or (not is_displacement and any(key in action for key in JOINT_KEYS))
    keys = JOINT_KEYS if is_joint else config.arm_keys
    _check_complete(action, (*keys, *config.gripper_keys), config)
    values = np.array([_number(action, key) for key in keys])
    opening = min(max(_number(action, GRIPPER_KEY), 0.0), 1.0) if config.gripper_keys else None
    return FrankaCommand(keys, values if is_joint else np.clip(values, -1.0, 1.0), is_joint, opening, {})


def _parse_aliases(action: Mapping[str, Any], config: FrankaConfig) -> FrankaCommand:
    if config.control_mode != "ee_delta":
        raise ValueError(f"the action has {ALIAS_KEYS}, which move the end effector; set --robot.control_mode=ee_delta")
    _check_complete(action, ALIAS_KEYS, config)
    values = np.zeros(len(config.arm_keys))
    values[:3] = np.clip([_number(action, key) for key in ALIAS_KEYS], -1.0, 1.0)
    aliases = {key: _number(action, key) for key in (*ALIAS_KEYS, GRIPPER_ALIAS) if key in action}
    wish = aliases.get(GRIPPER_ALIAS, 1.0)
    if wish not in WISHES:
        raise ValueError(f"action entry {GRIPPER_ALIAS!r} is {wish}, expected 0 (close), 1 (stay) or 2 (open)")
    return FrankaCommand(config.arm_keys, values, False, WISHES[wish] if config.gripper_keys else None, aliases)


def _check_complete(action: Mapping[str, Any], keys: tuple[str, ...], config: FrankaConfig) -> None:
    missing = [key for key in keys if key not in action]
    if missing:
        raise ValueError(f"the action lacks {missing}; it has {sorted(action)}, and robot.control_mode={config.control_mode} needs {keys}")


def _number(action: Mapping[str, Any], key: str) -> float:
    value = float(action[key])
    if not math.isfinite(value):
        raise ValueError(f"action entry {key!r} is {value}, expected a finite number; check the policy or teleoperator")
    return value
