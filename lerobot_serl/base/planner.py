"""Carries the base policy's plans out one after another, as its owner does: which of its actions come next, and how old their plan is."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..execution import Execution
from ..lerobot_names import ACTTemporalEnsembler
from .base_policy import Plan
from .plan_maker import PlanMaker, PlannerError

# Plans in a row that are not finite, after which nothing good is to be expected.
MOST_REFUSED = 10
FADING_HORIZONS = 2
"""What a new plan differs by from the old one goes over so many decisions: so targets jump no farther than within ACT's own plans."""


class Slice(NamedTuple):
    """The next actions of the open plan: what is edited.

    Attributes:
        base: ``(B, h, D)`` in action units; beyond ``span`` the plan's last action again.
        age: steps since the frame that the plan was made for.
        span: steps to carry out before the next decision, at most ``h``.
        features: of the plan, ``(B, F)``.
    """

    base: Tensor
    age: int
    span: int
    features: Tensor


@dataclass
class _OpenPlan:
    actions: Tensor
    features: Tensor
    begun: int


class Planner:
    """The open plan of an episode that goes on.

    Where the maker makes plans beside the control loop, the next plan is begun before this one is used up, and its actions begin where the clock
    then is. They begin where the old plan has come to, so that no target jumps. If it is late, what is left of the old plan goes on; and if nothing
    is left, the arm stands still, and the actions of a plan that was begun meanwhile count from when it is there. If no plan can be had any more,
    what is left of the old one goes on too, and only then it ends.

    Args:
        maker: makes plans.
        execution: how they are carried out.

    Attributes:
        held_steps: of the episode, in which the robot had to wait for a plan.
        refused_plans: of the episode, that were not finite.
    """

    def __init__(self, maker: PlanMaker, execution: Execution) -> None:
        self._maker, self.execution = maker, execution
        self._end: PlannerError | None = None
        self.reset()

    def reset(self) -> None:
        """An episode begins.

        Raises:
            PlannerError: no plan can be had any more.
        """
        if self._end is not None:
            raise self._end
        self._step = -1
        self._newest: Mapping[str, Tensor] = {}
        self.held_steps = self.refused_plans = self._refused_in_a_row = 0
        self.forget()

    def forget(self) -> None:
        """The robot was moved otherwise than planned: the plan is out of date."""
        self._open: _OpenPlan | None = None
        self._stands = False
        self._maker.forget()
        coeff = self.execution.temporal_ensemble_coeff
        self._ensemble = None if coeff is None else _Ensemble(coeff)

    def see(self, observation: Mapping[str, Tensor]) -> None:
        """The newest observation ``(B, ...)``, in every control step, whoever moves the robot."""
        self._step += 1
        self._newest = observation
        if self._usable > 0 and not self._maker.in_loop and self._left <= self._maker.steps_ahead:
            self._begin()

    def next(self) -> Slice | None:
        """What to decide about at the newest observation; None: there is no plan yet, and the robot has to hold for a step.

        Raises:
            PlannerError: no plan can be had any more, and nothing is left of the open one.
        """
        try:
            self._renew()
        except PlannerError as error:
            self._ends(error)
        if self._open is None or self._usable <= 0:
            if self._end is not None:
                raise self._end
            self.held_steps += 1
            return None
        return self._slice(self._open)

    def _begin(self) -> None:
        """The next plan, unless one is under way, or none can be had."""
        if self._end is None and not self._maker.is_busy:
            # At first the arm rests, and nothing waits for it.
            self._maker.begin(self._newest, self._step, at_once=self._step == 0)
            self._stands = self._usable <= 0

    def _renew(self) -> None:
        """Take the next plan, if it is there."""
        if self._left <= 0:
            self._begin()
        if self._end is None and (made := self._maker.take(self._step)) is not None:
            plan, begun = made
            self._take(plan, self._step if self._stands else begun)

    def _ends(self, error: PlannerError) -> None:
        self._end = error
        if (steps := self._usable) > 0:
            logging.warning(
                f"{error} The {steps} steps that are left of the open plan are carried out; the process ends then, or with the episode."
            )

    @property
    def _left(self) -> int:
        """Steps of the open plan until the next one should take its place."""
        return 0 if self._open is None else self.execution.n_action_steps - self._age(self._open)

    @property
    def _usable(self) -> int:
        """Steps that there are in the open plan."""
        plan = self._open
        if plan is None or self._maker.in_loop:
            return self._left
        return plan.actions.shape[1] - self._age(plan)

    def _age(self, plan: _OpenPlan) -> int:
        return self._step - plan.begun

    def _take(self, plan: Plan, begun: int) -> None:
        if not bool(plan.actions.isfinite().all() & plan.features.isfinite().all()):
            self.refused_plans += 1
            self._refused_in_a_row += 1
            logging.warning("A plan of the base policy had numbers that are not finite. It is refused; another one is made.")
            if self._refused_in_a_row >= MOST_REFUSED:
                raise PlannerError(
                    f"{MOST_REFUSED} plans in a row had numbers that are not finite. The base policy or its observations are broken."
                )
            return
        self._refused_in_a_row = 0
        actions = plan.actions
        if self._ensemble is not None:
            actions = self._ensemble.update(actions)
        elif not self._maker.in_loop:
            if self._step - begun >= actions.shape[1]:
                return  # it came so late that nothing of it is left
            actions = self._faded(actions, self._step - begun)
        self._open = _OpenPlan(actions, plan.features, begun)

    def _faded(self, new: Tensor, age: int) -> Tensor:
        """The new plan, from where the old one has come: what lies between the two goes over some decisions, so that no target jumps."""
        if self._open is None:
            return new
        old, now = self._open.actions, self._age(self._open)
        if now > old.shape[1]:  # the arm stands still already
            return new
        steps = min(FADING_HORIZONS * self.execution.horizon, self.execution.n_action_steps // 2, new.shape[1] - age)
        left = 1.0 - torch.arange(1, steps + 1, device=new.device, dtype=new.dtype).unsqueeze(-1) / (steps + 1)
        faded = new.clone()
        faded[:, age : age + steps] += left * (old[:, min(now, old.shape[1] - 1)] - new[:, age]).unsqueeze(1)
        return faded.clamp(-1.0, 1.0)

    def _slice(self, plan: _OpenPlan) -> Slice:
        age, horizon = self._age(plan), self.execution.horizon
        span = min(horizon, self._left) if self._left > 0 else 1
        last = min(max(self.execution.n_action_steps, age + span), plan.actions.shape[1]) - 1
        index = (age + torch.arange(horizon, device=plan.actions.device)).clamp_max(last)
        return Slice(plan.actions[:, index], age, span, plan.features)


class _Ensemble:
    """ACT's temporal ensembling: the mean of what all plans since the episode's begin say about this step."""

    def __init__(self, coeff: float) -> None:
        self._coeff = coeff
        self._mean: ACTTemporalEnsembler | None = None

    def update(self, actions: Tensor) -> Tensor:
        """Newest plan ``(B, n, D)`` -> the action ``(B, 1, D)`` to carry out now."""
        if self._mean is None:
            self._mean = ACTTemporalEnsembler(self._coeff, actions.shape[1])
        mean: Tensor = self._mean.update(actions)
        return mean.unsqueeze(1)


def ensembled(plans: Tensor, coeff: float) -> Tensor:
    """The actions ``(T, 1, D)`` that temporal ensembling makes of the plans ``(T, n, D)`` of successive frames."""
    ensemble = _Ensemble(coeff)
    return torch.cat([ensemble.update(plan.unsqueeze(0)) for plan in plans])
