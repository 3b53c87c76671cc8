"""ACT as the base policy: LeRobot's network, whose features actor and critics can look at."""

from collections.abc import Mapping
from typing import Any

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import ACTConfig
from lerobot.utils.constants import OBS_IMAGES, OBS_STATE
from torch import Tensor, nn

from ..lerobot_names import ACT
from .base_policy import Plan
from .normalized_policy import NormalizedPolicy


class _GivenMaps(nn.Module):
    """In the place of ACT's backbone, where its feature maps are what comes in."""

    def forward(self, feature_map: Tensor) -> dict[str, Tensor]:
        return {"feature_map": feature_map}


class ActBase(NormalizedPolicy):
    """ACT with ``z = 0``, from raw observations to raw actions.

    Made as :class:`NormalizedPolicy`, with LeRobot's ACT configuration. The VAE encoder, used only in ACT's own training, is left out.

    Raises:
        ValueError: a feature without a known normalisation mode.
    """

    def _build(self, config: PreTrainedConfig) -> None:
        assert isinstance(config, ACTConfig)
        self.config, self.longest_plan = config, config.chunk_size
        self.model = ACT(config)
        # Head and backbone are applied here, so that the decoder's features and the backbone's maps are at hand without a second pass.
        self.action_head, self.model.action_head = self.model.action_head, nn.Identity()
        if self.cameras:
            self.backbone, self.model.backbone = self.model.backbone, _GivenMaps()

    @property
    def feature_sizes(self) -> tuple[int, ...]:
        """Sizes of the groups of features in a plan: of the decoder, then of each camera."""
        return (self.config.dim_model, *self.pooled_sizes)

    @property
    def pooled_sizes(self) -> tuple[int, ...]:
        """Of each camera's features."""
        return tuple([self.model.encoder_img_feat_input_proj.in_channels] * len(self.cameras)) if self.cameras else ()

    @torch.no_grad()
    def pooled(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The mean of each camera's last feature map."""
        if not self.cameras:
            return super().pooled(observation)
        images = {key: self.normalize(key, observation[self.sources[key]]) for key in self.cameras}
        return torch.cat([feature_map.mean((2, 3)) for feature_map in self._maps(images)], dim=-1)

    def _maps(self, images: Mapping[str, Tensor]) -> list[Tensor]:
        return [self.backbone(images[key])["feature_map"] for key in self.cameras]

    def tensors_in_act(self) -> dict[str, Tensor]:
        """The network's own tensors by the names that they have in a LeRobot ACT checkpoint (``model.*``)."""
        return {
            name if name.startswith("model.") else f"model.{name}": tensor
            for name, tensor in self.state_dict().items()
            if not name.startswith("statistics.")
        }

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """As the base class; those of the VAE encoder are left out."""
        for name, tensor in self.tensors_in_act().items():
            tensor.copy_(state[name])

    @torch.no_grad()
    def plan(self, observation: Mapping[str, Tensor], steps: int) -> Plan:
        """The reference chunk.

        Its features are the mean decoder feature of those steps, then the mean of each camera's last feature map. (They say more exactly
        where things are than the encoder's tokens: docs/algorithm.md.)
        """
        batch: dict[str, Any] = {key: self.normalize(key, observation[source]) for key, source in self.sources.items()}
        maps = self._maps(batch)
        if maps:
            batch[OBS_IMAGES] = maps
        batch.setdefault(OBS_STATE, next(iter(batch.values())))  # LeRobot asks it for its device, also where ACT has none
        decoded = self.model(batch)[0][:, :steps]
        features = torch.cat([decoded.mean(1), *[feature_map.mean((2, 3)) for feature_map in maps]], dim=-1)
        return Plan(self.unnormalize(self.action_head(decoded)), features)
