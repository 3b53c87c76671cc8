"""What each entry of a robot's action means: what the robot declares, what flags say, and what names say (key_names.py)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ..key_names import POSITION_WORDS, Kind, customary_kind, customary_kinds, words_of
from .settings import RobotKeysConfig

BASE_WORDS = {"wheel", "wheels", "chassis", "track"}
_PER_TIME = re.compile(r"/\s*(s|sec|second|min|minute|h)\b(?![\^*])|\bper (second|minute)|\bs\^?-1\b|\brp[ms]\b", re.IGNORECASE)


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

    Attributes:
        said: keys that the robot or a flag tells.

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
        self._kinds = customary_kinds(keys, set(measured)) | flags | declared
        self.said = flags.keys() | declared.keys()
        if unclear := [key for key in keys if key not in self.said and self._kinds[key] is Kind.POSITION and _may_roll(key)]:
            raise ValueError(
                f"{name}: '{unclear[0]}' moves a base, and neither robot nor name says whether it is a velocity, so nobody knows how it stands "
                f"still. Say --robot_keys.velocities='{_as_list(unclear)}', or --robot_keys.positions with those that are positions."
            )

    def __getitem__(self, key: str) -> Kind:
        """Another device's keys are told by their names."""
        return self._kinds[key] if key in self._kinds else customary_kind(key)

    def tells_pose(self, key: str) -> bool:
        """Whether a measured value is the place of a joint: an action sets it, or its name says position."""
        return self[key] is Kind.POSITION and (key in self._kinds or words_of(key)[-1] in POSITION_WORDS)

    @property
    def holding(self) -> str:
        """What is sent to hold still, in words."""
        kept, zeros = [key for key in self._kinds if key not in self.zeros], list(self.zeros)
        parts = [f"the last target for {', '.join(kept)}" if kept else "", f"0 for {', '.join(zeros)}" if zeros else ""]
        return f"Holding still: {' and '.join(filter(None, parts))} (--robot_keys says otherwise)."

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


def _may_roll(key: str) -> bool:
    return not BASE_WORDS.isdisjoint(words_of(key)) and POSITION_WORDS.isdisjoint(words_of(key))


def _as_list(keys: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{key}"' for key in keys) + "]"
