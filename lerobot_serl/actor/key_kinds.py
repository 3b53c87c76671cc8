"""What each entry of an action means: a position, a gripper's position, a velocity or a displacement."""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

from .settings import RobotKeysConfig


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
BASE_WORDS = {"wheel", "wheels", "chassis", "track"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PER_TIME = re.compile(r"/\s*(s|sec|second|min|minute|h)\b(?![\^*])|\bper (second|minute)|\bs\^?-1\b|\brp[ms]\b", re.IGNORECASE)


def is_gripper(key: str) -> bool:
    """Whether a key is a gripper's by its name: it holds with what it was told, and measures wider than that while it holds."""
    return GRIPPER in key.lower()


def customary_kind(key: str) -> Kind:
    """What a single key means by its name alone."""
    return _customary([key], set())[key]


class KeyKinds:
    """Asked in this order: what the robot declares, our flags, the customary names.

    A robot declares with ``serl``, an attribute of its class or of its configuration: a mapping from "positions", "grippers", "velocities" or
    "displacements" to keys of its actions, ``*`` allowed. Units count too: in ``action_features[key]["unit"]``, or in the mapping
    ``action_units``.

    Args:
        robot: LeRobot's, or anything with its ``action_features``.
        keys: of its actions.
        measured: those that it also measures.
        settings: `--robot_keys.*`.

    Raises:
        ValueError: a declaration or a flag is no list of such keys, they contradict each other, or nobody can tell how a base stands still.
    """

    def __init__(self, robot: Any, keys: Sequence[str], measured: Iterable[str], settings: RobotKeysConfig | None = None) -> None:
        name = str(getattr(robot, "name", type(robot).__name__))
        declared = _declared(robot, name, keys)
        flags = _listed(settings.lists if settings else {}, keys, "--robot_keys.{}", must_match=True)
        if crossed := [key for key in flags if declared.get(key, flags[key]) is not flags[key]]:
            key = crossed[0]
            raise ValueError(
                f"--robot_keys.{flags[key]} names '{key}', which {name} declares among its {declared[key]}. Leave it out, or correct the robot class."
            )
        self._kinds = _customary(keys, set(measured)) | flags | declared
        named = flags.keys() | declared.keys()
        if unclear := [key for key in keys if key not in named and self._kinds[key] is Kind.POSITION and _may_roll(key)]:
            raise ValueError(
                f"{name}: '{unclear[0]}' moves a base, and neither robot nor name says whether it is a velocity, so nobody knows how it stands "
                f"still. Say --robot_keys.velocities='{_as_list(unclear)}', or --robot_keys.positions with those that are positions."
            )

    def __getitem__(self, key: str) -> Kind:
        """Another device's keys are told by their names."""
        return self._kinds[key] if key in self._kinds else customary_kind(key)

    def tells_pose(self, key: str) -> bool:
        """Whether a measured value is the place of a joint: an action sets it, or its name says position."""
        return self[key] is Kind.POSITION and (key in self._kinds or _words(key)[-1] in POSITION_WORDS)

    @property
    def zeros(self) -> dict[str, float]:
        """0 for every key that stops at 0."""
        return {key: 0.0 for key, kind in self._kinds.items() if kind.stops_at_zero}


def _declared(robot: Any, name: str, keys: Sequence[str]) -> dict[str, Kind]:
    """The robot's `serl`, its configuration's, and its units, the first first."""
    config = getattr(robot, "config", None)
    kinds: dict[str, Kind] = {}
    for owner, where in ((config, f"{name}'s configuration: serl"), (robot, f"{name}: serl")):
        if (said := getattr(owner, "serl", None)) is not None:
            if not isinstance(said, Mapping):
                raise ValueError(f"{where} is {said!r}, expected a mapping from {', '.join(Kind)} to keys of its actions.")
            kinds |= _listed(said, keys, where + "['{}']", must_match=False)
    units = getattr(robot, "action_units", None) or getattr(config, "action_units", None) or {}
    for key in keys:
        feature = robot.action_features.get(key) if isinstance(getattr(robot, "action_features", None), Mapping) else None
        unit = feature.get("unit", feature.get("units")) if isinstance(feature, Mapping) else units.get(key)
        if key not in kinds and isinstance(unit, str) and _PER_TIME.search(unit):
            kinds[key] = Kind.VELOCITY
    return kinds


def _listed(lists: Mapping[str, Any], keys: Sequence[str], where: str, must_match: bool) -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    for name, patterns in lists.items():
        if name not in list(Kind):
            raise ValueError(f"{where.format(name)}: expected one of {', '.join(Kind)}.")
        if isinstance(patterns, str) or not isinstance(patterns, Iterable):
            raise ValueError(f"{where.format(name)} is {patterns!r}, expected a list of keys.")
        for pattern in patterns:
            matching = [key for key in keys if key == pattern or fnmatchcase(key, str(pattern))]
            if must_match and not matching:
                raise ValueError(f"{where.format(name)} names '{pattern}', expected some of {list(keys)}.")
            for key in matching:
                if kinds.setdefault(key, Kind(name)) is not Kind(name):
                    raise ValueError(f"{where.format(name)} names '{key}', which {kinds[key]} names too. Expected each key once.")
    return kinds


def _customary(keys: Sequence[str], measured: set[str]) -> dict[str, Kind]:
    words = {key: _words(key) for key in keys}
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


def _words(key: str) -> list[str]:
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


def _may_roll(key: str) -> bool:
    return not BASE_WORDS.isdisjoint(_words(key)) and POSITION_WORDS.isdisjoint(_words(key))


def _as_list(keys: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{key}"' for key in keys) + "]"
