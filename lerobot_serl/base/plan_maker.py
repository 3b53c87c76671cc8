"""Where and when plans are made: in the control loop, or beside it."""

import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from torch import Tensor

from .base_policy import Plan

MakePlan = Callable[[Mapping[str, Tensor]], Plan]
CLOSING_S = 2.0
"""What a plan may still take in the end; its thread ends with the process."""
Made = tuple[Plan, int]
"""A plan in action units, and the step from which its actions count."""


class PlannerError(RuntimeError):
    """No plan can be had any more."""


class PlanMaker(ABC):
    """Makes one plan at a time.

    Attributes:
        in_loop: the robot waits for a plan, whose actions count from when it is there.
        steps_ahead: a plan should be begun so many steps before it is needed.
    """

    in_loop = True
    steps_ahead = 0

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """Whether a plan has been begun and not been taken."""

    @abstractmethod
    def begin(self, observation: Mapping[str, Tensor], step: int, at_once: bool = False) -> None:
        """Make a plan for this observation of this step.

        Args:
            at_once: it is there when this returns.
        """

    @abstractmethod
    def take(self, step: int) -> Made | None:
        """The plan, once, if it is there.

        Raises:
            PlannerError: it will never be; said again whenever it is asked for.
        """

    @abstractmethod
    def forget(self) -> None:
        """What was begun is not wanted any more."""

    def close(self) -> None:  # noqa: B027 - most have nothing to stop
        """Stop."""


class PlayedDelay(PlanMaker):
    """For worlds in which time stands still between two steps: a plan is there after exactly so many of them.

    Args:
        make: observation -> plan.
        delay_steps: 0: within the step in which it is begun.
        in_loop: see :class:`PlanMaker`.
    """

    def __init__(self, make: MakePlan, delay_steps: int = 0, in_loop: bool = True) -> None:
        self._make = make
        self._delay_steps = delay_steps
        self.in_loop = in_loop
        self.steps_ahead = 0 if in_loop else delay_steps
        self._made: Made | None = None
        self._ready = 0

    @property
    def is_busy(self) -> bool:
        return self._made is not None

    def begin(self, observation: Mapping[str, Tensor], step: int, at_once: bool = False) -> None:
        self._made = self._make(observation), step
        self._ready = step + (0 if at_once else self._delay_steps)

    def take(self, step: int) -> Made | None:
        if self._made is None or step < self._ready:
            return None
        (plan, begun), self._made = self._made, None
        return plan, step if self.in_loop else begun

    def forget(self) -> None:
        self._made = None


class Beside(PlanMaker):
    """A thread of its own, beside the control loop.

    If it dies, or a plan does not come, another one is started, once. After that no plan is made any more.

    Args:
        make: observation -> plan.
        steps_ahead: see :class:`PlanMaker`.
        patience_s: a plan that takes longer never comes.
    """

    in_loop = False

    def __init__(self, make: MakePlan, steps_ahead: int, patience_s: float) -> None:
        self._make = make
        self.steps_ahead = steps_ahead
        self._patience_s = patience_s
        self._was_restarted = False
        self._waiting_for = 0
        self._begun_s = 0.0
        self._last: tuple[Mapping[str, Tensor], int] | None = None
        self._answer: Made | Exception | None = None
        self._start()

    @property
    def is_busy(self) -> bool:
        return self._last is not None

    def begin(self, observation: Mapping[str, Tensor], step: int, at_once: bool = False) -> None:
        self.forget()
        self._last, self._begun_s = (observation, step), time.monotonic()
        self._orders.put((self._waiting_for, observation, step))
        while at_once and not self._is_answered and not self._is_dead:
            time.sleep(0.001)

    def take(self, step: int) -> Made | None:
        if self._last is None:
            return None
        if not self._is_answered:
            if self._is_dead:
                self._restart(f"no plan came within {self._patience_s:g} s")
            return None
        answer, self._answer = self._answer, None
        if isinstance(answer, Exception):
            self._restart(f"{type(answer).__name__}: {answer}")
            return None
        self._last = None
        return answer

    def forget(self) -> None:
        self._last = self._answer = None
        self._waiting_for += 1

    def close(self) -> None:
        self._orders.put(None)
        self._thread.join(min(self._patience_s, CLOSING_S))

    @property
    def _is_answered(self) -> bool:
        """Whether the newest order is; answers to others, which were forgotten, go."""
        while self._answer is None and not self._results.empty():
            number, answer = self._results.get()
            self._answer = answer if number == self._waiting_for else None
        return self._answer is not None

    @property
    def _is_dead(self) -> bool:
        return not self._thread.is_alive() or time.monotonic() - self._begun_s > self._patience_s

    def _start(self) -> None:
        self._orders: queue.SimpleQueue[tuple[int, Mapping[str, Tensor], int] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[int, Made | Exception]] = queue.SimpleQueue()
        orders, results = self._orders, self._results

        def work() -> None:
            while (order := orders.get()) is not None:
                number, observation, step = order
                try:
                    results.put((number, (self._make(observation), step)))
                except Exception as error:  # whatever the base policy stumbles over: the loop says it, and ends if it goes on
                    results.put((number, error))

        self._thread = threading.Thread(target=work, name="planner", daemon=True)
        self._thread.start()

    def _restart(self, why: str) -> None:
        if self._was_restarted:
            raise PlannerError(f"The planner has failed again ({why}), after it was started anew.")
        logging.warning(f"The planner has failed ({why}). It is started anew; what is left of the open plan goes on meanwhile.")
        self._was_restarted = True
        self._orders.put(None)
        self._start()
        if self._last is not None:
            self.begin(*self._last)
