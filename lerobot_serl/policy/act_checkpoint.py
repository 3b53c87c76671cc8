"""Reading a LeRobot ACT checkpoint: architecture, weights, and the statistics it was trained with. Nothing in it is run."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from lerobot.configs import NormalizationMode
from lerobot.policies import ACTConfig
from torch import Tensor

from ..checkpoint.act_weights import ActWeights
from ..checkpoint.files import CONFIG, WEIGHTS, CheckpointError, CheckpointFiles
from ..checkpoint.place import locate, may_be_hub_id, way_on
from ..checkpoint.processor_files import PREPROCESSOR
from ..checkpoint.tensor_file import UNUSED, require_fit
from ..message_header import MessageError, TensorClaim
from ..networks.act_base import ActBase
from .act_config import read_act_config
from .act_processors import ActProcessors, read_act_processors
from .adapter import AdaptedWeights, is_adapter
from .configuration_serl_sac import ActArchitecture
from .old_statistics import old_processors

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


def load_act_checkpoint(path: str, flag: str = FLAG) -> ActCheckpoint:
    """Read a local place (:func:`~lerobot_serl.checkpoint.place.locate`) or a Hub id, of any version of LeRobot.

    Args:
        flag: with which ``path`` was given, for messages.

    Raises:
        FileNotFoundError: no checkpoint there, or not a whole one.
        ValueError: a file is damaged; the checkpoint is not ACT; its weights do not fit it; or its preprocessing is not the plain
            normalisation that LeRobot's ACT uses.
    """
    files = find_checkpoint(path, flag)
    config = read_act_config(files)
    processors = read_act_processors(files, config) or old_processors(files, config)
    if processors is None:
        raise ValueError(
            f"{flag}={files.place!r}: normalisation statistics missing ({PREPROCESSOR}), and none lie in {WEIGHTS}, where LeRobot before 0.4 kept "
            "them. Copy the whole checkpoint again."
        )
    weights = AdaptedWeights(files) if is_adapter(files, config.use_peft) else ActWeights(files)
    _require_fit(files, config, weights.claims)
    return ActCheckpoint(config, weights.tensors(), processors, files)


def find_checkpoint(path: str, flag: str) -> CheckpointFiles:
    """The files of a policy; a run's or a checkpoint's directory is accepted too.

    Raises:
        FileNotFoundError: no checkpoint there.
    """
    located = locate(path)
    directory = None if located is None else located.directory
    remedy = f"Copy the checkpoint again, or train ACT again; `lerobot-serl-doctor {directory or path}` looks at all of its files."
    files = CheckpointFiles(path, directory, flag, remedy)
    if located is not None and located.words:
        logging.warning(f"{flag}={path!r}: {located.words}.")
    if directory is None and not may_be_hub_id(path):
        raise FileNotFoundError(
            f"{flag}={path!r}: no {CONFIG} in this directory, in pretrained_model/ or in a checkpoint below it. {way_on(path)}"
        )
    try:
        found, words = files.find(CONFIG) is not None, f"no {CONFIG}"
    except CheckpointError:
        raise
    except OSError as error:
        found, words = False, f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    if not found:
        raise FileNotFoundError(
            f"{flag}={path!r}: no LeRobot checkpoint found there. Expected a directory with {CONFIG} and {WEIGHTS} (for example "
            f"outputs/train/act/checkpoints/last/pretrained_model) or a Hub id such as 'you/act_pick_cube'. ({words})"
        )
    return files


def _require_fit(files: CheckpointFiles, config: ACTConfig, claims: Mapping[str, TensorClaim]) -> None:
    """Compare the weights' names, shapes and dtypes with the network that ``config.json`` describes, before any of it takes memory."""
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
