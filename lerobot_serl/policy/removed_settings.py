"""Settings that earlier versions had: nobody needed another value, so each is a constant now. Files and flags that still name them go on.

draccus, which reads configurations for LeRobot, refuses names that it does not know and asks nobody. So the names are taken out of what it is given:
of a configuration where it decodes one, whatever file or message that came from; of a command line where LeRobot imports this plugin.
"""

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from draccus.parsers import decoding

from ..setting_error import SettingError
from .validation import require

# Name of a setting that went -> the value that holds now.
REMOVED: dict[str, Any] = {
    "action_range_floor": 0.02,
    "annotation_batch_size": 64,
    "act.pretrained_backbone_weights": None,
    "actor.mode": "edit",
    "actor.sampled_candidates": 4,
    "actor.weight_decay": 0.0,
    "corrector.activation": "relu",
    "corrector.grad_clip_norm": 10.0,
    "corrector.weight_decay": 0.0,
    "grasp.activation": "relu",
    "grasp.backup": "mean",
    "grasp.grad_clip_norm": 10.0,
    "grasp.target_rate": 0.005,
    "grasp.weight_decay": 0.0,
    "guard.deployed_window": 40,
    "guard.max_bad_updates": 10,
    "temperature.weight_decay": 0.0,
}


def without_removed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the settings that went; says so in a line.

    Raises:
        ValueError: one of them has another value than the one that holds now.
    """
    kept, gone = dict(document), []
    for name, constant in REMOVED.items():
        group, _, field = name.rpartition(".")
        owner = kept.get(group) if group else kept
        if not isinstance(owner, Mapping) or field not in owner:
            continue
        _require(name, owner[field], constant)
        gone.append(name)
        rest = {key: value for key, value in owner.items() if key != field}
        kept = {**kept, group: rest} if group else rest
    _say(gone)
    return kept


def without_removed_flags(arguments: Sequence[str]) -> list[str]:
    """A command line without ``--policy.`` flags of settings that went; says so in a line.

    Raises:
        ValueError: as :func:`without_removed`.
    """
    kept, gone, following = [], [], iter(arguments)
    for argument in following:
        flag, equals, value = argument.partition("=")
        name = flag.removeprefix("--policy.")
        if name == flag or name not in REMOVED:
            kept.append(argument)
            continue
        _require(name, yaml.safe_load(value if equals else next(following, "")), REMOVED[name])
        gone.append(name)
    _say(gone)
    return kept


def forgetting(cls: type) -> type:
    """Decorate a configuration: wherever draccus decodes one, settings that went are left out of it."""
    decode = decoding.decode_dataclass

    @functools.wraps(decode)
    def decode_without(wanted: type, document: dict[str, Any], path: Sequence[str] = ()) -> Any:
        if wanted is not cls or not isinstance(document, Mapping):
            return decode(wanted, document, path)
        try:
            kept = without_removed(document)
        except ValueError as error:
            raise SettingError(str(error)) from error
        return decode(wanted, kept, path)

    decoding.decode_dataclass = decode_without  # type: ignore[assignment]
    return cls


def _require(name: str, value: object, constant: object) -> None:
    wanted = f"{constant!r}: this setting is gone, and that is what holds"
    require(value == constant, f"policy.{name}", value, wanted, "Leave it out, in a checkpoint of config.json.")


def _say(gone: Sequence[str]) -> None:
    if gone:
        names = ", ".join(f"policy.{name}" for name in gone)
        logging.info(f"Left out, as they are settings no more and had the values that hold now: {names}.")
