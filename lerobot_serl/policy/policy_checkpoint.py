"""Reading a LeRobot checkpoint of any policy that plans chunks, to be the base policy. Nothing in it is run."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from lerobot.configs import NormalizationMode, PreTrainedConfig
from torch import Tensor

from ..base.lerobot import LerobotBase
from ..base.policy_config import as_document, base_policy_config
from ..checkpoint.act_weights import ActWeights
from ..checkpoint.files import ADAPTER_CONFIG, CONFIG, WEIGHTS, CheckpointFiles
from ..checkpoint.processor_files import PREPROCESSOR
from ..checkpoint.tensor_file import require_fit
from ..message_header import MessageError
from .saved_processors import SavedProcessors, read_processors

_PLAN = "Train one that plans chunks from numbers and images: lerobot-train --policy.type=act or --policy.type=diffusion."
_MERGE = (
    "Merge it where it was trained: model.merge_and_unload().save_pretrained(DIR) of the package peft, and the processors' files beside it."
)


@dataclass(frozen=True, eq=False)
class PolicyCheckpoint:
    """A LeRobot policy on disk.

    Attributes:
        config: LeRobot's configuration.
        weights: by LeRobot's names; they fit the configuration, and are finite.
        processors: that were saved with it.
        files: where it is.
    """

    config: PreTrainedConfig
    weights: dict[str, Tensor]
    processors: SavedProcessors
    files: CheckpointFiles

    @property
    def feature_modes(self) -> dict[str, NormalizationMode]:
        """Of the features that the processors treat otherwise than ``config`` says."""
        features = {**(self.config.input_features or {}), **(self.config.output_features or {})}
        mapping: Mapping[str, NormalizationMode] = self.config.normalization_mapping
        said = {key: NormalizationMode(mapping.get(feature.type.value) or NormalizationMode.IDENTITY) for key, feature in features.items()}
        modes = {key: self.processors.features[key].mode for key in features}
        return {key: mode for key, mode in modes.items() if mode is not said[key]}


def read_policy_checkpoint(files: CheckpointFiles) -> PolicyCheckpoint:
    """The policy that lies there, of whatever type.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged; the policy cannot propose chunks; its weights do not fit it; or its processors do something else than
            LeRobot's standard ones.
    """
    document = files.json(CONFIG)
    if document.get("use_peft") or files.find(ADAPTER_CONFIG) is not None:
        raise files.error(CONFIG, "is of an adapter, which is merged into ACT only", _MERGE)
    try:
        config = base_policy_config(document)
    except MessageError as error:
        raise files.error(CONFIG, str(error), _PLAN) from error
    processors = read_processors(files, config)
    if processors is None:
        raise files.error(PREPROCESSOR, "is missing; it has the normalisation statistics, without which the policy cannot be run")
    weights = ActWeights(files)
    if len(document.get("down_dims") or ()) > len(weights.claims):
        raise files.error(CONFIG, f"describes more layers than {WEIGHTS} has tensors, {len(weights.claims)}")
    try:
        with torch.device("meta"):
            expected = LerobotBase(config).policy.state_dict()
    except ImportError as error:
        raise files.error(CONFIG, f"a policy of type {config.type!r} needs a package that is not installed here", f"{error}.") from error
    except Exception as error:  # whatever the network stumbles over
        raise files.error(CONFIG, f"describes no network that can be built ({type(error).__name__}: {error})") from error
    try:
        require_fit(weights.claims, expected)
    except MessageError as error:
        raise files.error(WEIGHTS, str(error)) from error
    return PolicyCheckpoint(config, weights.tensors(), processors, files)


def without_training(checkpoint: PolicyCheckpoint) -> PolicyCheckpoint:
    """The same without what only ACT's own training needs, as any other policy is embedded."""
    if not any(item.name == "use_vae" for item in fields(checkpoint.config)):
        return checkpoint
    config = base_policy_config(as_document(replace(checkpoint.config, use_vae=False)))
    weights = {name: value for name, value in checkpoint.weights.items() if not name.startswith("model.vae_encoder")}
    return replace(checkpoint, config=config, weights=weights)
