"""Reading a LeRobot ACT checkpoint: architecture, weights, and the statistics it was trained with."""

from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from lerobot.configs import PreTrainedConfig
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.processor import NormalizerProcessorStep, PolicyProcessorPipeline
from lerobot.processor.pipeline import ProcessorMigrationError
from lerobot.utils.constants import POLICY_PREPROCESSOR_DEFAULT_NAME
from safetensors.torch import load_file
from torch import Tensor

# Steps of ACT's preprocessor that leave the numbers alone.
NEUTRAL_STEPS = ("RenameObservationsProcessorStep", "AddBatchDimensionProcessorStep", "DeviceProcessorStep")


@dataclass(frozen=True, eq=False)
class ActCheckpoint:
    """A LeRobot ACT policy on disk.

    Attributes:
        config: LeRobot's configuration.
        weights: names ``model.*``.
        statistics: feature key -> statistic -> tensor, as saved with the preprocessor.
        eps: of the normaliser.
    """

    config: ACTConfig
    weights: dict[str, Tensor]
    statistics: dict[str, dict[str, Tensor]]
    eps: float


def load_act_checkpoint(path: str) -> ActCheckpoint:
    """Read a local directory or a Hub id.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: the checkpoint is not ACT, or its preprocessing is not the plain normalisation that LeRobot's ACT uses.
    """
    directory = _resolve(path)
    try:
        config = PreTrainedConfig.from_pretrained(directory or path)
    except (
        FileNotFoundError,
        LocalEntryNotFoundError,
        EntryNotFoundError,
        HFValidationError,
        HfHubHTTPError,
        OSError,
    ) as error:
        raise FileNotFoundError(
            f"policy.act_path={path!r}: no LeRobot checkpoint found there. Expected a directory with config.json and "
            f"{SAFETENSORS_SINGLE_FILE} (for example outputs/train/act/checkpoints/last/pretrained_model) or a Hub id such as "
            f"'you/act_pick_cube'. ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error
    if not isinstance(config, ACTConfig):
        raise ValueError(
            f"policy.act_path={path!r}: the checkpoint is of type '{config.type}', expected 'act'. "
            + ("Use --policy.path= to train on from a serl_sac checkpoint." if config.type == "serl_sac" else "Train ACT first.")
        )
    weights_file = _find_weights(path, directory)
    statistics, eps = _load_statistics(path, directory)
    return ActCheckpoint(config, load_file(weights_file), statistics, eps)


def _resolve(path: str) -> Path | None:
    """The directory with ``config.json``, or None for a Hub id. A run or checkpoint directory is accepted too."""
    root = Path(path).expanduser()
    for candidate in (root, root / "pretrained_model", root / "checkpoints" / "last" / "pretrained_model"):
        if (candidate / "config.json").is_file():
            return candidate
    if root.exists() or path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise FileNotFoundError(
            f"policy.act_path={path!r}: no config.json in this directory or in pretrained_model/ below it. "
            "Expected a LeRobot ACT checkpoint, for example outputs/train/act/checkpoints/last/pretrained_model."
        )
    return None


def _find_weights(path: str, directory: Path | None) -> Path:
    missing = f"policy.act_path={path!r}: {SAFETENSORS_SINGLE_FILE} is missing beside config.json."
    if directory is None:
        try:
            return Path(hf_hub_download(path, SAFETENSORS_SINGLE_FILE))
        except EntryNotFoundError as error:
            raise FileNotFoundError(f"{missing} ({type(error).__name__}: {str(error).splitlines()[0]})") from error
    if not (directory / SAFETENSORS_SINGLE_FILE).is_file():
        raise FileNotFoundError(missing)
    return directory / SAFETENSORS_SINGLE_FILE


def _load_statistics(path: str, directory: Path | None) -> tuple[dict[str, dict[str, Tensor]], float]:
    try:
        pipeline = PolicyProcessorPipeline.from_pretrained(
            directory or path, config_filename=f"{POLICY_PREPROCESSOR_DEFAULT_NAME}.json",
            overrides={"device_processor": {"device": "cpu"}},
        )  # fmt: skip
    except (FileNotFoundError, EntryNotFoundError, ProcessorMigrationError) as error:
        raise ValueError(
            f"policy.act_path={path!r}: normalisation statistics missing ({POLICY_PREPROCESSOR_DEFAULT_NAME}.json or its state "
            "file). Checkpoints of LeRobot before 0.4 keep them elsewhere: migrate them with LeRobot's migrate_policy_normalization."
        ) from error
    normalizers = [step for step in pipeline.steps if isinstance(step, NormalizerProcessorStep)]
    others = [
        type(step).__name__
        for step in pipeline.steps
        if not isinstance(step, NormalizerProcessorStep) and type(step).__name__ not in NEUTRAL_STEPS
    ]
    renames = [step.rename_map for step in pipeline.steps if getattr(step, "rename_map", None)]
    if others or renames or len(normalizers) != 1:
        raise ValueError(
            f"policy.act_path={path!r}: its preprocessor has {len(normalizers)} normalisers, extra steps {others} and renames {renames}; "
            "expected LeRobot's standard ACT preprocessor (one normaliser, nothing else that changes numbers or names)."
        )
    saved = normalizers[0].stats or {}
    statistics = {key: {name: torch.as_tensor(value) for name, value in named.items()} for key, named in saved.items()}
    return statistics, float(normalizers[0].eps)
