"""Runs episodes: asks for a chunk, executes it open loop, records what was executed."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..replay.recording import Recording
from .world import Observation, World

CHOICES = ("share_base", "share_mean", "share_sample")


@dataclass(frozen=True, eq=False)
class Chunk:
    """What to do next.

    Attributes:
        actions: ``(h, D)`` float32, raw.
        choice: 0 ACT's own chunk, 1 the mean edit, 2 a sampled edit.
        edit_rms: size of the edit, in action units.
    """

    actions: np.ndarray
    choice: int
    edit_rms: float


Act = Callable[[Observation], Chunk]


class Session:
    """One world, one way to act.

    Args:
        world: where to act.
        act: observation -> chunk; called when the last chunk is used up.
        begin_episode: called before each episode (new weights, a new decision how to explore).
    """

    def __init__(self, world: World, act: Act, begin_episode: Callable[[], None] = lambda: None) -> None:
        self._world, self._act, self._begin_episode = world, act, begin_episode

    def run_episode(self) -> Recording:
        """One episode, from reset to its end."""
        self._begin_episode()
        observation = self._world.reset()
        observations: list[Observation] = []
        actions, rewards = [], []
        chunks: list[Chunk] = []
        queue: deque[np.ndarray] = deque()
        while True:
            if not queue:
                chunks.append(self._act(observation))
                queue.extend(chunks[-1].actions)
            result = self._world.step(queue.popleft())
            observations.append(observation)
            actions.append(result.executed)
            rewards.append(result.reward)
            observation = result.observation
            if result.terminated or result.truncated:
                break
        return Recording(
            observation=_stack(observations),
            action=torch.from_numpy(np.stack(actions)),
            reward=torch.tensor(rewards, dtype=torch.float32),
            intervention=torch.zeros(len(actions), dtype=torch.bool),
            terminated=result.terminated,
            truncated=result.truncated,
            task=self._world.task,
            info=_summary(chunks),
        )


def _stack(observations: list[Observation]) -> dict[str, Tensor]:
    return {key: torch.stack([observation[key] for observation in observations]) for key in observations[0]}


def _summary(chunks: list[Chunk]) -> dict[str, float | int | str]:
    counts = Counter(chunk.choice for chunk in chunks)
    shares: dict[str, float | int | str] = {name: counts[index] / len(chunks) for index, name in enumerate(CHOICES)}
    shares["edit_rms"] = float(np.mean([chunk.edit_rms for chunk in chunks]))
    return shares
