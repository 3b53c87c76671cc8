"""Reading a LeRobot ACT checkpoint: architecture, weights, and the statistics it was trained with. Nothing in it is run."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.utils.constants import ACTION
from torch import Tensor

from ..checkpoint.act_weights import ActWeights
from ..checkpoint.files import CONFIG, WEIGHTS, CheckpointError, CheckpointFiles, MissingFileError
from ..checkpoint.place import locate, may_be_hub_id, way_on
from ..checkpoint.processor_files import NEUTRAL, NORMALIZER, POSTPROCESSOR, PREPROCESSOR, RENAMES, UNNORMALIZER, SavedStep, read_steps
from ..checkpoint.tensor_file import UNUSED, require_fit
from ..message_header import MessageError, TensorClaim
from ..networks.act_base import STATISTICS_OF_MODE, ActBase
from .act_config import read_act_config
from .adapter import AdaptedWeights, is_adapter
from .configuration_serl_sac import ActArchitecture
from .old_statistics import EPS as OLD_EPS
from .old_statistics import old_statistics

FLAG = "policy.act_path"
_NOT_USED = "model.vae_encoder"  # serves ACT's own training only
EPS = 1e-8  # LeRobot's, where none is saved
_SETTINGS = {"features", "norm_map", "eps"}


@dataclass(frozen=True, eq=False)
class ActCheckpoint:
    """A LeRobot ACT policy on disk.

    Attributes:
        config: LeRobot's configuration.
        weights: names ``model.*``; they fit the configuration, and are finite.
        statistics: feature key -> statistic -> tensor, as saved with the preprocessor.
        eps: of the normaliser.
    """

    config: ACTConfig
    weights: dict[str, Tensor]
    statistics: dict[str, dict[str, Tensor]]
    eps: float


def load_act_checkpoint(path: str) -> ActCheckpoint:
    """Read a local place (:func:`~lerobot_serl.checkpoint.place.locate`) or a Hub id, of any version of LeRobot.

    Raises:
        FileNotFoundError: no checkpoint there, or not a whole one.
        ValueError: a file is damaged; the checkpoint is not ACT; its weights do not fit it; or its preprocessing is not the plain
            normalisation that LeRobot's ACT uses.
    """
    files = _files(path)
    config = read_act_config(files)
    statistics, eps = _statistics(files, config)
    weights = AdaptedWeights(files) if is_adapter(files, config.use_peft) else ActWeights(files)
    _require_fit(files, config, weights.claims)
    return ActCheckpoint(config, weights.tensors(), statistics, eps)


def _files(path: str) -> CheckpointFiles:
    """Looks for the checkpoint; a run's or a checkpoint's directory is accepted too."""
    located = locate(path)
    directory = None if located is None else located.directory
    remedy = f"Copy the checkpoint again, or train ACT again; `lerobot-serl-doctor {directory or path}` looks at all of its files."
    files = CheckpointFiles(path, directory, FLAG, remedy)
    if located is not None and located.words:
        logging.warning(f"{FLAG}={path!r}: {located.words}.")
    if directory is None and not may_be_hub_id(path):
        raise FileNotFoundError(
            f"{FLAG}={path!r}: no {CONFIG} in this directory, in pretrained_model/ or in a checkpoint below it. {way_on(path)}"
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


def _statistics(files: CheckpointFiles, config: ACTConfig) -> tuple[dict[str, dict[str, Tensor]], float]:
    if (old := old_statistics(files, config)) is not None:
        return old, OLD_EPS
    try:
        step, last = _normalizer(files, PREPROCESSOR, NORMALIZER), _normalizer(files, POSTPROCESSOR, UNNORMALIZER)
        missing = PREPROCESSOR if step is None else ""
    except MissingFileError as error:
        step, missing = None, str(error)
    if step is None:
        raise ValueError(
            f"{FLAG}={files.place!r}: normalisation statistics missing ({missing}), and none lie in {WEIGHTS}, where LeRobot before 0.4 kept "
            "them. Copy the whole checkpoint again."
        )
    assert config.input_features
    assert config.output_features
    _require_same_normalisation(files, PREPROCESSOR, step, config, {**config.input_features, **config.output_features})
    if last is not None:
        _require_same_normalisation(files, POSTPROCESSOR, last, config, config.output_features)
        if wrong := [
            name for name, value in last.state.items() if name.startswith(f"{ACTION}.") and not _equal(value, step.state.get(name))
        ]:
            raise files.error(POSTPROCESSOR, f"its statistics of '{ACTION}' are not those of {PREPROCESSOR}: {sorted(wrong)}")
    statistics: dict[str, dict[str, Tensor]] = {}
    for name, value in step.state.items():
        key, _, statistic = name.rpartition(".")
        statistics.setdefault(key, {})[statistic] = value.float()
    return statistics, float(step.config.get("eps", EPS))


def _normalizer(files: CheckpointFiles, name: str, kind: str) -> SavedStep | None:
    """The one step of a pipeline that changes numbers; None if there is no such file."""
    steps = read_steps(files, name)
    if steps is None:
        return None
    found = [step for step in steps if step.name == kind]
    others = [step.name for step in steps if step.name not in (kind, *NEUTRAL)]
    renames = [step.config["rename_map"] for step in steps if step.name == RENAMES and step.config.get("rename_map")]
    if others or renames or len(found) != 1:
        raise files.error(
            name, f"{len(found)} steps '{kind}', extra steps {others} and renames {renames}; expected LeRobot's standard ACT "
            "processors (one normaliser, nothing else that changes numbers or names)",
        )  # fmt: skip
    unknown, eps = sorted(found[0].config.keys() - _SETTINGS), found[0].config.get("eps", EPS)
    if unknown or type(eps) not in (int, float) or not 0 <= eps <= 1:
        raise files.error(name, f"'{kind}' has eps {eps!r} and further settings {unknown}, expected an eps from 0 to 1 and nothing else")
    return found[0]


def _require_same_normalisation(
    files: CheckpointFiles, name: str, step: SavedStep, config: ACTConfig, features: Mapping[str, PolicyFeature]
) -> None:
    """The processor normalises as ``config.json`` says, and has the statistics for it."""
    for key, feature in features.items():
        wanted = NormalizationMode(config.normalization_mapping.get(feature.type.value, NormalizationMode.IDENTITY))
        saved = _mode(step, key)
        if saved != wanted.value:
            raise files.error(name, f"'{step.name}' treats '{key}' as {saved}, {CONFIG} says {wanted.value}")
        n_numbers = feature.shape[0] if feature.type is FeatureType.VISUAL else math.prod(feature.shape)
        for statistic in STATISTICS_OF_MODE.get(wanted, ()):
            value = step.state.get(f"{key}.{statistic}")
            if value is None or value.numel() != n_numbers or not value.is_floating_point():
                words = "nothing" if value is None else f"{value.numel()} numbers of {value.dtype}"
                raise files.error(name, f"the state of '{step.name}' has {words} as '{statistic}' of '{key}', expected {n_numbers} floats")


def _mode(step: SavedStep, key: str) -> str:
    features, modes = step.config.get("features"), step.config.get("norm_map")
    feature = features.get(key) if isinstance(features, dict) else None
    if not isinstance(feature, dict) or not isinstance(modes, dict):
        return NormalizationMode.IDENTITY.value
    return str(modes.get(str(feature.get("type")), NormalizationMode.IDENTITY.value))


def _equal(one: Tensor, other: Tensor | None) -> bool:
    return other is not None and torch.equal(one.float(), other.float())
