"""The policy in practice: explores, or acts as it would be deployed, as the schedule says."""

import torch

from ..policy.agent import Agent
from ..replay.recording import ActedAs, Recording, policy_input
from .schedule import Schedule
from .session import Chunk
from .world import Observation


class PracticePolicy:
    """What a session asks for chunks.

    Args:
        agent: with the weights as they are at the moment; may be exchanged between two episodes.
        generator: CPU generator of the exploration noise.

    Attributes:
        acts_as: what this episode is.
    """

    def __init__(self, agent: Agent, generator: torch.Generator) -> None:
        self.agent = agent
        self._generator, self._schedule = generator, Schedule(agent.config.actor.deployed_share)
        self._learning, self.acts_as = False, ActedAs.EXPLORING

    def begin_episode(self, learning: bool) -> None:
        """Decide what the next episode is.

        Args:
            learning: the actor has begun to learn.
        """
        self._learning, self.acts_as = learning, self._schedule.next(learning)
        if self.acts_as is ActedAs.DEPLOYED and self.agent.is_act:
            self.acts_as = ActedAs.ACT

    def act(self, observation: Observation) -> Chunk:
        """The next chunk for one observation (no batch dimension)."""
        return next_chunk(self.agent, observation, self.acts_as, self._learning, self._generator)

    def finished(self, recording: Recording) -> None:
        """An episode is over."""
        self._schedule.finished(recording)


def next_chunk(agent: Agent, observation: Observation, acts_as: ActedAs, learning: bool, generator: torch.Generator) -> Chunk:
    """The chunk that one observation (no batch dimension) calls for; see :meth:`Agent.explore` for ``learning`` and ``generator``."""
    device = agent.box.middle.device
    features, base = agent.observe(policy_input({key: value.unsqueeze(0).contiguous().to(device) for key, value in observation.items()}))
    if acts_as is ActedAs.EXPLORING:
        proposal = agent.explore(features, base, learning, generator)
    else:
        proposal = agent.propose(features, base) if acts_as is ActedAs.DEPLOYED else agent.act_alone(base)
    edit_rms = (proposal.chunk - base).square().mean().sqrt().item()
    return Chunk(agent.box.unnormalize(proposal.chunk)[0].cpu().numpy(), int(proposal.choice[0]), edit_rms, acts_as)
