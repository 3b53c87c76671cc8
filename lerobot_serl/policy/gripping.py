"""What ``policy.gripper=discrete`` adds to acting and learning. The equations are in ``grasp.py``."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from .. import grasp, sac
from ..networks.grasp_critic import GraspCritic
from ..replay.batch import Batch
from .configuration_serl_sac import SerlSacConfig


class Gripping:
    """Decides with the grasp critics, and says how they learn.

    Args:
        critic: that learns, by its own loss alone; None: nothing is decided.
        config: of the policy.

    Attributes:
        target: follows ``critic`` slowly.
    """

    def __init__(self, critic: GraspCritic | None, config: SerlSacConfig) -> None:
        self.critic, self._config = critic, config
        self.target = None if critic is None else copy.deepcopy(critic).requires_grad_(False)

    @torch.no_grad()
    def decided(
        self, features: Tensor, reference: Tensor, is_active: bool, explorer: torch.Generator | None = None
    ) -> Tensor:  # fmt: skip
        """The reference chunk ``(B, h, D)``, with the grippers' commands as decided.

        Args:
            is_active: follow the critics; otherwise the reference policy, as before the actor learns.
            explorer: CPU generator in episodes that explore.
        """
        if self.critic is None or (explorer is None and not is_active):
            return reference
        decision = self._decision(self.critic, features, reference, is_active)
        if explorer is not None:
            decision = grasp.explored(decision, self.critic.decisions, self._config.grasp.epsilon, explorer)
        return self.critic.carried_out(reference, decision)

    def loss(
        self, batch: Batch, reference: Callable[[Tensor, Tensor], Tensor], is_active: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """Loss of the grasp critics on a batch with all features, and what to log.

        Args:
            reference: features ``(B, F)``, the base policy's chunk ``(B, h, D)`` -> the reference chunk, before decisions.
            is_active: the policy follows the critics.
        """
        critic, target, config = self.critic, self.target, self._config
        if critic is None or target is None:
            return batch.reward.new_zeros(()), {}
        assert config.discount is not None
        assert batch.previous is not None
        features, length = batch.features.detach(), batch.length
        with torch.no_grad():
            base, next_base = reference(features, batch.base), reference(batch.next_features, batch.next_base)
            executed, previous = critic.commands(batch.chunk), critic.commands(batch.previous)
            carried_out = grasp.described(executed, critic.options(base), critic.middle, length)
            changes = grasp.changes(executed, previous, critic.middle, length, config.discount)
            decision = self._decision(critic, batch.next_features, next_base, is_active)
            y = grasp.grasp_target(
                batch.reward, config.grasp.penalty * changes, batch.discount, target(batch.next_features, next_base), decision,
                highest=None if config.value_range is None else config.value_range[1],
            )  # fmt: skip
        q = critic(features, base)
        loss, values = grasp.grasp_loss(q, y, carried_out), q.detach().mean(0)
        metrics = {
            "grasp_loss": loss.detach(),
            "grasp_target": y.mean(),
            "grasp_taught": carried_out.any(-1).float().mean(),
            "grasp_changes": changes.mean(),
            "grasp_advantage": (values.amax(-1) - values[..., 0]).mean(),
            "grasp_chosen": (decision != 0).float().mean(),
        }
        return loss, metrics

    def update_target(self) -> None:
        """Move the target networks towards the critics."""
        if self.critic is not None and self.target is not None:
            sac.update_target(self.target.parameters(), self.critic.parameters(), self._config.grasp.target_rate)

    def _decision(self, critic: GraspCritic, features: Tensor, reference: Tensor, is_active: bool) -> Tensor:
        if not is_active:
            return torch.zeros(len(reference), dtype=torch.int64, device=reference.device)
        return sac.choose_candidate(critic(features, reference), self._config.grasp.margin)
