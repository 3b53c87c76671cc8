"""The frozen reference policy: LeRobot's ACT network with its own normalisation statistics inside.

The statistics are buffers of the module, because ``lerobot-train --policy.path=`` overwrites the statistics of the processors
with those of the new dataset (docs/design.md); ACT's output must not change with the dataset that training goes on with.
"""

from collections.abc import Mapping

import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies import ACTConfig
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE
from torch import Tensor, nn

from ..lerobot_names import ACT

Statistics = Mapping[str, Mapping[str, Tensor]]

# Which two statistics a normalisation mode needs.
STATISTICS_OF_MODE = {
    NormalizationMode.MEAN_STD: ("mean", "std"),
    NormalizationMode.MIN_MAX: ("min", "max"),
    NormalizationMode.QUANTILES: ("q01", "q99"),
    NormalizationMode.QUANTILE10: ("q10", "q90"),
}


class _GivenMaps(nn.Module):
    """In the place of ACT's backbone, where its feature maps are what comes in."""

    def forward(self, feature_map: Tensor) -> dict[str, Tensor]:
        return {"feature_map": feature_map}


class ActBase(nn.Module):
    """ACT with ``z = 0``, from raw observations to raw actions. Always in eval mode, never differentiated.

    Args:
        config: LeRobot's ACT configuration, features included. The VAE encoder, used only in ACT's own training, is left out.
        modes: of features that are not normalised as the configuration says for their type.
        sources: ACT's input -> the observation's name for it, where they differ.

    Raises:
        ValueError: a feature without a known normalisation mode.
    """

    def __init__(
        self, config: ACTConfig, modes: Mapping[str, NormalizationMode] | None = None, sources: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        assert config.input_features
        assert config.output_features
        self.config = config
        self.input_features: dict[str, PolicyFeature] = dict(config.input_features)
        self.sources = {key: (sources or {}).get(key, key) for key in self.input_features}
        self.cameras = list(config.image_features)
        self.modes = {
            key: NormalizationMode(config.normalization_mapping.get(feature.type.value, NormalizationMode.IDENTITY))
            for key, feature in {**config.input_features, **config.output_features}.items()
        } | dict(modes or {})
        self.model = ACT(config)
        # Head and backbone are applied here, so that the decoder's features and the backbone's maps are at hand without a second pass.
        self.action_head, self.model.action_head = self.model.action_head, nn.Identity()
        if self.cameras:
            self.backbone, self.model.backbone = self.model.backbone, _GivenMaps()
        self.statistics = nn.Module()
        for key, feature in {**config.input_features, **config.output_features}.items():
            shape = (feature.shape[0], 1, 1) if feature.type is FeatureType.VISUAL else tuple(feature.shape)
            self.statistics.register_buffer(_buffer(key, "offset"), torch.zeros(shape))
            self.statistics.register_buffer(_buffer(key, "scale"), torch.ones(shape))
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> "ActBase":
        """Stays in eval mode: dropout in the reference policy would make it another policy. LeRobot asks at every update."""
        return self

    @property
    def feature_sizes(self) -> tuple[int, ...]:
        """Sizes of the groups of features that :meth:`forward` returns: of the decoder, then of each camera."""
        if not self.cameras:
            return (self.config.dim_model,)
        return (self.config.dim_model, *[self.model.encoder_img_feat_input_proj.in_channels] * len(self.cameras))

    def tensors_in_act(self) -> dict[str, Tensor]:
        """The network's own tensors by the names that they have in a LeRobot ACT checkpoint (``model.*``)."""
        return {
            name if name.startswith("model.") else f"model.{name}": tensor
            for name, tensor in self.state_dict().items()
            if not name.startswith("statistics.")
        }

    def load_act_weights(self, state: Mapping[str, Tensor]) -> None:
        """Load the tensors of a LeRobot ACT checkpoint; those of the VAE encoder are left out.

        Args:
            state: has all of :meth:`tensors_in_act`, in their shapes.
        """
        for name, tensor in self.tensors_in_act().items():
            tensor.copy_(state[name])

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
            key: ACT's input, or the action.
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
                f"{sorted(statistics)}). Give the ACT checkpoint directory that holds policy_preprocessor.json and its "
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
        offset, scale = self._buffers_of(ACTION)
        return (action + self._shift_of(ACTION)) * scale + offset

    @torch.no_grad()
    def forward(self, observation: Mapping[str, Tensor], steps: int) -> tuple[Tensor, Tensor]:
        """The reference chunk.

        Args:
            observation: raw features ``(B, ...)`` by the names in ``sources``, images float in [0, 1].
            steps: how many steps of the chunk to return.

        Returns:
            raw actions ``(B, steps, D)`` and features ``(B, sum(feature_sizes))``: the mean decoder feature of those steps, then the mean
            of each camera's last feature map. (They say more exactly where things are than the encoder's tokens: docs/algorithm.md.)
        """
        batch: dict[str, Tensor | list[Tensor]] = {key: self.normalize(key, observation[source]) for key, source in self.sources.items()}
        maps = [self.backbone(batch[key])["feature_map"] for key in self.cameras]
        if maps:
            batch[OBS_IMAGES] = maps
        batch.setdefault(OBS_STATE, next(iter(batch.values())))  # LeRobot asks it for its device, also where ACT has none
        decoded = self.model(batch)[0][:, :steps]
        return self.unnormalize(self.action_head(decoded)), torch.cat(
            [decoded.mean(1), *[feature_map.mean((2, 3)) for feature_map in maps]], dim=-1
        )

    def _shift_of(self, key: str) -> float:
        """Range modes map the lower end to -1: ``x -> (x - low) / (span / 2) - 1``."""
        return 1.0 if self.modes[key] in STATISTICS_OF_MODE and self.modes[key] is not NormalizationMode.MEAN_STD else 0.0

    def _buffers_of(self, key: str) -> tuple[Tensor, Tensor]:
        return getattr(self.statistics, _buffer(key, "offset")), getattr(self.statistics, _buffer(key, "scale"))


def _buffer(key: str, name: str) -> str:
    """Buffer names must not contain dots."""
    return f"{key.replace('.', '__')}__{name}"
