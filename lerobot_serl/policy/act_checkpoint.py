"""Reading a LeRobot ACT checkpoint: architecture, weights, and the statistics it was trained with. Nothing in it is run."""

from dataclasses import dataclass

import draccus
import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from torch import Tensor

from ..checkpoint.files import CONFIG, WEIGHTS, CheckpointError, CheckpointFiles, directory_of, may_be_hub_id
from ..checkpoint.processor_files import PREPROCESSOR
from ..checkpoint.tensor_file import UNUSED, require_fit
from ..message_header import MessageError
from ..networks.act_base import ActBase
from .act_processors import ActProcessors, read_act_processors
from .configuration_serl_sac import ActArchitecture

FLAG = "policy.act_path"
_NOT_USED = "model.vae_encoder"  # serves ACT's own training only


@dataclass(frozen=True, eq=False)
class ActCheckpoint:
    """A LeRobot ACT policy on disk.

    Attributes:
        config: LeRobot's configuration.
        weights: names ``model.*``; they fit the configuration, and are finite.
        processors: that were saved with it.
        files: where it is.
    """

    config: ACTConfig
    weights: dict[str, Tensor]
    processors: ActProcessors
    files: CheckpointFiles

    @property
    def feature_modes(self) -> dict[str, NormalizationMode]:
        """Of the features that the processors treat otherwise than ``config`` says."""
        features = {**(self.config.input_features or {}), **(self.config.output_features or {})}
        said = {key: self.config.normalization_mapping.get(feature.type.value) for key, feature in features.items()}
        modes = {key: self.processors.features[key].mode for key in features}
        return {key: mode for key, mode in modes.items() if mode is not NormalizationMode(said[key] or NormalizationMode.IDENTITY)}


def load_act_checkpoint(path: str) -> ActCheckpoint:
    """Read a local directory or a Hub id.

    Raises:
        FileNotFoundError: no checkpoint there, or not a whole one.
        ValueError: a file is damaged; the checkpoint is not ACT; its weights do not fit it; or its preprocessing is not the plain
            normalisation that LeRobot's ACT uses.
    """
    files = _files(path)
    config = _config(files)
    processors = read_act_processors(files, config)
    if processors is None:
        raise ValueError(
            f"{FLAG}={files.place!r}: normalisation statistics missing ({PREPROCESSOR}). Copy the whole checkpoint again. Checkpoints of LeRobot "
            "before 0.4 keep them elsewhere: migrate them with LeRobot's migrate_policy_normalization."
        )
    _require_fit(files, config)
    return ActCheckpoint(config, files.tensors(WEIGHTS), processors, files)


def _files(path: str) -> CheckpointFiles:
    """Looks for the checkpoint; a run's or a checkpoint's directory is accepted too."""
    directory = directory_of(path)
    remedy = f"Copy the checkpoint again, or train ACT again; `lerobot-serl-doctor {directory or path}` looks at all of its files."
    files = CheckpointFiles(path, directory, FLAG, remedy)
    if directory is None and not may_be_hub_id(path):
        raise FileNotFoundError(
            f"{FLAG}={path!r}: no {CONFIG} in this directory or in pretrained_model/ below it. "
            "Expected a LeRobot ACT checkpoint, for example outputs/train/act/checkpoints/last/pretrained_model."
        )
    try:
        found, words = files.find(CONFIG) is not None, f"no {CONFIG}"
    except CheckpointError:
        raise
    except OSError as error:
        found, words = False, f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    if not found:
        raise FileNotFoundError(
            f"{FLAG}={path!r}: no LeRobot checkpoint found there. Expected a directory with {CONFIG} and {WEIGHTS} (for example "
            f"outputs/train/act/checkpoints/last/pretrained_model) or a Hub id such as 'you/act_pick_cube'. ({words})"
        )
    return files


def _config(files: CheckpointFiles) -> ACTConfig:
    document = files.json(CONFIG)
    kind = document.pop("type", None)
    if kind != "act":
        remedy = "Use --policy.path= to train on from a serl_sac checkpoint." if kind == "serl_sac" else "Train ACT first."
        raise ValueError(f"{FLAG}={files.place!r}: the checkpoint is of type {str(kind)[:100]!r}, expected 'act'. {remedy}")
    try:
        config = draccus.decode(ACTConfig, document)
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


def _require_fit(files: CheckpointFiles, config: ACTConfig) -> None:
    """Compare the weights' names, shapes and dtypes with the network that ``config.json`` describes, before any of it takes memory."""
    claims = files.claims(WEIGHTS)
    if config.n_encoder_layers + config.n_decoder_layers > len(claims):
        raise files.error(CONFIG, f"describes more layers than {WEIGHTS} has tensors, {len(claims)}")
    try:
        with torch.device("meta"):
            features = {"input_features": config.input_features, "output_features": config.output_features}
            expected = ActBase(ActArchitecture.of(config).to_act_config(**features, device="cpu")).tensors_in_act()
    except Exception as error:  # whatever the network stumbles over
        raise files.error(CONFIG, f"describes no network that can be built ({type(error).__name__}: {error})") from error
    unused = {
        name: torch.empty(claim.shape, device="meta")
        for name, claim in claims.items()
        if name.startswith(_NOT_USED) and not name.endswith(UNUSED)
    }
    try:
        require_fit(claims, {**expected, **unused})
    except MessageError as error:
        raise files.error(WEIGHTS, str(error)) from error
