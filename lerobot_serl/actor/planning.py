"""Where the base policy plans: in the control loop if it is quick, else beside it, so that the arm never waits."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lerobot.configs import PolicyFeature

from ..base.plan_maker import Beside, MakePlan, PlanMaker, PlayedDelay
from ..execution import Execution
from ..policy.look_time import QUICK_SHARE, blank_frame, remedies, slowest_s
from .world import Observation

AUTO, IN_LOOP, BESIDE = "auto", "in_loop", "beside"
PLACES = (AUTO, IN_LOOP, BESIDE)
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
        return lambda make: self._measured(make, execution, fps, blank_frame(inputs, n_obs_steps))

    def _played(self, make: MakePlan, execution: Execution, fps: int) -> PlanMaker:
        steps = math.ceil(self.delay_s * fps - 1e-9)
        in_loop = self.place == IN_LOOP or not steps or not execution.is_open
        if steps:
            meanwhile = "the arm waits for each" if in_loop else "they are made beside the control loop"
            logging.info(f"Plans come {steps} steps after they are begun (--plan_delay_s={self.delay_s:g}); {meanwhile}.")
        return PlayedDelay(make, steps, in_loop)

    def _measured(self, make: MakePlan, execution: Execution, fps: int, observation: Observation) -> PlanMaker:
        took_s = slowest_s(lambda: make(observation).actions.cpu())
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


def say_features(took_s: float, fps: int, features: str) -> None:
    """Say how long it takes to look at the newest frame, which is done in the control loop at every decision; a warning if that is not quick.

    Args:
        fps: of the control loop.
        features: `--policy.features`.
    """
    words = f"What actor and critics see of a frame takes {1000 * took_s:.0f} ms = {took_s * fps:.1f} control steps at every decision"
    if took_s * fps > QUICK_SHARE:
        logging.warning(f"{words}: the arm waits for it. Use a faster device (--device), or train anew. {remedies(features)}")
    else:
        logging.info(f"{words}.")
