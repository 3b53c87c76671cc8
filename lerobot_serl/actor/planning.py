"""Where the base policy plans: in the control loop if it is quick, else beside it, so that the arm never waits."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from lerobot.configs import FeatureType, PolicyFeature

from ..base.plan_maker import Beside, MakePlan, PlanMaker, PlayedDelay
from ..execution import Execution
from .world import Observation

AUTO, IN_LOOP, BESIDE = "auto", "in_loop", "beside"
PLACES = (AUTO, IN_LOOP, BESIDE)
# Share of a control step that a plan may take in the loop.
QUICK_SHARE = 0.3
MEASURED_PLANS = 5
# Steps that a plan is begun earlier than it takes.
SPARE_STEPS, SPARE_SHARE = 2, 0.25
LEAST_PATIENCE_S, PATIENCE_PLANS = 5.0, 20


@dataclass(frozen=True)
class Planning:
    """Flags of it.

    Attributes:
        place: "auto", "in_loop" or "beside".
        delay_s: that a simulation, in which time stands still between two steps, plays.
    """

    place: str = AUTO
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise ValueError(f"--planning={self.place}: expected one of {', '.join(PLACES)}.")
        if not 0 <= self.delay_s <= 60:
            raise ValueError(f"--plan_delay_s={self.delay_s}: expected 0 to 60 seconds.")

    def maker(
        self, execution: Execution, fps: int, simulated: bool, inputs: Mapping[str, PolicyFeature], n_obs_steps: int = 1
    ) -> Callable[[MakePlan], PlanMaker]:
        """What makes the plans of a policy.

        Args:
            execution: of its plans.
            fps: of the control loop.
            simulated: time stands still between two steps.
            inputs: features of an observation.
            n_obs_steps: frames that a plan needs.

        Raises:
            ValueError: the flags do not fit, by name.
        """
        if self.place == BESIDE and not execution.is_open:
            raise ValueError(
                f"--planning=beside: the policy plans anew at every decision (n_action_steps={execution.n_action_steps}, "
                f"horizon={execution.horizon}), so that there is no plan to carry out meanwhile. Leave it out, or train with a larger "
                "--policy.n_action_steps."
            )
        if simulated:
            return lambda make: self._played(make, execution, fps)
        if self.delay_s:
            raise ValueError(
                f"--plan_delay_s={self.delay_s}: expected 0 where time does not stand still between two steps: planning takes its time."
            )
        return lambda make: self._measured(make, execution, fps, _zeros(inputs, n_obs_steps))

    def _played(self, make: MakePlan, execution: Execution, fps: int) -> PlanMaker:
        steps = math.ceil(self.delay_s * fps - 1e-9)
        in_loop = self.place == IN_LOOP or not steps or not execution.is_open
        if steps:
            meanwhile = "the arm waits for each" if in_loop else "they are made beside the control loop"
            logging.info(f"Plans come {steps} steps after they are begun (--plan_delay_s={self.delay_s:g}); {meanwhile}.")
        return PlayedDelay(make, steps, in_loop)

    def _measured(self, make: MakePlan, execution: Execution, fps: int, observation: Observation) -> PlanMaker:
        took_s = max([_timed(lambda: make(observation).actions.cpu()) for _ in range(1 + MEASURED_PLANS)][1:])  # the first one is slow
        steps = took_s * fps
        words = f"Plans take {1000 * took_s:.0f} ms = {steps:.1f} control steps"
        if self.place == IN_LOOP or not execution.is_open or (self.place == AUTO and steps <= QUICK_SHARE):
            waits = "" if steps <= QUICK_SHARE else "; the arm waits for each"
            logging.log(logging.WARNING if waits else logging.INFO, f"{words}: they are made in the control loop{waits}.")
            return PlayedDelay(make)
        ahead = math.ceil(steps) + max(SPARE_STEPS, math.ceil(SPARE_SHARE * steps))
        logging.info(f"{words}: they are made beside the control loop, and begun {ahead} steps ahead.")
        if ahead + execution.horizon > execution.n_action_steps:
            logging.warning(
                f"A plan lasts {execution.n_action_steps} steps (n_action_steps), too few for the next one to be there in time: the arm will wait. "
                "Plan on a faster device (--device), or train with a larger --policy.n_action_steps."
            )
        return Beside(make, ahead, max(LEAST_PATIENCE_S, PATIENCE_PLANS * took_s))


def say_features(look: Callable[[Observation], object], inputs: Mapping[str, PolicyFeature], n_obs_steps: int, fps: int) -> None:
    """Measure what is computed of the newest frame at every decision, in the control loop, and say it if it is not quick.

    Args:
        look: computes it.
        inputs, n_obs_steps, fps: as :meth:`Planning.maker`.
    """
    observation = _zeros(inputs, n_obs_steps)
    took_s = max([_timed(lambda: look(observation)) for _ in range(1 + MEASURED_PLANS)][1:])
    words = f"What actor and critics see of a frame takes {1000 * took_s:.0f} ms = {took_s * fps:.1f} control steps at every decision"
    if took_s * fps > QUICK_SHARE:
        logging.warning(
            f"{words}: the arm waits for it. Use a faster device (--device), or train with --policy.features=state or smaller images."
        )
    else:
        logging.info(f"{words}.")


def _zeros(inputs: Mapping[str, PolicyFeature], n_obs_steps: int) -> Observation:
    frames = () if n_obs_steps == 1 else (n_obs_steps,)
    kinds = {key: torch.uint8 if feature.type is FeatureType.VISUAL else torch.float32 for key, feature in inputs.items()}
    return {key: torch.zeros((*frames, *feature.shape), dtype=kinds[key]) for key, feature in inputs.items()}


def _timed(compute: Callable[[], object]) -> float:
    """Seconds of a computation that ends with numbers on the CPU: a GPU has only then done it."""
    started_s = time.perf_counter()
    compute()
    return time.perf_counter() - started_s
