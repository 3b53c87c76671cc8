"""A LeRobot robot as the world of an actor process: fixed rate, limits, judges, resets."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from lerobot.robots import Robot

from ..key_names import Kind
from ..replay.episode import Decider
from .clipping_hint import ClippingHint
from .faults import STALE, Watched, error_of
from .judges import Judge, Verdict
from .key_kinds import KeyKinds
from .leaving import leave
from .pace import Pace
from .robot_io import RobotIo
from .safety import Limiter
from .stillness import Stillness
from .world import Observation, Observer, StepResult, WorldError


@dataclass
class Timing:
    """What an episode cost: seconds within the robot's own calls, and within ours."""

    robot_s: float = 0.0
    own_s: float = 0.0


class RobotWorld:
    """One connected robot.

    Args:
        robot: connected.
        io: between its dictionaries and the policy's tensors.
        limiter: limits.
        judges: asked after every step, in this order.
        pace: of the control loop; None for a simulation in lockstep, where ``send_action`` itself is the tick.
        time_limit_steps: an episode is truncated after so many.
        max_observation_age_s: older observations spoil the episode.
        task: in words.
        show: gets each tick's raw observation and executed action (`--display_data`).
        stillness: what the robot was told, shared with who may take over; empty: as robot and names say.
        reset_scene: brings it back to the beginning of an episode.

    Raises:
        WorldError: what the robot gives is not what it promises.
    """

    def __init__(
        self,
        robot: Robot,
        io: RobotIo,
        limiter: Limiter,
        judges: Sequence[Judge],
        pace: Pace | None,
        time_limit_steps: int,
        max_observation_age_s: float,
        task: str,
        show: Observer | None = None,
        stillness: Stillness | None = None,
        reset_scene: "Callable[[RobotWorld], None]" = lambda world: None,
    ) -> None:
        self.robot = cast(Robot, Watched(robot, "robot"))
        self._device = robot
        self.io = io
        self.limiter = limiter
        self.task = task
        self.simulated = pace is None
        self._reset_scene = reset_scene
        self._judges = judges
        self._pace = pace
        self._limit = time_limit_steps
        self._max_age_s = max_observation_age_s
        self._show = show
        self._numbers: dict[str, float] = {}
        self._raw: Mapping[str, Any] = {}
        self._last: dict[str, float] = {}
        self._stillness = stillness or Stillness(KeyKinds(robot, io.action_keys, io.positions), io.action_keys)
        self._hint = ClippingHint(robot, [key for key in io.action_keys if self._stillness.kinds[key] is Kind.POSITION])
        self._steps = 0
        self._timing = Timing()
        self._closed = False
        self._not_held = ""
        self.read()

    @property
    def measured(self) -> Mapping[str, float]:
        return self._numbers

    @property
    def longest_steps(self) -> int:
        return self._limit

    def read(self) -> Mapping[str, float]:
        """A fresh observation; returns its numbers.

        Raises:
            EpisodeSpoilt: it did not come, is incomplete, or took too long, so nobody knows how old it is.
            WorldError: the robot's class failed otherwise.
        """
        started = time.perf_counter()
        raw = self.robot.get_observation()
        took_s = time.perf_counter() - started
        self._timing.robot_s += took_s
        # The first one may have to wake cameras; in lockstep nothing grows old.
        if took_s > self._max_age_s and self._raw and not self.simulated:
            raise error_of(STALE, f"{self.robot.name}: an observation took {took_s:.2f} s, at most {self._max_age_s:.2f} s is allowed")
        self._raw, self._numbers = raw, self.io.numbers(raw)
        return self._numbers

    def reset(self) -> Observation:
        with self._held_after_faults():
            return self._reset()

    def _reset(self) -> Observation:
        self._reset_scene(self)
        self.limiter.clamped.clear()
        self._steps = 0
        self._timing = Timing()
        for judge in self._judges:
            judge.begin()
        self.read()
        if self._pace is not None:
            self._pace.begin()
        return self.io.observation(self._raw, self._numbers)

    def step(self, action: np.ndarray) -> StepResult:
        return self.step_intervention(self.io.action(action))

    def step_intervention(self, action: Mapping[str, float]) -> StepResult:
        with self._held_after_faults():
            return self._step(action)

    def stay(self) -> StepResult:
        """A step in which the arm is told to keep still.

        Raises:
            WorldError: nothing was executed or measured yet, so nobody knows how.
        """
        targets = self._stillness.targets(self._numbers, leaving=True)
        if not targets:
            raise WorldError(f"{self.robot.name} has no plan yet, and cannot hold still: it measures none of {list(self.io.action_keys)}.")
        return self.step_intervention(targets)

    def send(self, action: Mapping[str, float]) -> np.ndarray:
        """Send an action within the limits; returns what was executed, ``(D,)``.

        A robot that takes other devices' keys has `translate_action`: limits know only its own.
        """
        translate = getattr(self.robot, "translate_action", None)
        safe = self.limiter.apply(action if translate is None else translate(action), self._numbers)
        self._stillness.sends(safe)
        started = time.perf_counter()
        returned = self.robot.send_action(safe)
        self._timing.robot_s += time.perf_counter() - started
        executed = self.io.executed(returned)
        self._last = dict(zip(self.io.action_keys, executed.tolist(), strict=True))
        self._stillness.executed(self._last)
        self._hint.look(self._last, self._numbers)
        return executed

    def hold(self, leaving: bool = False) -> None:
        """Keep the targets that were executed last, and stop what moves with a velocity (`Stillness`), within the limits.

        In lockstep nothing moves anyway. Before the first observation nothing was sent.

        Args:
            leaving: in the end. A robot that has just reset itself keeps its own targets, unless it is left.
        """
        if self.simulated or not (self._raw or leaving):
            return
        if still := self._stillness.targets(self._numbers, leaving):
            self.robot.send_action(self.limiter.keep(still, self._numbers))

    def go_home(self) -> None:
        """The robot's own `reset`.

        What was measured and held before is forgotten first: whoever holds the arm afterwards, or stops it on the way, must not bring it back there.
        """
        self._raw = {}
        self._numbers = {}
        self._last = {}
        self._stillness.forget()
        self.robot.reset()  # only robots that have it get here
        self.read()
        self._stillness.rests()

    def report(self) -> Mapping[str, float | int | str]:
        steps = max(self._steps, 1)
        facts: dict[str, float | int | str] = {"own_ms": 1000 * self._timing.own_s / steps, "clamps": sum(self.limiter.clamped.values())}
        if self._pace is not None:
            facts |= {"late_ticks": self._pace.late_ticks, "worst_lateness_s": self._pace.worst_lateness_s}
        return facts

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self._try_to_hold(leaving=True)
        finally:
            leave(self._device)

    @contextmanager
    def _held_after_faults(self) -> Iterator[None]:
        """Whatever goes wrong, the arm is told to keep still before anything else happens."""
        try:
            yield
        except WorldError:
            self._try_to_hold()
            raise

    def _try_to_hold(self, leaving: bool = False) -> None:
        """Hold; that this fails too must not hide what went wrong before, and is said once for each reason."""
        try:
            try:
                if not self._raw:  # stopped on its way home
                    self.read()
            finally:
                self.hold(leaving=leaving)
        except Exception as error:
            if str(error) != self._not_held:
                logging.warning(f"{self.robot.name} could not be told to hold still: {error}")
            self._not_held = str(error)

    def _step(self, action: Mapping[str, float]) -> StepResult:
        started, robot_s = time.perf_counter(), self._timing.robot_s
        executed = self.send(action)
        if self._show is not None:
            self._show(self._raw, self._last)
        slept = time.perf_counter()
        if self._pace is not None:
            self._pace.wait()
        slept_s = time.perf_counter() - slept
        self.read()
        self._steps += 1
        verdict = self._judge()
        truncated = verdict is None and self._steps >= self._limit
        result = StepResult(
            observation=self.io.observation(self._raw, self._numbers),
            executed=executed,
            reward=float(verdict is not None and verdict.success),
            terminated=verdict is not None,
            truncated=truncated,
            decided_by=verdict.decided_by if verdict else Decider.TIME_LIMIT if truncated else Decider.NOBODY,
        )
        self._timing.own_s += time.perf_counter() - started - slept_s - (self._timing.robot_s - robot_s)
        return result

    def _judge(self) -> Verdict | None:
        for judge in self._judges:
            verdict = judge.judge(self._raw)
            if verdict is not None:
                return verdict
        return None
