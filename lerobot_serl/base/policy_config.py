"""The configuration of a policy that is to propose chunks: from a file or a message, and from neither is more believed than sizes and switches."""

import logging
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import draccus
import lerobot.policies  # noqa: F401 - registers LeRobot's own
from lerobot.configs import PreTrainedConfig
from lerobot.utils.constants import ACTION

from ..message_header import MessageError
from ..words import printable

_LANGUAGE = "it acts on a sentence (language-conditioned), which serl_sac does not have"
# LeRobot's policy types that cannot propose chunks here -> why. A test looks through LeRobot for types that are neither here nor below.
UNFIT = {
    **dict.fromkeys(
        (
            "eo1", "evo1", "fastwam", "groot", "lingbot_va", "molmoact2", "multi_task_dit", "pi0", "pi0_fast", "pi05", "smolvla", "vla_jepa",
            "wall_x", "xvla",
        ),
        _LANGUAGE,
    ),
    "gaussian_actor": "it gives single actions, no chunks",
    "serl_sac": "it has a base policy itself: train on from it with --policy.path=",
    "tdmpc": "its plan depends on the one before it",
    "vqbet": "it draws its actions at random in a way that cannot be repeated for a recorded frame",
}  # fmt: skip
# Types that were tried; others, of plugins, are tried when the policy is made.
TRIED = ("act", "diffusion")
# What only training, or another machine, needs; a checkpoint has its weights.
_NOT_HERE = {
    "compile_model": False, "device": "cpu", "gradient_checkpointing": False, "license": None, "pretrained_backbone_weights": None,
    "pretrained_path": None, "pretrained_revision": None, "private": None, "push_to_hub": False, "repo_id": None, "tags": None, "use_amp": False,
}  # fmt: skip
_OF_TRAINING = ("optimizer_", "scheduler_")
_LARGEST_NUMBER, _MOST_LAYERS, _MOST_ENTRIES, _DEEPEST = 10_000, 64, 64, 6
_LONGEST_WORDS = 60


def base_policy_config(document: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration that a JSON document describes; its device is the CPU, and nothing that training needs is in it.

    Raises:
        MessageError: in words that begin with what the checkpoint's configuration is or has.
    """
    kind = document.get("type")
    if not isinstance(kind, str) or kind not in PreTrainedConfig.get_known_choices():
        known = ", ".join(TRIED)
        raise MessageError(
            f"is of type {_short(kind)!r}, which neither LeRobot nor an installed plugin registers; expected {known}, or a plugin's"
        )
    if kind in UNFIT:
        raise MessageError(f"is of type {kind!r}, expected a policy whose chunks can be edited: {UNFIT[kind]}")
    wanted = {name: value for name, value in document.items() if name not in ("type", *_NOT_HERE) and not name.startswith(_OF_TRAINING)}
    for name, value in wanted.items():
        _require_plain(name, value)
    config_class = PreTrainedConfig.get_choice_class(kind)
    known_names = {item.name for item in fields(config_class)}
    _leave_out_unknown(kind, wanted, known_names)
    try:
        config = draccus.decode(config_class, {**wanted, **{name: value for name, value in _NOT_HERE.items() if name in known_names}})
        config.validate_features()
        if not config.input_features or config.action_feature is None:
            raise ValueError(f"no input features, or no output feature named '{ACTION}'")
    except Exception as error:  # whatever LeRobot or draccus stumbles over
        raise MessageError(f"is no configuration of LeRobot's {kind} ({type(error).__name__}: {printable(str(error))})") from error
    if not isinstance(config, PreTrainedConfig) or not 1 <= config.n_obs_steps <= _MOST_ENTRIES:
        raise MessageError(f"has n_obs_steps={getattr(config, 'n_obs_steps', None)}, expected 1 to {_MOST_ENTRIES} frames")
    return config


def name_of(config: PreTrainedConfig) -> str:
    """What a policy of this type is called in messages."""
    return "ACT" if config.type == "act" else config.type


def as_document(config: PreTrainedConfig) -> dict[str, Any]:
    """What :func:`base_policy_config` reads, to be kept in a checkpoint."""
    document = draccus.encode(config, PreTrainedConfig)
    return {name: value for name, value in document.items() if name not in _NOT_HERE and not name.startswith(_OF_TRAINING)}


def _require_plain(name: str, value: Any, depth: int = 0) -> None:
    """No number that would take the machine's memory or time, and no text that names a place from which something would be loaded."""
    if depth > _DEEPEST:
        raise MessageError(f"has the field {_short(name)!r}, nested deeper than {_DEEPEST}")
    if isinstance(value, str) and ("/" in value or "\\" in value):
        raise MessageError(
            f"has {_short(name)}={_short(value)!r}, which names a place to load from; a base policy has to be complete in itself"
        )
    if isinstance(value, int) and abs(value) > _LARGEST_NUMBER:
        raise MessageError(f"has {_short(name)}={value}, expected at most {_LARGEST_NUMBER}")
    if isinstance(value, int) and "layers" in name and value > _MOST_LAYERS:
        raise MessageError(f"has {_short(name)}={value}, expected at most {_MOST_LAYERS} layers")
    if isinstance(value, Mapping | list):
        if len(value) > _MOST_ENTRIES:
            raise MessageError(f"has {_short(name)} with {len(value)} entries, expected at most {_MOST_ENTRIES}")
        for inner, entry in value.items() if isinstance(value, Mapping) else ((name, entry) for entry in value):
            _require_plain(str(inner), entry, depth + 1)


def _leave_out_unknown(kind: str, wanted: dict[str, Any], known: set[str]) -> None:
    """Take away the fields that this LeRobot does not have; those that are off change nothing."""
    unknown = {name: wanted.pop(name) for name in sorted(wanted.keys() - known)}
    if on := {name: value for name, value in unknown.items() if not is_off(value)}:
        named = ", ".join(f"{_short(name)}={_short(value)!r}" for name, value in on.items())
        raise MessageError(f"has fields that the installed LeRobot's {kind} does not have: {named}. Update LeRobot, or set them to null")
    if unknown:
        logging.warning(
            f"The base policy's configuration has fields that this LeRobot does not have; they are off: {printable(', '.join(unknown))}."
        )


def is_off(value: object) -> bool:
    """Nothing in it is set, or it says itself that it is not enabled."""
    if isinstance(value, Mapping):
        return value.get("enabled") is False or all(is_off(inner) for inner in value.values())
    return value in (None, False, 0, "", [])


def _short(value: object) -> str:
    return printable(str(value))[:_LONGEST_WORDS]
