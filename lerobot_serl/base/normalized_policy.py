"""A base policy with its own normalisation statistics inside.

The statistics are buffers of the module, because ``lerobot-train --policy.path=`` overwrites the statistics of the processors
with those of the new dataset (docs/design.md); a base policy's plans must not change with the dataset that training goes on with.
"""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature, PreTrainedConfig
from lerobot.utils.constants import ACTION
from torch import Tensor, nn

from ..networks.features import Statistics
from .base_policy import BasePolicy

# Which two statistics a normalisation mode needs.
STATISTICS_OF_MODE = {
    NormalizationMode.MEAN_STD: ("mean", "std"),
    NormalizationMode.MIN_MAX: ("min", "max"),
    NormalizationMode.QUANTILES: ("q01", "q99"),
    NormalizationMode.QUANTILE10: ("q10", "q90"),
}


class NormalizedPolicy(BasePolicy):
    """What the saved processors of a LeRobot policy do to its inputs and actions.

    Args:
        config: LeRobot's configuration of the policy, features included.
        modes: of features that are not normalised as the configuration says for their type.
        sources: the policy's input -> the observation's name for it, where they differ.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        modes: Mapping[str, NormalizationMode] | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        assert config.input_features
        assert config.output_features
        mapping: Mapping[str, NormalizationMode] = config.normalization_mapping
        self.input_features: dict[str, PolicyFeature] = dict(config.input_features)
        self.sources = {key: (sources or {}).get(key, key) for key in self.input_features}
        self.cameras = list(config.image_features)
        features = {**config.input_features, **config.output_features}
        self.modes = {
            key: NormalizationMode(mapping.get(feature.type.value, NormalizationMode.IDENTITY)) for key, feature in features.items()
        } | dict(modes or {})
        self.statistics = nn.Module()
        for key, feature in features.items():
            shape = (feature.shape[0], 1, 1) if feature.type is FeatureType.VISUAL else tuple(feature.shape)
            self.statistics.register_buffer(_buffer(key, "offset"), torch.zeros(shape))
            self.statistics.register_buffer(_buffer(key, "scale"), torch.ones(shape))
        self._build(config)
        self.freeze()

    @abstractmethod
    def _build(self, config: PreTrainedConfig) -> None:
        """Make the policy's network, and say how long its plans are."""

    @abstractmethod
    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Load the tensors of a LeRobot checkpoint; they have been compared with what the configuration describes."""

    def set_statistics(self, statistics: Statistics, eps: float = 1e-8) -> None:
        """Take over the normalisation statistics of all features, e.g. a dataset's: feature key -> statistic name -> tensor.

        Raises:
            ValueError: as :meth:`set_normalisation`.
        """
        for key in self.modes:
            self.set_normalisation(key, statistics.get(key, {}), eps)

    def set_normalisation(self, key: str, statistics: Mapping[str, Tensor], eps: float = 1e-8) -> None:
        """Take over how one feature is normalised.

        Args:
            key: the policy's input, or the action.
            statistics: statistic name -> tensor; not looked at if the feature's mode needs none.
            eps: as in LeRobot's normaliser, added to an input's standard deviation; a zero range becomes ``eps``.

        Raises:
            ValueError: a statistic that the feature's mode needs is missing or not finite (key and statistic are named).
        """
        mode = self.modes[key]
        if mode is NormalizationMode.IDENTITY:
            return
        low_name, high_name = STATISTICS_OF_MODE[mode]
        if low_name not in statistics or high_name not in statistics:
            raise ValueError(
                f"Normalisation statistics '{low_name}' and '{high_name}' of '{key}' are missing (mode {mode.value}, found "
                f"{sorted(statistics)}). Give a checkpoint directory that holds policy_preprocessor.json and its "
                "safetensors file, or a dataset with statistics."
            )
        offset, scale = self._buffers_of(key)
        low = torch.as_tensor(statistics[low_name]).to(offset).reshape(offset.shape)
        high = torch.as_tensor(statistics[high_name]).to(offset).reshape(offset.shape)
        if not (low.isfinite().all() and high.isfinite().all()):
            raise ValueError(f"Normalisation statistics of '{key}' contain NaN or infinite values; recompute them.")
        offset.copy_(low)
        if mode is NormalizationMode.MEAN_STD:
            # LeRobot adds eps when it normalises an input, not when it un-normalises an action.
            scale.copy_(high if key == ACTION else high + eps)
        else:
            scale.copy_(torch.where(high == low, torch.full_like(low, eps), high - low) / 2)

    def normalize(self, key: str, value: Tensor) -> Tensor:
        """Raw feature -> what ACT was trained on."""
        offset, scale = self._buffers_of(key)
        return (value - offset) / scale - self._shift_of(key)

    def unnormalize(self, action: Tensor) -> Tensor:
        """The network's output -> raw actions."""
        return self.raw(ACTION, action)

    def raw(self, key: str, value: Tensor) -> Tensor:
        """The reverse of :meth:`normalize`."""
        offset, scale = self._buffers_of(key)
        return (value + self._shift_of(key)) * scale + offset

    def _shift_of(self, key: str) -> float:
        """Range modes map the lower end to -1: ``x -> (x - low) / (span / 2) - 1``."""
        return 1.0 if self.modes[key] in STATISTICS_OF_MODE and self.modes[key] is not NormalizationMode.MEAN_STD else 0.0

    def _buffers_of(self, key: str) -> tuple[Tensor, Tensor]:
        return getattr(self.statistics, _buffer(key, "offset")), getattr(self.statistics, _buffer(key, "scale"))


def _buffer(key: str, name: str) -> str:
    """Buffer names must not contain dots."""
    return f"{key.replace('.', '__')}__{name}"
