"""What learning needs of each frame and never changes is computed once, a few frames at a time: no gradient step waits long for it."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..base.history import recorded
from ..base.planner import ensembled
from ..base.timeline import Timeline, drawn_ages
from ..policy.agent import Agent
from ..policy.look_time import blank_frame
from ..replay.episode import Episode, policy_input
from ..replay.lazy_frames import Frames
from ..replay.memory import BASE, FEATURES, SPAN, ReplayMemory
from ..replay.picture_size import reduced_frames

# What one slice of the work should take. A gradient step waits for one slice at most; a single frame of a large ACT may take longer.
SLICE_S = 0.01
# Frames that ACT sees at once, where their images do not limit it sooner.
BATCH_FRAMES = 64
# ACT's backbone needs some hundred times as much.
LARGEST_BATCH_BYTES = 16 * 1024 * 1024
# Action units, in which the box is 2 wide: what a plan may differ by that was made on another machine.
SAME_PLAN = 0.02


class FeatureCache:
    """Features and the base policy's chunks for the frames of one episode, computed a few frames at a time.

    Where plans outlive a decision, the recorded ones count. The base policy plans only for frames without one, and for what was not carried out any
    more. Episodes without recorded plans, as demonstrations, get them as the base policy would have made them.

    Args:
        agent: whose base policy sees the frames.
        episode: as it was recorded.
        number: of the episode; it decides where plans begin that are not recorded.
    """

    def __init__(self, agent: Agent, episode: Episode, number: int = 0) -> None:
        self._episode = episode
        self._agent = agent
        self._device = next(agent.parameters()).device
        self._number = number
        image_bytes = sum(math.prod(value.shape[1:]) for value in episode.observation.values() if value.dtype == torch.uint8)
        self._most_frames = max(1, LARGEST_BATCH_BYTES // max(1, image_bytes))
        self._planned = self._in_action_units(episode.plan_action)
        self._begin(is_recorded=bool((episode.plan_age >= 0).any()))

    def _begin(self, is_recorded: bool) -> None:
        execution = self._agent.execution
        ages = self._episode.plan_age if is_recorded else drawn_ages(len(self._episode), execution.n_action_steps, self._number)
        self._is_recorded, self._timeline = is_recorded, Timeline.of(ages, execution, is_recorded)
        self._starts = self._timeline.starts()
        self._plans: list[Tensor] = []
        self._features: list[Tensor] = []
        self._n_planned = self._n_frames = 0

    @property
    def n_left(self) -> int:
        """Frames that the base policy has not seen yet, and with open plans, those without features."""
        plans = len(self._starts) - self._n_planned
        return plans + (len(self._episode) - self._n_frames if self._agent.execution.is_apart else 0)

    def advance(self, n_frames: int) -> None:
        """Encode the next frames, at most so many, and no more than `LARGEST_BATCH_BYTES` of images."""
        n_frames = min(n_frames, self._most_frames)
        if self._n_planned < len(self._starts):
            self._plan(self._starts[self._n_planned : self._n_planned + n_frames])
            if self._n_planned == len(self._starts) and not self._is_of_this_base():
                self._begin(is_recorded=False)
        elif self._n_frames < len(self._episode):
            self._encode(self._n_frames, min(self._n_frames + n_frames, len(self._episode)))

    def episode(self) -> Episode:
        """The episode with all that learning reads of it, its action in action units too; all frames have been seen."""
        agent, timeline, plans = self._agent, self._timeline, torch.cat(self._plans) if self._plans else self._planned.unsqueeze(1)
        coeff = agent.execution.temporal_ensemble_coeff
        if coeff is not None and not self._is_recorded:
            plans = ensembled(plans, coeff)
        base = timeline.slices(self._starts, plans, self._planned)
        spans = {SPAN: timeline.span} if agent.execution.is_open else {}
        images: dict[str, Frames] = {
            key: reduced_frames(self._episode.observation[key], shape) for key, shape in agent.picture_shapes.items()
        }
        action = self._in_action_units(self._episode.action)
        cached = {FEATURES: torch.cat(self._features), BASE: base, "action": action, **spans, **images}
        return replace(self._episode, cached=cached)

    def _plan(self, frames: Tensor) -> None:
        """The base policy's plans for these frames; where no plan outlives a decision, the features come with them."""
        agent = self._agent
        pieces = [recorded(self._episode.observation, first, last + 1, agent.act.n_obs_steps) for first, last in _runs(frames.tolist())]
        observation = self._input({key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]})
        plan = agent.plan(observation)
        self._plans.append(plan.actions.cpu())
        self._n_planned += len(frames)
        if not agent.execution.is_apart:
            self._features.append(agent.frozen_features(observation, plan.features).cpu())

    def _encode(self, start: int, stop: int) -> None:
        """Features of what is seen while plans are carried out."""
        features, observation = self._agent.features, self._episode.observation
        keys = observation if features.pooled_sizes else features.state_keys or list(observation)[:1]
        seen = self._input({key: observation[key][start:stop] for key in keys})
        pooled = self._agent.act.pooled(seen) if features.pooled_sizes else next(iter(seen.values())).new_zeros(stop - start, 0)
        self._features.append(features(seen, pooled, self._timeline.age[start:stop].to(self._device)).cpu())
        self._n_frames = stop

    def _is_of_this_base(self) -> bool:
        """Whether the first recorded plan is what the base policy plans there; it is not, when the dataset goes on with another base policy."""
        recorded_frames = self._timeline.carried_out[:, 0].nonzero()
        if not len(recorded_frames):
            return True
        frame = int(recorded_frames[0])
        row, age = int(torch.searchsorted(self._starts, self._timeline.start[frame])), int(self._timeline.age[frame])
        difference = torch.cat(self._plans)[row, age] - self._planned[frame]
        return bool(difference.abs().max() <= SAME_PLAN)

    def _input(self, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return policy_input({key: value.to(self._device) for key, value in observation.items()})

    def _in_action_units(self, action: Tensor) -> Tensor:
        return self._agent.box.normalize(action.to(self._device)).clamp(-1.0, 1.0).cpu()


def cache_features(agent: Agent, episode: Episode, batch_size: int = BATCH_FRAMES, number: int = 0) -> Episode:
    """The whole of it at once, ``batch_size`` frames in a batch; other arguments as :class:`FeatureCache`."""
    cache = FeatureCache(agent, episode, number)
    while cache.n_left:
        cache.advance(batch_size)
    return cache.episode()


def frame_bytes(agent: Agent) -> int:
    """Bytes of one frame in a replay memory: of an episode of zeros, so that nothing has to be decoded."""
    frame, n_frames = blank_frame(agent.config.input_features or {}, 1), 2
    observation = {key: torch.zeros((n_frames, *value.shape), dtype=value.dtype) for key, value in frame.items()}
    action, zeros = torch.zeros(n_frames, agent.action_dim), torch.zeros(n_frames)
    memory = ReplayMemory(n_frames, agent.horizon, discount=0.5)
    memory.add(cache_features(agent, Episode(observation, action, zeros, zeros.bool(), terminated=False, truncated=True), n_frames))
    return memory.bytes_per_frame


def _runs(frames: list[int]) -> list[tuple[int, int]]:
    """First and last of the stretches without a gap."""
    firsts = [frame for index, frame in enumerate(frames) if not index or frame != frames[index - 1] + 1]
    lasts = [frame for index, frame in enumerate(frames) if index + 1 == len(frames) or frames[index + 1] != frame + 1]
    return list(zip(firsts, lasts, strict=True))


class FeatureCacheWorker:
    """Caches the features of one episode after the other, in slices of about :data:`SLICE_S`.

    Args:
        agent: see :class:`FeatureCache`.
        batch_size: most frames of a slice.
        slice_s: what one should take. Without a limit slices do not depend on the clock, and the same seed gives the same run (ACT's output differs
            in the last digits between batches of different sizes).

    Attributes:
        number: of the next episode, see :class:`FeatureCache`.
    """

    def __init__(self, agent: Agent, batch_size: int = BATCH_FRAMES, slice_s: float = SLICE_S) -> None:
        self._agent = agent
        self._batch_size = batch_size
        self.slice_s = slice_s
        self._cache: FeatureCache | None = None
        self._slice = 1 if slice_s < math.inf else batch_size
        self.number = 0

    @property
    def is_idle(self) -> bool:
        """Whether there is no episode in work."""
        return self._cache is None

    def begin(self, episode: Episode) -> None:
        """Take the next episode; :attr:`is_idle` before."""
        self._cache = FeatureCache(self._agent, episode, self.number)
        self.number += 1

    def forget(self) -> None:
        """Give the episode in work up."""
        self._cache = None

    def advance(self) -> Episode | None:
        """Do one slice of the work; returns the episode, complete, with the last one."""
        cache = self._cache
        if cache is None:
            return None
        n_frames = min(self._slice, cache.n_left)
        started_s = time.perf_counter()
        cache.advance(n_frames)
        per_frame_s = max(time.perf_counter() - started_s, 1e-6) / n_frames
        # At most doubled: the first slices of a run are slow, and a slice of one frame says little about one of many.
        self._slice = max(1, int(min(self.slice_s / per_frame_s, 2 * self._slice, self._batch_size)))
        if cache.n_left:
            return None
        self._cache = None
        return cache.episode()
