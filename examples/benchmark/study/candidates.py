"""Ways to deploy the weights of one moment, measured side by side on episodes that nothing else uses."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor

from lerobot_serl.actor.rollout import Act
from lerobot_serl.online.best_weights import restore
from lerobot_serl.online.evidence import BestPolicy
from lerobot_serl.policy.agent import SAMPLED_CANDIDATES
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.policy.proposal import Proposal

from .base import Base, frozen_policy
from .practice import CONTROL_SEED, Acting, deterministic, evaluate

NOISE_SEED = 0


def measured(name: str, act: Act, base: Base, policy: SerlSacPolicy, episodes: int) -> dict[str, str]:
    """In how many control episodes one policy succeeds, and how long they are on average."""
    world = base.world(policy.config.input_features or {}, policy.agent.action_dim, CONTROL_SEED)
    recordings = evaluate(world, act, episodes)
    successes = sum(recording.success for recording in recordings)
    length = sum(map(len, recordings)) / episodes
    print(f"{name}: {successes} of {episodes}, {length:.1f} steps", flush=True)
    return {"policy": name, "successes": str(successes), "episodes": str(episodes), "length": f"{length:.1f}"}


def act_alone(policy: SerlSacPolicy, base: Base) -> Act:
    """ACT in chunks, whatever was learnt."""
    return deterministic(frozen_policy(base.act, base.task.horizon, base.task.path_setting))


def fixed_noise(policy: SerlSacPolicy) -> Act:
    """The deterministic policy of before version 0.2: beside the mean edit, edits with the same noise in every chunk compete."""
    agent, generator = policy.agent, torch.Generator().manual_seed(NOISE_SEED)
    noise = agent._noise(SAMPLED_CANDIDATES, agent.box.middle.new_empty(1), generator).squeeze(1)

    def propose(features: Tensor, base: Tensor) -> Proposal:
        reference = agent.reference(features, base)
        mean, std = agent.actor(features, reference)
        edits = [agent._edited(reference, mean.tanh())]
        if agent.actor.has_learnt:
            edits += [agent._edited(reference, (mean + std * one).tanh()) for one in noise]
        return agent._choose(features, reference, edits)

    return Acting(agent, propose)


def mean_unasked(policy: SerlSacPolicy) -> Act:
    """The mean edit, whatever the critics say."""
    agent = policy.agent

    def propose(features: Tensor, base: Tensor) -> Proposal:
        reference = agent.reference(features, base)
        chunk = agent._edited(reference, agent.actor(features, reference)[0].tanh())
        return Proposal(chunk, torch.ones(len(chunk)))

    return Acting(agent, propose)


def collecting(policy: SerlSacPolicy, explore: float | None = None) -> Act:
    """The collecting policy with fresh noise of its own, perhaps with another share of edits that the critics are not asked about."""
    generator, actor = torch.Generator().manual_seed(CONTROL_SEED), policy.config.actor

    def choose(features: Tensor, base: Tensor) -> Proposal:
        before = actor.explore
        try:
            actor.explore = before if explore is None else explore
            return policy.agent.explore(features, base, True, generator)
        finally:
            actor.explore = before

    return Acting(policy.agent, choose)


def best(policy: SerlSacPolicy, best_policy: BestPolicy) -> Act:
    """What ``checkpoints/best`` would hold."""
    agent = deepcopy(policy.agent)
    if best_policy.edits_are_better and best_policy.candidate is not None:
        restore(agent, best_policy.candidate.kept)
        return Acting(agent, agent.propose)
    return Acting(agent, lambda features, base: agent.act_alone(base))


CANDIDATES: dict[str, Callable[[SerlSacPolicy], Act]] = {
    "deployed: the mean edit": deterministic,
    "fresh noise": lambda policy: collecting(policy, 0.0),
    "fixed noise": fixed_noise,
    "the mean edit, unasked": mean_unasked,
}
