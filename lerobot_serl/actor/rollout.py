"""Runs episodes: asks for a chunk, executes it open loop, lets a person take over, records what was executed."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..finite import not_finite
from ..replay.episode import ACTED_AS, DECIDED_BY, SAID_SUCCESS, Decider, Episode
from ..replay.frame_columns import NO_PLAN
from .chunk import Chunk, Step
from .controls import FAILURE, QUIT, REDO, SUCCESS, Controls
from .film import Film
from .takeover import Takeover
from .world import EpisodeSpoilt, Observation, StepResult, World

CHOICES = ("share_base", "share_mean", "share_sample")


Act = Callable[[Observation], Chunk | None]
"""None: there is no plan yet, and the robot holds for a step."""


class Rollout:
    """One world, one way to act, perhaps a person.

    Args:
        world: where to act.
        act: observation -> chunk; called when the last chunk is used up, and after a takeover.
        see: told each observation, before ``act``; for policies that look at several frames.
        report: what the policy has to say of an episode at its end.
        begin_episode: called before each episode (new weights, a new decision whether to explore).
        controls: what the person asks for with keys or buttons.
        takeover: of a person with a teleoperator.
        veto_s: time for the key f after a reward model's success.
        tick: told after each step how many there were, and whether a person moved the robot.
        film: begins a film for the images of each episode; None: they stay as they are, in memory.
    """

    def __init__(
        self,
        world: World,
        act: Act,
        begin_episode: Callable[[], None] = lambda: None,
        controls: Controls | None = None,
        takeover: Takeover | None = None,
        veto_s: float = 0.0,
        tick: Callable[[int, bool], None] = lambda steps, intervening: None,
        film: Callable[[], Film | None] = lambda: None,
        see: Callable[[Observation], None] = lambda observation: None,
        report: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._world = world
        self._act = act
        self._begin_episode = begin_episode
        self._controls = controls or Controls()
        self._takeover = takeover
        self._veto_s = veto_s
        self._tick = tick
        self._film = film
        self._see = see
        self._report = report
        self._not_held = ""

    def run_episode(self) -> Episode | None:
        """One episode, from reset to its end; None if the person discards it, or wants to stop before it begins.

        Raises:
            EpisodeSpoilt: it must not be learnt from; another one may be tried.
            WorldError: the world can not go on.
        """
        self._begin_episode()
        observation = self._world.reset()
        self._check_finite(observation)
        self._controls.forget()
        if self._controls.asked(QUIT):  # pressed during the reset
            self._world.hold()
            return None
        if self._takeover is not None:
            self._takeover.begin()
        frames = _Frames(self._film())
        queue: deque[Step] = deque()
        while True:
            self._see(observation)
            wanted = self._takeover.poll(self._world.measured) if self._takeover is not None else None
            intervention = wanted is not None and not (self._takeover is not None and self._takeover.waits)
            step: Step | None = None
            if wanted is not None:
                queue.clear()  # what the policy had planned is out of date
                result = self._world.step_intervention(wanted)
            else:
                if not queue and (chunk := self._act(observation)) is not None:
                    frames.chunks.append(chunk)
                    queue.extend(chunk.steps())
                step = queue.popleft() if queue else None
                result = self._world.stay() if step is None else self._world.step(step.action)
                frames.held_steps += step is None
            self._check_finite(result.observation, result)
            result = self._with_verdict_of_person(result)
            try:
                frames.add(observation, result, intervention, step)
            except EpisodeSpoilt:
                self._hold()
                raise
            self._tick(len(frames), wanted is not None)
            observation = result.observation
            if self._controls.take(REDO):
                logging.info("Episode discarded.")
                self._world.hold()
                return None
            if result.terminated or result.truncated:
                self._hold()
                break
        takeovers = self._takeover.count if self._takeover is not None else 0
        return frames.episode(self._confirmed(result), {**self._world.report(), **self._report(), "takeovers": takeovers}, self._world.task)

    def _hold(self) -> None:
        """After an episode that is complete: a fault now does not spoil it, and one that stays is met by the next reset."""
        try:
            self._world.hold()
        except EpisodeSpoilt as error:
            if str(error) != self._not_held:
                logging.warning(f"{error} The episode is kept.")
            self._not_held = str(error)

    def _check_finite(self, observation: Observation, result: StepResult | None = None) -> None:
        """What is not finite is neither acted on nor learnt from, whatever world it comes from."""
        what = {} if result is None else {"action": result.executed, "reward": float(result.reward)}
        if (bad := not_finite({**observation, **what})) is not None:
            self._world.hold()
            raise EpisodeSpoilt(f"'{bad}' has a number that is not finite. Check the sensor, or the simulation.")

    def _with_verdict_of_person(self, result: StepResult) -> StepResult:
        request = self._controls.take(SUCCESS, FAILURE)
        if request is None:
            return result
        return replace(result, reward=float(request == SUCCESS), terminated=True, truncated=False, decided_by=Decider.PERSON, success=None)

    def _confirmed(self, result: StepResult) -> StepResult:
        """The person may object to a reward model's success while the arm holds."""
        if not self._veto_s or result.decided_by is not Decider.REWARD_MODEL or not result.reward:
            return result
        logging.info(f"The reward model says success; press f within {self._veto_s:.0f} s to object.")
        until = time.monotonic() + self._veto_s
        while time.monotonic() < until:
            self._hold()
            if self._controls.take(FAILURE):
                logging.info("Counted as a failure.")
                return replace(result, reward=0.0, decided_by=Decider.PERSON)
            time.sleep(0.02)
        return result


