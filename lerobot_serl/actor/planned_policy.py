"""A policy through an episode: the frames that it has seen, the open plan, and what it decides about the plan's next steps."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..base.base_policy import Plan
from ..base.history import History
from ..base.plan_maker import MakePlan, PlanMaker, PlayedDelay
from ..base.planner import Planner
from ..policy.agent import Agent
from ..policy.look_time import look_s
from ..policy.proposal import Proposal
from ..replay.episode import ActedAs, policy_input
from .chunk import Chunk
from .planning import Planning, say_features
from .world import Observation

Choose = Callable[[Tensor, Tensor], Proposal]
"""Features ``(1, F)`` and the base policy's chunk ``(1, h, D)`` -> the chunk to carry out."""


class PlannedPolicy:
    """What a session asks for chunks; observations have no batch dimension.

    Args:
        agent: with the weights as they are at the moment; may be exchanged between two episodes.
        make_maker: where plans are made.
    """

    def __init__(self, agent: Agent, make_maker: Callable[[MakePlan], PlanMaker] = PlayedDelay) -> None:
        self.agent = agent
        self._maker: PlanMaker | None = None
        self._maker = make_maker(self._plan)
        self._planner = Planner(self._maker, agent.execution)
        self.begin()

    def begin(self) -> None:
        """An episode begins.

        Raises:
            PlannerError: no plan can be had any more.
        """
        agent = self.agent
        self._planner.reset()
        self._history = History(agent.act.n_obs_steps, agent.config.input_features or {}) if agent.act.n_obs_steps > 1 else None

    def see(self, observation: Observation) -> None:
        """The next frame of the episode, whoever moves the robot."""
        if self._history is not None:
            self._history.add({key: value.unsqueeze(0) for key, value in observation.items()})
            observation = {key: value[0] for key, value in self._history.observation().items()}
        self._seen = observation
        self._planner.see(observation)

    @property
    def report(self) -> dict[str, int]:
        """What went wrong with plans in this episode; for its info."""
        refused = self._planner.refused_plans
        return {"refused_plans": refused} if refused else {}

    def moved(self) -> None:
        """A person has moved the robot: what was planned is out of date."""
        self._planner.forget()

    @torch.no_grad()
    def decide(self, choose: Choose, acted_as: ActedAs) -> Chunk | None:
        """The next chunk for the frame that was seen last; None: there is no plan yet.

        Args:
            choose: is not asked where the base policy acts alone.

        Raises:
            PlannerError: no plan can be had any more, and nothing is left of the open one.
        """
        piece, agent = self._planner.next(), self.agent
        if piece is None:
            return None
        if acted_as is ActedAs.ACT:
            proposal = agent.act_alone(piece.base)
        else:
            proposal = choose(agent.look(self._input(self._seen), piece.features, piece.age), piece.base)
        actions, planned = (agent.box.unnormalize(chunk)[0, : piece.span].cpu().numpy() for chunk in (proposal.chunk, piece.base))
        edit_rms = (proposal.chunk - piece.base)[:, : piece.span].square().mean().sqrt().item()
        return Chunk(actions, int(proposal.choice[0]), edit_rms, acted_as, planned, piece.age)

    def close(self) -> None:
        """Stop planning."""
        if self._maker is not None:
            self._maker.close()

    def _plan(self, observation: Mapping[str, Tensor]) -> Plan:
        return self.agent.plan(self._input(observation), whole=self._maker is None or not self._maker.in_loop)

    def _input(self, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        device = self.agent.box.middle.device
        return policy_input({key: value.unsqueeze(0).contiguous().to(device) for key, value in observation.items()})


def planned(agent: Agent, planning: Planning, fps: int, simulated: bool) -> PlannedPolicy:
    """A policy whose plans are made where the flags say; what that takes is measured and said.

    Args:
        fps: of the control loop.
        simulated: time stands still between two steps.

    Raises:
        ValueError: the flags do not fit.
    """
    inputs, n_obs_steps = agent.config.input_features or {}, agent.act.n_obs_steps
    policy = PlannedPolicy(agent, planning.maker(agent.execution, fps, simulated, inputs, n_obs_steps))
    if agent.execution.is_open and not simulated:
        say_features(look_s(agent), fps, agent.config.features)
    return policy
