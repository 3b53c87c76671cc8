"""Normalisation statistics inside the weights, where LeRobot before 0.4 kept them; a checkpoint of that time has no processors.

It normalised inputs by ``(x - mean) / (std + 1e-8)`` or ``2 * (x - min) / (max - min + 1e-8) - 1``, and turned what ACT said into actions by
``x * std + mean`` or ``(x + 1) / 2 * (max - min) + min``.
"""

import math

from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies import ACTConfig
from torch import Tensor

from ..checkpoint.act_weights import ActWeights, holds_old_statistics
from ..checkpoint.files import CONFIG, WEIGHTS, CheckpointFiles
from ..networks.act_base import STATISTICS_OF_MODE
from .act_processors import ActProcessors, Normalisation

EPS = 1e-8  # LeRobot's at that time
_INPUTS, _OUTPUTS, _TARGETS = "normalize_inputs", "unnormalize_outputs", "normalize_targets"


def old_processors(files: CheckpointFiles, config: ACTConfig) -> ActProcessors | None:
    """What processors of today would do as that version did; None: it is no such checkpoint.

    Raises:
        CheckpointError: the weights are damaged; or a statistic that a feature's mode needs is missing, of another size, or was never filled.
    """
    if not holds_old_statistics(files):
        return None
    weights = ActWeights(files)
    inputs, outputs = config.input_features or {}, config.output_features or {}
    statistics = {key: _of(weights, config, _INPUTS, key, feature) for key, feature in inputs.items()}
    for named in statistics.values():
        if "max" in named:
            # Today's normaliser adds no eps to a range.
            named["max"] = named["min"] + (named["max"] - named["min"] + EPS)
    statistics |= {key: _of(weights, config, _OUTPUTS, key, feature) for key, feature in outputs.items()}
    return ActProcessors({key: Normalisation(_mode(config, {**inputs, **outputs}[key]), named, EPS) for key, named in statistics.items()})


def _mode(config: ACTConfig, feature: PolicyFeature) -> NormalizationMode:
    return NormalizationMode(config.normalization_mapping.get(feature.type.value, NormalizationMode.IDENTITY))


def _of(weights: ActWeights, config: ACTConfig, module: str, key: str, feature: PolicyFeature) -> dict[str, Tensor]:
    """The two statistics of one feature; none if it is not normalised."""
    mode = _mode(config, feature)
    n_numbers = feature.shape[0] if feature.type is FeatureType.VISUAL else math.prod(feature.shape)
    found = {}
    for statistic in STATISTICS_OF_MODE.get(mode, ()):
        # A tensor that two modules share is written once, by one of its names.
        modules = (module, _TARGETS) if module == _OUTPUTS else (module,)
        names = [f"{owner}.buffer_{key.replace('.', '_')}.{statistic}" for owner in modules]
        name = next((name for name in names if name in weights.statistics), None)
        if name is None:
            raise weights.files.error(WEIGHTS, f"has no '{names[0]}', which {CONFIG} asks for with the mode {mode.value} of '{key}'")
        claim = weights.statistics[name]
        if math.prod(claim.shape) != n_numbers or not claim.dtype.is_floating_point:
            raise weights.files.error(
                WEIGHTS, f"'{name}' has {math.prod(claim.shape)} numbers of {claim.dtype}, expected {n_numbers} floats"
            )
        value = weights.statistic(name).float()
        if not value.isfinite().all():
            raise weights.files.error(WEIGHTS, f"'{name}' is infinite or NaN: the normalisation statistics of '{key}' were never filled in")
        found[statistic] = value
    return found
