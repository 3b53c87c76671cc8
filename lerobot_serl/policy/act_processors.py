"""What an ACT checkpoint's saved processors do, as plain data: they are what its owner runs, whatever config.json says."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies import ACTConfig
from lerobot.utils.constants import ACTION
from torch import Tensor

from ..checkpoint.files import CheckpointFiles, MissingFileError
from ..checkpoint.processor_files import (
    DEVICE,
    ELSEWHERE,
    NEUTRAL,
    NORMALIZER,
    POSTPROCESSOR,
    PREPROCESSOR,
    RENAMES,
    UNNORMALIZER,
    SavedStep,
    read_steps,
)
from ..networks.act_base import STATISTICS_OF_MODE

EPS = 1e-8  # LeRobot's, where none is saved
_SETTINGS = {"features", "norm_map", "eps", "normalize_observation_keys"}


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Of one feature.

    Attributes:
        mode: LeRobot's.
        statistics: statistic name -> float32 tensor, all that were saved.
        eps: of the normaliser.
    """

    mode: NormalizationMode
    statistics: Mapping[str, Tensor]
    eps: float = EPS


@dataclass(frozen=True, eq=False)
class ActProcessors:
    """The pre- and the post-processor together.

    Attributes:
        features: ACT's inputs, by ACT's names, and its action -> how it is normalised. The action's is the post-processor's.
        renames: observation's name -> ACT's name.
        before, after: names of the two pipelines' steps.
    """

    features: Mapping[str, Normalisation]
    renames: Mapping[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def read_act_processors(files: CheckpointFiles, config: ACTConfig) -> ActProcessors | None:
    """Read both files; None if there are neither, as in a checkpoint of LeRobot before 0.4. Without a post-processor the pre-processor's
    statistics of the action count: stock LeRobot writes the same into both.

    Raises:
        CheckpointError, FileNotFoundError: a file is damaged or missing; it has a step that does something else, which is named; or a statistic
            that a mode needs is missing.
    """
    before, after = (_pipeline(files, *name) for name in ((PREPROCESSOR, NORMALIZER), (POSTPROCESSOR, UNNORMALIZER)))
    if before is None:
        if after is None:
            return None
        raise MissingFileError(str(files.error(PREPROCESSOR, f"is missing beside {POSTPROCESSOR}; it has normalisation statistics")))
    first, name = before, PREPROCESSOR if after is None else POSTPROCESSOR
    last = before if after is None else after
    features = {key: _of_input(files, first.normalizer, key, feature) for key, feature in (config.input_features or {}).items()}
    assert config.action_feature is not None
    # LeRobot looks for the action's mode and statistics only, not whether it stands among the features.
    kind = last.normalizer.config["norm_map"].get(FeatureType.ACTION.value)
    features[ACTION] = _normalisation(files, name, last.normalizer, ACTION, config.action_feature, kind)
    return ActProcessors(features, first.renames, first.steps, () if after is None else after.steps)


@dataclass(frozen=True, eq=False)
class _Pipeline:
    """Names of the steps, the one that changes numbers, and what is renamed before it."""

    steps: tuple[str, ...]
    normalizer: SavedStep
    renames: dict[str, str]


def _pipeline(files: CheckpointFiles, name: str, kind: str) -> _Pipeline | None:
    """One file, whose normaliser is of a kind; None if there is no such file."""
    steps = read_steps(files, name)
    if steps is None:
        return None
    kinds = [step.name for step in steps]
    others = [step for step in kinds if step not in (kind, *NEUTRAL)]
    if others or kinds.count(kind) != 1:
        raise files.error(
            name, f"{kinds.count(kind)} steps '{kind}' and the extra steps {others}; expected LeRobot's standard ACT processors (one normaliser, "
            "nothing else that changes numbers), since serl_sac would not run an extra step", ELSEWHERE,
        )  # fmt: skip
    for step in steps:
        if step.name == DEVICE and (dtype := step.config.get("float_dtype")) not in (None, "float32", "float"):
            flaw = f"'{DEVICE}' turns numbers into {str(dtype)[:100]!r}, expected float32, in which serl_sac runs ACT"
            raise files.error(name, flaw, f"Set its float_dtype to null in {name}.")
    at = kinds.index(kind)
    renames = [_renames(files, name, step) for step in steps if step.name == RENAMES and step.config.get("rename_map")]
    if len(renames) > 1 or (renames and (name != PREPROCESSOR or kinds.index(RENAMES) > at)):
        flaw = f"the renames {renames} stand elsewhere than once, before the normaliser of {PREPROCESSOR}"
        raise files.error(name, flaw, "Save ACT without them, and give --policy.act_rename_map.")
    step = steps[at]
    unknown, eps = sorted(step.config.keys() - _SETTINGS), step.config.get("eps", EPS)
    if unknown or type(eps) not in (int, float) or not 0 <= eps <= 1:
        raise files.error(name, f"'{kind}' has eps {eps!r} and further settings {unknown}, expected an eps from 0 to 1 and nothing else")
    for table in ("features", "norm_map"):
        if not isinstance(entry := step.config.get(table), dict):
            raise files.error(
                name, f"'{kind}' has the {table} {str(entry)[:200]}, expected a table, without which LeRobot runs no normaliser"
            )
    return _Pipeline(tuple(kinds), step, renames[0] if renames else {})


def _renames(files: CheckpointFiles, name: str, step: SavedStep) -> dict[str, str]:
    renames = step.config["rename_map"]
    if not isinstance(renames, dict) or not all(isinstance(inner, str) for inner in renames.values()):
        raise files.error(name, f"'{step.name}' has the rename_map {str(renames)[:200]}, expected names")
    return renames


def _of_input(files: CheckpointFiles, step: SavedStep, key: str, feature: PolicyFeature) -> Normalisation:
    """As LeRobot's step decides: what it does not know, or was told to leave alone, stays as it is."""
    chosen = step.config.get("normalize_observation_keys")
    if chosen is not None and not (isinstance(chosen, list) and all(isinstance(entry, str) for entry in chosen)):
        raise files.error(PREPROCESSOR, f"'{step.name}' has normalize_observation_keys {str(chosen)[:200]}, expected a list of names")
    known = step.config["features"].get(key)
    kind = step.config["norm_map"].get(str(known.get("type"))) if isinstance(known, Mapping) else None
    return _normalisation(files, PREPROCESSOR, step, key, feature, kind if chosen is None or key in chosen else None)


def _normalisation(files: CheckpointFiles, name: str, step: SavedStep, key: str, feature: PolicyFeature, kind: object) -> Normalisation:
    """Of one feature, whose mode is called ``kind``."""
    statistics = {full.removeprefix(f"{key}."): value for full, value in step.state.items() if full.rpartition(".")[0] == key}
    try:
        mode = NormalizationMode(kind or NormalizationMode.IDENTITY.value)
    except ValueError as error:
        raise files.error(name, f"'{step.name}' treats '{key}' as {str(kind)[:100]!r}, a mode that is not known") from error
    if not statistics:
        mode = NormalizationMode.IDENTITY
    n_numbers = feature.shape[0] if feature.type is FeatureType.VISUAL else math.prod(feature.shape)
    for statistic in STATISTICS_OF_MODE.get(mode, ()):
        value = statistics.get(statistic)
        if value is None or value.numel() != n_numbers or not value.is_floating_point():
            words = "nothing" if value is None else f"{value.numel()} numbers of {value.dtype}"
            raise files.error(name, f"the state of '{step.name}' has {words} as '{statistic}' of '{key}', expected {n_numbers} floats")
    return Normalisation(mode, {name: value.float() for name, value in statistics.items()}, float(step.config.get("eps", EPS)))
