"""What an entry of an action means by its name alone: a position, a gripper's position, a velocity or a displacement."""

import re
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise


class Kind(StrEnum):
    """Of an action's entry; the values are the names of the lists in a declaration."""

    POSITION = "positions"
    GRIPPER = "grippers"
    VELOCITY = "velocities"
    DISPLACEMENT = "displacements"

    @property
    def stops_at_zero(self) -> bool:
        """Whether nothing moves while 0 is sent."""
        return self in (Kind.VELOCITY, Kind.DISPLACEMENT)


GRIPPER = "gripper"
# Words of keys, as LeRobot's own robots and published plugins have them: arm.vel, base_vx, cmd_vel.linear.x, joint_1.dq, yaw_rate.
VELOCITY_WORDS = {
    "vel", "velocity", "velocities", "speed", "twist", "rpm", "rps", "omega", "rate", "dot", "dq", "qd", "qvel", "throttle",
    "vx", "vy", "vz", "vtheta", "vth", "vyaw", "vroll", "vpitch", "vrot", "vlin", "vang",
}  # fmt: skip
POSITION_WORDS = {"pos", "position", "q", "qpos", "angle"}
# Beside a velocity's word: it bounds or scales the motion, so 0 is not standing still.
SETTING_WORDS = {"limit", "max", "min", "scale", "gain", "override"}
DELTA_WORDS = {"delta", "displacement", "increment"}
SMALL_D_WORDS = {"dx", "dy", "dz", "drx", "dry", "drz", "droll", "dpitch", "dyaw"}
AXES = {"x", "y", "z", "rx", "ry", "rz", "wx", "wy", "wz", "roll", "pitch", "yaw", "theta"}
STICKS, STICK_AXES = {"remote", "joystick", "stick"}, {"lx", "ly", "rx", "ry", "x", "y"}
# Velocities only beside others: base.vx and base.wz, linear.x and angular.z. ee.wx alone is part of an orientation.
SPEEDS, TURNS = {"vx", "vy", "v"}, {"w", "wx", "wy", "wz", "theta", "yaw", "rot"}
TWIST_WORDS = {"linear", "angular"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def is_gripper(key: str) -> bool:
    """Whether a key is a gripper's by its name: it holds with what it was told, and measures wider than that while it holds."""
    return GRIPPER in key.lower()


def customary_kind(key: str) -> Kind:
    """What a single key means by its name alone."""
    return customary_kinds([key], set())[key]


def customary_kinds(keys: Sequence[str], measured: set[str]) -> dict[str, Kind]:
    """What each key means by its name and the others'; ``measured`` are those that the robot also measures."""
    words = {key: words_of(key) for key in keys}
    kinds = {}
    for key, parts in words.items():
        others = [other for name, other in words.items() if name != key]
        kinds[key] = (
            Kind.DISPLACEMENT if _is_displacement(parts, key in measured)
            else Kind.VELOCITY if _is_velocity(parts) or _is_part_of_twist(parts, others)
            else Kind.GRIPPER if is_gripper(key)
            else Kind.POSITION
        )  # fmt: skip
    return kinds


def words_of(key: str) -> list[str]:
    """The words of a key, in lower case."""
    return [word.lower() for word in _WORD.findall(key)] or [key]


def _is_displacement(parts: Sequence[str], is_measured: bool) -> bool:
    """A measured `delta` is a name (of a delta robot's joint, say), unless an axis follows."""
    along_axis = any(first in DELTA_WORDS and second in AXES for first, second in pairwise(parts))
    return along_axis or (not is_measured and not {*DELTA_WORDS, *SMALL_D_WORDS}.isdisjoint(parts))


def _is_velocity(parts: Sequence[str]) -> bool:
    if parts[-1] in POSITION_WORDS or not SETTING_WORDS.isdisjoint(parts):
        return False
    is_stick = parts[-1] in STICK_AXES and not STICKS.isdisjoint(parts)
    is_split = any(first == "v" and second in AXES for first, second in pairwise(parts))  # vX, v_theta
    return is_stick or is_split or not VELOCITY_WORDS.isdisjoint(parts)


def _is_part_of_twist(parts: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Forward and turn, told apart from positions of the same names by each other."""
    beside = {other[-1] for other in others if other[:-1] == parts[:-1]}
    turns = parts[-1] in TURNS and not beside.isdisjoint(SPEEDS)
    drives = parts[-1] == "v" and not beside.isdisjoint(TURNS)
    both = {word for other in (*others, parts) for word in other} >= TWIST_WORDS
    twists = both and (parts[-1] in TWIST_WORDS or any(first in TWIST_WORDS and second in AXES for first, second in pairwise(parts)))
    return turns or drives or twists
