"""What the agent makes of observations: the base policy's plans, and the features that actor and critics see."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..base.base_policy import Plan
from ..networks.action_normalizer import ActionNormalizer
from ..replay.batch import Batch
from ..replay.picture_size import reduce_all
from .configuration_serl_sac import SerlSacConfig
from .construction import base_policy, image_encoder, observation_features, picture_shapes


class Perception(nn.Module):
    """The frozen base policy, the features of an observation, and perhaps an encoder of images, which learns.

    Args:
        config: the policy's configuration, features filled in.

    Attributes:
        execution: how the base policy's plans are carried out.
        box: of actions.
        picture_shapes: camera -> ``(C, H, W)`` of the pictures that the encoder sees and the replay memory has to keep.
    """

    def __init__(self, config: SerlSacConfig) -> None:
        super().__init__()
        assert config.action_feature is not None
        self.config, self.execution = config, config.execution
        self.horizon, self.action_dim = config.horizon, config.action_feature.shape[0]
        self.box = ActionNormalizer(self.action_dim)
        self.act = base_policy(config, self.box)
        self.features, self.encoder, self.picture_shapes = (
            observation_features(config, self.act),
            image_encoder(config),
            picture_shapes(config),
        )

    @property
    def feature_size(self) -> int:
        """``F``."""
        return self.features.size + (0 if self.encoder is None else self.encoder.size)

    @torch.no_grad()
    def plan(self, observation: Mapping[str, Tensor], whole: bool = False) -> Plan:
        """The base policy's plan for observations ``(B, ...)``, images float in [0, 1]; in action units, inside the box or NaN.

        Args:
            whole: all of it, not only the steps that are carried out.
        """
        execution, longest = self.execution, self.act.longest_plan
        whole |= execution.temporal_ensemble_coeff is not None
        actions, features = self.act.plan(observation, longest if whole and longest else execution.n_action_steps)
        actions = self.box.normalize(actions)
        # Clamped, what is infinite would look like an order to go to the box's border.
        return Plan(torch.where(actions.isfinite(), actions.clamp(-1.0, 1.0), torch.nan), features)

    @torch.no_grad()
    def cache_features(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What learning needs of an observation and never changes, computed once per recorded frame.

        Args:
            observation: raw features ``(B, ...)``, images float in [0, 1].

        Returns:
            features ``(B, F')``, which :meth:`encode_batch` and :meth:`encode` complete; ACT's chunk ``(B, h, D)`` in action units, in the box.
        """
        plan = self.plan(observation)
        return self.frozen_features(observation, plan.features), plan.actions[:, : self.horizon]

    @torch.no_grad()
    def frozen_features(self, observation: Mapping[str, Tensor], of_plan: Tensor, age: Tensor | int = 0) -> Tensor:
        """What is computed once per recorded frame: state, what the base policy offers of the newest frame, and the plan's age.

        Args:
            observation: as :meth:`plan`.
            of_plan: features of the open plan, which are taken where no plan outlives a decision.
            age: of the open plan, in steps.
        """
        newest = self.act.newest(observation)
        if self.execution.is_apart:
            of_plan = self.act.pooled(newest) if self.features.pooled_sizes else of_plan
        return self.features(newest, of_plan, age)

    @torch.no_grad()
    def look(self, observation: Mapping[str, Tensor], of_plan: Tensor, age: Tensor | int = 0) -> Tensor:
        """All features ``(B, F)``; arguments as :meth:`frozen_features`."""
        return self._completed(self.frozen_features(observation, of_plan, age), self.act.newest(observation))

    @torch.no_grad()
    def encode(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What acting needs of an observation: all features ``(B, F)`` and ACT's chunk, as :meth:`cache_features`."""
        features, base = self.cache_features(observation)
        return self._completed(features, self.act.newest(observation)), base

    def encode_batch(self, batch: Batch) -> Batch:
        """The batch with all features ``(B, F)``: without an encoder as it is; otherwise with gradient to the encoder at the window's start."""
        if self.encoder is None:
            return batch
        with torch.no_grad():
            following = self._completed(batch.next_features, batch.next_images)
        return replace(batch, features=self._completed(batch.features, batch.images), next_features=following, images={}, next_images={})

    def _completed(self, features: Tensor, images: Mapping[str, Tensor]) -> Tensor:
        return features if self.encoder is None else torch.cat([features, self.encoder(reduce_all(images, self.picture_shapes))], dim=-1)
