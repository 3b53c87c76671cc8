"""``config.json`` of a LeRobot ACT checkpoint of any version, as LeRobot's configuration of today. Nothing that it names is imported."""

import logging
from dataclasses import fields
from typing import Any

import draccus
import lerobot
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies import ACTConfig
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE

from ..base.policy_config import is_off
from ..checkpoint.files import CONFIG, CheckpointFiles
from ..checkpoint.oldest_config import is_oldest, translated
from ..message_header import MessageError
from ..words import printable

_LONGEST_VALUE = 60


def read_act_config(files: CheckpointFiles) -> ACTConfig:
    """The configuration; its device is the CPU, whatever it was trained on.

    Fields that it lacks have LeRobot's defaults. Fields that this LeRobot does not have are named in the log if they are off.

    Raises:
        CheckpointError: damaged; or it describes no ACT, or one with a field that is not known here and not off.
        ValueError: the checkpoint is of another type.
    """
    document = files.json(CONFIG)
    if is_oldest(document):
        try:
            document = {"type": "act", **translated(document)}
        except MessageError as error:
            raise files.error(CONFIG, str(error)) from error
    kind = document.pop("type", None)
    if kind != "act":
        raise ValueError(f"{files.flag}={files.place!r}: {_of_another_type(kind)}")
    _leave_out_unknown(files, document)
    try:
        config = draccus.decode(ACTConfig, {**document, "device": "cpu"})
        config.input_features = {key: feature for key, feature in (config.input_features or {}).items() if _is_used(key, feature)}
        config.validate_features()
        if config.action_feature is None:
            raise ValueError(f"no output feature named '{ACTION}'")
    except Exception as error:  # whatever it stumbles over
        raise files.error(CONFIG, f"not a configuration of LeRobot's ACT ({type(error).__name__}: {error})") from error
    return config


def _is_used(key: str, feature: PolicyFeature) -> bool:
    """LeRobot's ACT normalises every input, and looks at these only."""
    return feature.type is FeatureType.VISUAL or (feature.type, key) in ((FeatureType.STATE, OBS_STATE), (FeatureType.ENV, OBS_ENV_STATE))


def _of_another_type(kind: object) -> str:
    if kind == "serl_sac":
        remedy = "Use --policy.path= to train on from a serl_sac checkpoint."
    elif kind is None:
        remedy = f'If it is LeRobot\'s ACT, write "type": "act" into its {CONFIG}; else train ACT first.'
    else:
        remedy = "A policy made from ACT is not ACT, whatever it shares with it. Train ACT first (lerobot-train --policy.type=act)."
    return f"the checkpoint is of type {str(kind)[:100]!r}, expected 'act'. {remedy}"


def _leave_out_unknown(files: CheckpointFiles, document: dict[str, Any]) -> None:
    """Take away the fields that LeRobot's ACT does not have here; those that are off change nothing."""
    unknown = {name: document.pop(name) for name in sorted(document.keys() - {item.name for item in fields(ACTConfig)})}
    where = f"LeRobot {lerobot.__version__}, which is installed, does not have"
    if on := {name: value for name, value in unknown.items() if not is_off(value)}:
        named = ", ".join(f"{name}={str(value)[:_LONGEST_VALUE]!r}" for name, value in on.items())
        raise files.error(
            CONFIG,
            f"not a configuration of LeRobot's ACT that is known here: {named}: {where} {'this field' if len(on) == 1 else 'these fields'}",
            f"Update LeRobot, or set to null in {CONFIG} what does not change how ACT acts.",
        )
    if unknown:
        logging.warning(f"{files.place}: {CONFIG} has fields that {where}; they are off, and ignored: {printable(', '.join(unknown))}.")
