"""The agent: which networks there are, how they choose a chunk, and one update of them. The mathematics is in ``sac.py``."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import sac
from ..networks import edit_gradients, fast_cpu
from ..networks.corrector import REACH
from ..replay.batch import Batch
from . import update_metrics
from .configuration_serl_sac import SerlSacConfig
from .construction import corrector, critics, edit_actor, gripping, network_lines
from .learning import Learning
from .network_table import NetworkTable
from .perception import Perception
from .progress import Progress
from .proposal import BASE, MEAN, SAMPLE, Proposal
from .update_metrics import Metrics

# Of edits whose scale the demonstrations decide, in action units.
SMALLEST_AUTO_REACH, LARGEST_AUTO_REACH = 0.05, 0.2
# Edited chunks that are sampled and compared in practice, beside the mean edit.
SAMPLED_CANDIDATES = 4
# What losses are made of, in the metrics of an update.
LOSS_TERMS = ("critic_loss", "advantage_penalty", "target_q", "actor_loss", "anchor", "temperature_loss", "corrector_loss", "grasp_loss")


class Agent(Perception):
    """Frozen ACT, the actor that edits its chunk, the critics, and the temperature.

    Args:
        config: the policy's configuration, features filled in.

    Attributes:
        networks: the table of what learns.
        learning: what :meth:`update` needs; None where the agent only acts.
    """

    learning: Learning | None = None

    edit_scale: Tensor
    edit_reach: Tensor

    def __init__(self, config: SerlSacConfig) -> None:
        super().__init__(config)
        feature_size = self.feature_size
        self.actor = edit_actor(config, feature_size, self.action_dim)
        self.corrector = corrector(config, feature_size, self.action_dim)
        self.critic = critics(config, feature_size, self.action_dim)
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
        self.gripping = gripping(config, feature_size, self.action_dim)
        self.grasp_critic, self.grasp_target = self.gripping.critic, self.gripping.target
        self.raw_temperature = nn.Parameter(torch.tensor(sac.raw_temperature_of(config.temperature.init)))
        self.register_buffer("edit_reach", torch.full((self.action_dim,), LARGEST_AUTO_REACH), persistent=False)
        self.register_buffer("edit_scale", torch.zeros(self.action_dim))
        self.set_reach(config.actor.edit_scales or (LARGEST_AUTO_REACH,))
        self.networks = NetworkTable(self, network_lines(config))
        given = config.temperature.target_entropy
        self.target_entropy = sac.entropy_of_tanh_gaussian(config.actor.init_std) if given is None else given

    def begin_learning(self, progress: Progress, seed: int) -> Learning:
        """Get ready for :meth:`update`; a robot never is."""
        self.learning = Learning(self.networks, progress, seed, self.raw_temperature.device)
        self._followed = list(self.critic_target.parameters()), list(self.critic.parameters())
        return self.learning

    @torch.no_grad()
    def corrected(self, features: Tensor, base: Tensor) -> Tensor:
        """ACT's chunk ``(B, h, D)``, as people's interventions taught to change it. Without interventions it is ACT's, exactly."""
        return sac.edit_chunk(base, self.corrector(features, base), REACH) if self.corrector.has_learnt else base

    def reference(self, features: Tensor, base: Tensor, explorer: torch.Generator | None = None) -> Tensor:
        """What is edited: :meth:`corrected`, with what the grasp critics decide about grippers; ``explorer`` as :meth:`Gripping.decided`."""
        return self.gripping.decided(features, self.corrected(features, base), self.actor.has_learnt, explorer)

    @property
    def is_act(self) -> bool:
        """Whether :meth:`propose` is ACT, exactly: nothing was learnt that would edit its chunk, or it is not to be used."""
        return self.config.act_alone or (self.act.proposes and not (self.actor.has_learnt or self.corrector.has_learnt))

    @torch.no_grad()
    def propose(self, features: Tensor, base: Tensor) -> Proposal:
        """The policy as it is deployed, deterministic: the reference or the mean edit of it, whichever the critics prefer.

        Edits with noise do not compete. Fixed noise would be the same bias in every chunk, which practice never shows to the critics.
        """
        if self.config.act_alone:
            return self.act_alone(base)
        reference = self.reference(features, base)
        mean, _ = self.actor(features, reference)
        return self._choose(features, reference, [self._edited(reference, mean.tanh())])

    @staticmethod
    def act_alone(base: Tensor) -> Proposal:
        """ACT's own chunk."""
        return Proposal(base, torch.full((len(base),), BASE))

    @torch.no_grad()
    def explore(self, features: Tensor, base: Tensor, learning: bool, generator: torch.Generator) -> Proposal:
        """The collecting policy, in episodes that explore (:class:`Schedule` tells which).

        Before the actor learns: a sampled edit. Afterwards the best of the reference, the mean edit and some sampled edits; with
        probability ``actor.explore`` a sampled edit, unasked.

        Args:
            learning: the actor has begun to learn.
            generator: CPU generator of the exploration noise.
        """
        settings, reference = self.config.actor, self.reference(features, base, generator)
        mean, std = self.actor(features, reference)
        noise = self._noise(SAMPLED_CANDIDATES, mean, generator)
        samples = self._edited(reference.expand(len(noise), *base.shape), (mean + std * noise).tanh())
        sampled = Proposal(samples[0], torch.full((len(base),), SAMPLE))
        if not learning or not settings.candidates:
            return sampled
        chosen = self._choose(features, reference, [self._edited(reference, mean.tanh()), *samples])
        unasked = torch.rand(len(base), generator=generator) < settings.explore
        chunk = torch.where(unasked.to(base.device)[:, None, None], sampled.chunk, chosen.chunk)
        return Proposal(chunk, torch.where(unasked, SAMPLE, chosen.choice.cpu()))

    def set_reach(self, scales: Sequence[float]) -> None:
        """What the edits reach in the end; they begin with a fraction of it.

        Args:
            scales: ``actor.edit_scale``, one number, or one for each entry of the action.

        Raises:
            ValueError: another number of them.
        """
        if len(scales) not in (1, self.action_dim):
            raise ValueError(
                f"policy.actor.edit_scale={list(scales)} has {len(scales)} numbers, an action has {self.action_dim}. Give one, or one for each."
            )
        self.edit_reach.copy_(torch.tensor(scales).expand(self.action_dim))
        self.edit_scale.copy_(self.edit_reach * self.config.startup.scale_fraction)

    def grow_edits(self, fraction: float) -> None:
        """Let the edits reach ``fraction`` of ``actor.edit_scale``; what they reach already stays, up to that bound, which a later run may lower."""
        self.edit_scale.copy_(torch.minimum(self.edit_scale.maximum(fraction * self.edit_reach), self.edit_reach))

    def update(self, batch: Batch) -> Metrics:
        """Move the critics; with them, every ``policy_delay``-th time, actor and temperature; and the corrector, if people taught something.

        All losses are taken at the same weights, as in SERL. Nothing is read back from the device.

        Returns:
            name -> () tensor.
        """
        assert self.learning is not None, "begin_learning comes first"
        progress, settings = self.learning.progress, self.config
        self.grow_edits(progress.scale_fraction)
        batch = self.encode_batch(batch)
        loss, metrics = self.critic_loss(batch)
        scales, takes_part = dict.fromkeys(self.networks.learning, progress.lr_factor), {}
        if 0 < settings.corrector.least_takeovers <= self.learning.takeovers:
            corrector_loss, takes_part["corrector"] = self.corrector_loss(batch)
            loss, metrics["corrector_loss"] = loss + corrector_loss, corrector_loss.detach()
            self.corrector.learns()
        grasp_loss, grasp_metrics = self.gripping.loss(batch, self.corrected, is_active=self.actor.has_learnt)
        loss, metrics = loss + grasp_loss, metrics | grasp_metrics
        if progress.actor_joins:
            actor_loss, actor_metrics = self.actor_loss(batch)
            loss, metrics = loss + actor_loss, metrics | actor_metrics
            scales["actor"] *= progress.ramp
            self.actor.learns()
        terms = {name: metrics[name] for name in LOSS_TERMS if name in metrics}
        metrics |= self.learning.optimizers.step(loss, terms, scales, takes_part)
        sac.update_target(*self._followed, settings.critic.target_rate)
        self.gripping.update_target()
        progress.updates += 1
        return metrics

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Loss of the critics on a batch with all features, and what to log."""
        settings, alpha = self.config.critic, sac.temperature_of(self.raw_temperature).detach()
        members = torch.randperm(settings.members, generator=self._generator, device=batch.reward.device)[: settings.subset]
        with torch.no_grad():
            reference = self.reference(batch.next_features, batch.next_base)
            mean, std = self.actor(batch.next_features, reference)
            noise, with_entropy = self._white(mean), self.config.backup_entropy != "none"
            edit, log_prob = sac.tanh_gaussian(mean, std, noise) if with_entropy else (torch.addcmul(mean, std, noise).tanh(), None)
            chunk = self._edited(reference, edit)
            if self.config.actor.candidates:
                next_q = self.critic_target(batch.next_features, torch.stack([reference, chunk], dim=1), members)
                chosen = sac.choose_candidate(next_q, self.config.actor.margin)
                next_q = next_q.gather(-1, chosen.expand(len(members), -1).unsqueeze(-1)).squeeze(-1)
            else:
                next_q = self.critic_target(batch.next_features, chunk, members)
        target = sac.critic_target(
            batch.reward, batch.discount, next_q,
            backup_entropy=self.config.backup_entropy, temperature=alpha,  # type: ignore[arg-type]
            next_log_prob=None if log_prob is None else log_prob / mean.shape[-1], value_range=self.config.value_range,
        )  # fmt: skip
        loss, q = self.critic.squared_error(batch.features, batch.chunk, target, weight=batch.weight)
        # Like a prior, the penalty counts for less the more there is in the memory.
        prior, known = settings.prior_steps, 0 if self.learning is None else self.learning.known_steps
        penalty = self._advantage_penalty(batch) if prior else loss.new_zeros(())
        metrics = {"critic_loss": loss.detach(), "advantage_penalty": penalty.detach(), "target_q": target.mean()}
        if self._measures:
            metrics |= update_metrics.of_critics(q, batch)
        return (loss + prior / (prior + known) * penalty if prior else loss), metrics

    def _advantage_penalty(self, batch: Batch) -> Tensor:
        """``mean_{i,b} (Q_i(s, a_pi) - Q_i(s, b))^2``: without evidence, an edit is worth what ACT's own chunk is.

        Our own. Where there are data, they outweigh it; where there are none, nothing else holds a critic's slope (docs/algorithm.md). Over
        every fourth window: all of them would double what an update costs.
        """
        features, base = batch.features[::4], batch.base[::4]
        with torch.no_grad():
            reference = self.reference(features, base)
            mean, std = self.actor(features, reference)
            edit = (mean + std * self._white(mean)).tanh()
            chunks = torch.stack([reference, self._edited(reference, edit)], dim=1)
        return self.critic.squared_error(features, chunks, 0.0, contrast=(-1.0, 1.0))[0]

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Loss of the actor and of the temperature on a batch; neither moves critics or encoder."""
        features = batch.features.detach()
        reference = self.reference(features, batch.base)
        mean, std = self.actor(features, reference)
        edit, log_prob = sac.tanh_gaussian(mean, std, self._white(mean))
        log_prob = log_prob / mean.shape[-1]
        q = self.critic(features, self._edited(reference, edit), frozen=True)
        if self.config.actor.pessimism:
            with torch.no_grad():
                q_reference = self.critic(features, reference)
            value = sac.advantage_score(torch.stack([q_reference, q], dim=-1), self.config.actor.pessimism)[None, :, 1]
        else:
            value = q
        alpha = sac.temperature_of(self.raw_temperature)
        policy_loss = sac.actor_loss(value, log_prob, alpha)
        squashed = mean.tanh()
        anchor = squashed.square().mean()
        alpha_loss = sac.temperature_loss(alpha, log_prob, self.target_entropy)
        metrics = {"actor_loss": policy_loss, "anchor": anchor, "temperature": alpha, "temperature_loss": alpha_loss}
        if self._measures:
            reach = self.actor.along_chunk(squashed.detach()) * self.edit_scale
            metrics |= update_metrics.of_actor(q, squashed, reach, std, log_prob)
        loss = policy_loss + self.config.actor.anchor * anchor + alpha_loss
        return loss, {name: value.detach() for name, value in metrics.items()}

    def corrector_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss of the corrector on what people did, in corrections and in demonstrations; and whether a correction is in the batch, () bool."""
        inside = torch.arange(self.horizon, device=batch.length.device) < batch.length.unsqueeze(-1)
        intervention = batch.intervention | (batch.is_demo.unsqueeze(-1) & inside)
        change = self.corrector(batch.features.detach(), batch.base)
        return sac.imitation_loss(change, (batch.chunk - batch.base) / REACH, intervention), batch.intervention.any()

    @torch.no_grad()
    def advantage_metrics(self, batch: Batch) -> Metrics:
        """How the mean edit compares with the reference by the critics."""
        batch = self.encode_batch(batch)
        reference = self.reference(batch.features, batch.base)
        mean, _ = self.actor(batch.features, reference)
        chunks = torch.stack([reference, self._edited(reference, mean.tanh())], dim=1)
        q = self.critic(batch.features, chunks)
        chosen = sac.choose_candidate(q, self.config.actor.margin)
        return {"q_base": q[..., 0].mean(), "edit_advantage": (q[..., 1] - q[..., 0]).mean(), "edit_chosen": chosen.float().mean()}

    @property
    def _generator(self) -> torch.Generator | None:
        """Of learning; PyTorch's own where only a loss is asked for."""
        return None if self.learning is None else self.learning.generator

    @property
    def _measures(self) -> bool:
        """Whether to tell more than the losses."""
        return self.learning is None or self.learning.measures

    def _white(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._generator, device=like.device)

    def _noise(self, count: int, like: Tensor, generator: torch.Generator) -> Tensor:
        """``(count, B, M * D)`` standard normal; ``noise_correlation`` of its variance is common to the knots of a chunk."""
        if like.is_meta:  # no numbers are wanted, and perhaps no memory could hold them
            return like.new_empty(count, len(like), self.actor.knots * self.actor.action_dim)
        shared = self.config.actor.noise_correlation
        white = torch.randn((count, len(like), self.actor.knots, self.actor.action_dim), generator=generator)
        common = torch.randn((count, len(like), 1, self.actor.action_dim), generator=generator)
        return ((1 - shared) ** 0.5 * white + shared**0.5 * common).flatten(2).to(like)

    def _edited(self, base: Tensor, edit: Tensor) -> Tensor:
        if edit.requires_grad and torch.is_grad_enabled() and fast_cpu.suits(edit):
            return edit_gradients.edited(base, edit, self.actor.spread, self.edit_scale)
        return sac.edit_chunk(base, self.actor.along_chunk(edit), self.edit_scale)

    def _choose(self, features: Tensor, reference: Tensor, edits: list[Tensor]) -> Proposal:
        """``edits``, each ``(B, h, D)``, the mean edit first."""
        if not self.config.actor.candidates:
            return Proposal(edits[0], torch.full((len(reference),), MEAN))
        chunks = torch.stack([reference, *edits], dim=1)
        index = sac.choose_candidate(self.critic(features, chunks), self.config.actor.margin)
        chunk = chunks[torch.arange(len(reference), device=reference.device), index]
        return Proposal(chunk, index.clamp_max(SAMPLE))