class _Frames:
    """What an episode has seen so far."""

    def __init__(self, film: Film | None) -> None:
        self._film = film
        self._observations: list[Observation] = []
        self._actions: list[np.ndarray] = []
        self._rewards: list[float] = []
        self._interventions: list[bool] = []
        self._planned: list[np.ndarray] = []
        self._ages: list[int] = []
        self.chunks: list[Chunk] = []
        self.held_steps = 0

    def __len__(self) -> int:
        return len(self._actions)

    def add(self, observation: Observation, result: StepResult, intervention: bool, step: Step | None) -> None:
        images = {}
        if self._film is not None:
            images = {key: value for key, value in observation.items() if value.dtype == torch.uint8}
            self._film.add(images)
        self._observations.append({key: value for key, value in observation.items() if key not in images})
        self._actions.append(result.executed)
        self._rewards.append(result.reward)
        self._interventions.append(intervention)
        self._planned.append(result.executed if step is None else step.planned)
        self._ages.append(NO_PLAN if step is None else step.age)

    def episode(self, end: StepResult, facts: Mapping[str, float | int | str], task: str) -> Episode:
        info = {**_summary(self.chunks), **facts, DECIDED_BY: end.decided_by.value}
        if self.held_steps:
            info["held_steps"] = self.held_steps
        if end.success is not None:
            info[SAID_SUCCESS] = int(end.success)
        return Episode(
            observation={**_stack(self._observations), **(self._film.finish() if self._film is not None else {})},
            action=torch.from_numpy(np.stack(self._actions)),
            reward=torch.tensor([*self._rewards[:-1], end.reward], dtype=torch.float32),
            intervention=torch.tensor(self._interventions, dtype=torch.bool),
            terminated=end.terminated,
            truncated=end.truncated,
            task=task,
            info=info,
            plan_action=torch.from_numpy(np.stack(self._planned)),
            plan_age=torch.tensor(self._ages, dtype=torch.int64),
        )


def _stack(observations: list[Observation]) -> dict[str, Tensor]:
    return {key: torch.stack([observation[key] for observation in observations]) for key in observations[0]}


def _summary(chunks: list[Chunk]) -> dict[str, float | int | str]:
    """Nothing, when a person moved the robot from beginning to end."""
    if not chunks:
        return {}
    counts = Counter(chunk.choice for chunk in chunks)
    shares: dict[str, float | int | str] = {name: counts[index] / len(chunks) for index, name in enumerate(CHOICES)}
    shares["edit_rms"] = float(np.mean([chunk.edit_rms for chunk in chunks]))
    shares[ACTED_AS] = chunks[0].acted_as.value
    return shares
