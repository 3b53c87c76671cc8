"""What ``policy.gripper=discrete`` adds to acting and learning. The equations are in ``grasp.py``."""

import copy

import torch
from torch import Tensor

from .. import grasp, sac
from ..networks.grasp_critic import GraspCritic
from ..replay.transition import Batch
from .configuration_serl_sac import SerlSacConfig


class Gripping:
    """Decides with the grasp critics, and says how they learn.

    Args:
        critic: that learns; it moves by its own loss alone.
        config: of the policy.

    Attributes:
        target: follows ``critic`` slowly.
    """

    def __init__(self, critic: GraspCritic, config: SerlSacConfig) -> None:
        self.critic, self.target, self._config = critic, copy.deepcopy(critic).requires_grad_(False), config

    @torch.no_grad()
    def decided(self, features: Tensor, reference: Tensor, is_active: bool, explorer: torch.Generator | None = None) -> Tensor:
        """The reference chunk ``(B, h, D)``, with the grippers' commands as decided.

        Args:
            is_active: follow the critics; otherwise the reference policy, as before the actor learns.
            explorer: CPU generator in episodes that explore.
        """
        decision = self._decision(features, reference, is_active)
        if explorer is not None:
            decision = grasp.explored(decision, self.critic.decisions, self._config.grasp.epsilon, explorer)
        elif not is_active:
            return reference
        return self.critic.carried_out(reference, decision)

    def loss(self, batch: Batch, reference: Tensor, next_reference: Tensor, is_active: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the grasp critics on a batch with all features, and what to log.

        Args:
            reference, next_reference: ``(B, h, D)`` at the window's start and after it, before any decision.
            is_active: the policy follows the critics.
        """
        critic, settings, config = self.critic, self._config.grasp, self._config
        assert config.discount is not None
        assert batch.previous is not None
        features, executed, length = batch.features.detach(), critic.commands(batch.chunk), batch.length
        with torch.no_grad():
            decision = self._decision(batch.next_features, next_reference, is_active)
            next_q = self.target(batch.next_features, next_reference)
            changes = grasp.changes(executed, critic.commands(batch.previous), critic.middle, length, config.discount)
            carried_out = grasp.described(executed, critic.options(reference), critic.middle, length)
        highest = None if config.value_range is None else config.value_range[1]
        penalty = settings.penalty * changes
        target = grasp.grasp_target(batch.reward, penalty, batch.discount, next_q, decision, settings.backup, highest)  # type: ignore[arg-type]
        q = critic(features, reference)
        loss = grasp.grasp_loss(q, target, carried_out)
        values = q.detach().mean(0)
        metrics = {
            "grasp_loss": loss.detach(),
            "grasp_target": target.mean(),
            "grasp_taught": carried_out.any(-1).float().mean(),
            "grasp_changes": changes.mean(),
            "grasp_advantage": (values.amax(-1) - values[..., 0]).mean(),
            "grasp_chosen": (decision != 0).float().mean(),
        }
        return loss, metrics

    def update_target(self) -> None:
        """Move the target networks towards the critics."""
        sac.update_target(self.target.parameters(), self.critic.parameters(), self._config.grasp.target_rate)

    def _decision(self, features: Tensor, reference: Tensor, is_active: bool) -> Tensor:
        if not is_active:
            return torch.zeros(len(reference), dtype=torch.int64, device=reference.device)
        return sac.choose_candidate(self.critic(features, reference), self._config.grasp.margin)
