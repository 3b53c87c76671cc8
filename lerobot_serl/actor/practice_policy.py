"""The policy in practice: explores, or acts as it would be deployed, as the schedule says."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..base.plan_maker import MakePlan, PlanMaker, PlayedDelay
from ..policy.agent import Agent
from ..policy.proposal import Proposal
from ..replay.episode import ActedAs, Episode
from .chunk import Chunk
from .planned_policy import PlannedPolicy, planned
from .planning import Planning
from .schedule import Schedule
from .world import Observation


class PracticePolicy:
    """What a rollout asks for chunks.

    Args:
        agent: with the weights as they are at the moment; may be exchanged between two episodes.
        generator: CPU generator of the exploration noise.
        make_maker: where plans are made.

    Attributes:
        acts_as: what this episode is.
    """

    def __init__(self, agent: Agent, generator: torch.Generator, make_maker: Callable[[MakePlan], PlanMaker] = PlayedDelay) -> None:
        self._policy = PlannedPolicy(agent, make_maker)
        self._generator, self._schedule = generator, Schedule(agent.config.actor.deployed_share)
        self._learning, self.acts_as = False, ActedAs.EXPLORING

    @property
    def agent(self) -> Agent:
        """As given."""
        return self._policy.agent

    @agent.setter
    def agent(self, agent: Agent) -> None:
        self._policy.agent = agent

    def plan_with(self, planning: Planning, fps: int, simulated: bool) -> None:
        """Say where plans are made, before the first episode; arguments as :func:`.planned_policy.planned`.

        Raises:
            ValueError: the flags do not fit.
        """
        self._policy.close()
        self._policy = planned(self.agent, planning, fps, simulated)

    def begin_episode(self, learning: bool) -> None:
        """Decide what the next episode is.

        Args:
            learning: the actor has begun to learn.
        """
        self._learning, self.acts_as = learning, self._schedule.next(learning)
        self._policy.begin()
        if not self.agent.act.proposes:
            self.acts_as = _without_base(self.acts_as, learning)
        elif self.acts_as is ActedAs.DEPLOYED and self.agent.is_act:
            self.acts_as = ActedAs.ACT

    def see(self, observation: Observation) -> None:
        """The next frame of the episode, whoever moves the robot."""
        self._policy.see(observation)

    def report(self) -> dict[str, int]:
        """What went wrong with plans in this episode."""
        return self._policy.report

    def moved(self) -> None:
        """A person has moved the robot."""
        self._policy.moved()

    def act(self, observation: Observation) -> Chunk | None:
        """The next chunk for the frame that was seen last; None: there is no plan yet."""
        return self._policy.decide(self._explore if self.acts_as is ActedAs.EXPLORING else self.agent.propose, self.acts_as)

    def finished(self, episode: Episode) -> None:
        """An episode is over."""
        self._schedule.finished(episode)

    def close(self) -> None:
        """Stop planning."""
        self._policy.close()

    def _explore(self, features: Tensor, base: Tensor) -> Proposal:
        return self.agent.explore(features, base, self._learning, self._generator)


def _without_base(acts_as: ActedAs, learning: bool) -> ActedAs:
    """There is nothing to compare with, and nothing to deploy before the actor learns."""
    return ActedAs.EXPLORING if not learning or acts_as is ActedAs.EXPLORING else ActedAs.DEPLOYED
