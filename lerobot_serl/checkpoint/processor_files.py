"""The processor files of a checkpoint as plain data. LeRobot's own loader imports and calls whatever class such a file names."""

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lerobot.processor import ProcessorStepRegistry
from lerobot.utils.constants import POLICY_POSTPROCESSOR_DEFAULT_NAME, POLICY_PREPROCESSOR_DEFAULT_NAME
from torch import Tensor

from .files import LARGEST_STATE, CheckpointFiles

PREPROCESSOR, POSTPROCESSOR = f"{POLICY_PREPROCESSOR_DEFAULT_NAME}.json", f"{POLICY_POSTPROCESSOR_DEFAULT_NAME}.json"
NORMALIZER, UNNORMALIZER = "normalizer_processor", "unnormalizer_processor"
RENAMES, DEVICE = "rename_observations_processor", "device_processor"
# They leave the numbers alone.
NEUTRAL = (RENAMES, "to_batch_processor", DEVICE)
# Registered steps of LeRobot that load a model by the name in their config, most of them with the Python code that comes with it
# (trust_remote_code). A test looks through LeRobot's source for more.
LOADS_MODELS = frozenset(
    {
        "action_tokenizer_processor", "eo1_qwen_processor", "groot_n1_7_vlm_encode_v1", "molmoact2_pack_inputs",
        "reward_classifier_processor", "robometer_encoder", "tokenizer_processor", "topreward_encoder",
    }
)  # fmt: skip
MOST_STEPS = 64
ELSEWHERE = "Let the robot's class or the teleoperator do what such a step does, if you want it, and save the checkpoint without it."
_STATE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\.safetensors")


@dataclass(frozen=True, eq=False)
class SavedStep:
    """One step of a saved pipeline, as plain data.

    Attributes:
        name: under which LeRobot, or an installed plugin, has registered it.
        config: arguments of its class.
        state: its tensors.
    """

    name: str
    config: Mapping[str, Any]
    state: Mapping[str, Tensor]


def origin_of(name: str) -> str | None:
    """The module that registered a step under this name; None: nobody has."""
    return ProcessorStepRegistry.get(name).__module__ if name in ProcessorStepRegistry.list() else None


def read_steps(files: CheckpointFiles, name: str, own: Collection[str] = ()) -> list[SavedStep] | None:
    """The steps of one processor file, first to last; None if the checkpoint has no such file.

    Nothing is imported: a step counts only by the name under which it is registered already.

    Args:
        name: of the file.
        own: dotted names of classes that may stand there nevertheless, because LeRobot's own code for this kind of checkpoint has made them.

    Raises:
        CheckpointError: the file is not what LeRobot writes; a step is named by its class, or not registered; a state file is outside the
            checkpoint or damaged.
        FileNotFoundError: a state file is missing.
    """
    if files.find(name) is None:
        return None
    document = files.json(name)
    steps = document.get("steps")
    if document.keys() != {"name", "steps"} or not isinstance(document["name"], str) or not isinstance(steps, list):
        raise files.error(name, f"has the entries {sorted(document)[:8]}, expected a pipeline's name and its steps")
    if len(steps) > MOST_STEPS:
        raise files.error(name, f"{len(steps)} steps, expected at most {MOST_STEPS}")
    return [_step(files, name, index, entry, own) for index, entry in enumerate(steps)]


def require_harmless(files: CheckpointFiles, names: Iterable[str], own: Collection[str] = ()) -> None:
    """Raise unless LeRobot's loader may be let at these processor files. Steps that are not LeRobot's standard ones are logged.

    Args:
        own: steps, by registered or dotted name, that LeRobot's own code for this kind of checkpoint has made.

    Raises:
        CheckpointError, FileNotFoundError: as :func:`read_steps`; or a step would load a model, and code, from somewhere else.
    """
    for name in names:
        for index, step in enumerate(read_steps(files, name, own) or ()):
            if step.name in own:
                continue
            if step.name in LOADS_MODELS:
                flaw = f"step {index}, '{step.name}', would load a model that its config names, and Python code with it"
                raise files.error(name, flaw, ELSEWHERE)
            if step.name not in (*NEUTRAL, NORMALIZER, UNNORMALIZER):
                logging.warning(f"{files.place}: {name} runs a step of its own, '{step.name}' of {origin_of(step.name)}.")


def _step(files: CheckpointFiles, file: str, index: int, entry: Any, own: Collection[str]) -> SavedStep:
    if not isinstance(entry, dict):
        raise files.error(file, f"step {index} is no JSON object")
    by_class = entry.get("class")
    if "class" in entry and (by_class not in own if isinstance(by_class, str) else True):
        words = f"step {index} names the class {str(by_class)[:200]!r}, which LeRobot's loader would import and call"
        raise files.error(file, f"{words}; only steps that are registered by name are read", ELSEWHERE)
    kind = "class" if "class" in entry else "registry_name"
    name, config = entry.get(kind), entry.get("config", {})
    if not entry.keys() <= {kind, "config", "state_file"} or not isinstance(name, str) or not isinstance(config, dict):
        raise files.error(file, f"step {index} has the entries {sorted(entry)[:8]}, expected registry_name, config and perhaps state_file")
    if kind == "registry_name" and origin_of(name) is None:
        words = f"step {index} is {name[:200]!r}, a name that neither LeRobot nor an installed plugin has registered"
        raise files.error(file, words, f"Install the plugin that it comes from, if you trust it. {ELSEWHERE}")
    return SavedStep(name, config, _state(files, file, index, entry["state_file"], config) if "state_file" in entry else {})


def _state(files: CheckpointFiles, file: str, index: int, name: Any, config: Mapping[str, Any]) -> dict[str, Tensor]:
    if not isinstance(name, str) or not _STATE_NAME.fullmatch(name):
        raise files.error(file, f"step {index} has the state file {str(name)[:200]!r}, expected a plain name that ends in .safetensors")
    features = config.get("features")
    return files.tensors(name, LARGEST_STATE, features if isinstance(features, dict) else None)
