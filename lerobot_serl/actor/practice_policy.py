"""The policy in practice: explores, or acts as it would be deployed, as the schedule says."""

import torch

from ..base.history import History
from ..policy.agent import Agent
from ..replay.episode import ActedAs, Episode, policy_input
from .rollout import Chunk
from .schedule import Schedule
from .world import Observation


class PracticePolicy:
    """What a rollout asks for chunks.

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
        self._seen = Seen(agent)

    def begin_episode(self, learning: bool) -> None:
        """Decide what the next episode is.

        Args:
            learning: the actor has begun to learn.
        """
        self._learning, self.acts_as = learning, self._schedule.next(learning)
        self._seen = Seen(self.agent)
        if not self.agent.act.proposes:
            self.acts_as = _without_base(self.acts_as, learning)
        elif self.acts_as is ActedAs.DEPLOYED and self.agent.is_act:
            self.acts_as = ActedAs.ACT

    def see(self, observation: Observation) -> None:
        """The next frame of the episode, whoever moves the robot."""
        self._seen.add(observation)

    def act(self, observation: Observation) -> Chunk:
        """The next chunk for the frame that was seen last."""
        return next_chunk(self.agent, self._seen.observation(observation), self.acts_as, self._learning, self._generator)

    def finished(self, episode: Episode) -> None:
        """An episode is over."""
        self._schedule.finished(episode)


class Seen:
    """The frames of an episode that the agent's base policy looks at."""

    def __init__(self, agent: Agent) -> None:
        self._history = History(agent.act.n_obs_steps, agent.config.input_features or {}) if agent.act.n_obs_steps > 1 else None

    def add(self, observation: Observation) -> None:
        """The newest frame (no batch dimension)."""
        if self._history is not None:
            self._history.add({key: value.unsqueeze(0) for key, value in observation.items()})

    def observation(self, newest: Observation) -> Observation:
        """What the agent needs: the newest frame alone, or with those before it."""
        if self._history is None:
            return newest
        return {key: value[0] for key, value in self._history.observation().items()}


def _without_base(acts_as: ActedAs, learning: bool) -> ActedAs:
    """There is nothing to compare with, and nothing to deploy before the actor learns."""
    return ActedAs.EXPLORING if not learning or acts_as is ActedAs.EXPLORING else ActedAs.DEPLOYED


def next_chunk(agent: Agent, observation: Observation, acts_as: ActedAs, learning: bool, generator: torch.Generator) -> Chunk:
    """The chunk that one observation (no batch dimension) calls for; see :meth:`Agent.explore` for ``learning`` and ``generator``.

    If the base policy looks at several frames, the observation has them, ``(n_obs_steps, ...)``.
    """
    device = agent.box.middle.device
    features, base = agent.encode(policy_input({key: value.unsqueeze(0).contiguous().to(device) for key, value in observation.items()}))
    if acts_as is ActedAs.EXPLORING:
        proposal = agent.explore(features, base, learning, generator)
    else:
        proposal = agent.propose(features, base) if acts_as is ActedAs.DEPLOYED else agent.act_alone(base)
    edit_rms = (proposal.chunk - base).square().mean().sqrt().item()
    return Chunk(agent.box.unnormalize(proposal.chunk)[0].cpu().numpy(), int(proposal.choice[0]), edit_rms, acts_as)
