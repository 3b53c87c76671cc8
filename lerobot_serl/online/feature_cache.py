"""What learning needs of each frame and never changes is computed once, a few frames at a time: no gradient step waits long for it."""

import math
import time
from dataclasses import replace

import torch
from torch import Tensor

from ..base.history import recorded
from ..policy.agent import Agent
from ..replay.episode import Episode, policy_input
from ..replay.memory import BASE, FEATURES

# What one slice of the work should take. A gradient step waits for one slice at most; a single frame of a large ACT may take longer.
SLICE_S = 0.01
# ACT's backbone needs some hundred times as much.
LARGEST_BATCH_BYTES = 16 * 1024 * 1024


class FeatureCache:
    """Features and the base policy's chunks for the frames of one episode, computed a few frames at a time.

    Args:
        agent: whose base policy sees the frames.
        episode: as it was recorded.
    """

    def __init__(self, agent: Agent, episode: Episode) -> None:
        self._episode, self._agent, self._device = episode, agent, next(agent.parameters()).device
        self._features: list[Tensor] = []
        self._bases: list[Tensor] = []
        self._n_frames = 0
        image_bytes = sum(math.prod(value.shape[1:]) for value in episode.observation.values() if value.dtype == torch.uint8)
        self._most_frames = max(1, LARGEST_BATCH_BYTES // max(1, image_bytes))

    @property
    def n_left(self) -> int:
        """Frames that the base policy has not seen yet."""
        return len(self._episode) - self._n_frames

    def advance(self, n_frames: int) -> None:
        """Encode the next frames, at most so many, and no more than `LARGEST_BATCH_BYTES` of images."""
        stop = self._n_frames + min(n_frames, self._most_frames, self.n_left)
        observation = recorded(self._episode.observation, self._n_frames, stop, self._agent.act.n_obs_steps)
        feature, base = self._agent.cache_features(policy_input({key: value.to(self._device) for key, value in observation.items()}))
        self._features.append(feature.cpu())
        self._bases.append(base.cpu())
        self._n_frames += len(feature)

    def episode(self) -> Episode:
        """The episode with all that learning reads of it, its action in action units too; all frames have been seen."""
        action = self._agent.box.normalize(self._episode.action.to(self._device)).clamp(-1.0, 1.0).cpu()
        images = {key: self._episode.observation[key] for key in self._agent.image_keys}
        cached = {FEATURES: torch.cat(self._features), BASE: torch.cat(self._bases), "action": action, **images}
        return replace(self._episode, cached=cached)


def cache_features(agent: Agent, episode: Episode, batch_size: int) -> Episode:
    """The whole of it at once, ``batch_size`` frames in a batch."""
    cache = FeatureCache(agent, episode)
    while cache.n_left:
        cache.advance(batch_size)
    return cache.episode()


class FeatureCacheWorker:
    """Caches the features of one episode after the other, in slices of about :data:`SLICE_S`.

    Args:
        agent: see :class:`FeatureCache`.
        batch_size: most frames of a slice.
        slice_s: what one should take. Without a limit slices do not depend on the clock, and the same seed gives the same run (ACT's output differs
            in the last digits between batches of different sizes).
    """

    def __init__(self, agent: Agent, batch_size: int, slice_s: float = SLICE_S) -> None:
        self._agent, self._batch_size, self.slice_s = agent, batch_size, slice_s
        self._cache: FeatureCache | None = None
        self._slice = 1 if slice_s < math.inf else batch_size

    @property
    def is_idle(self) -> bool:
        """Whether there is no episode in work."""
        return self._cache is None

    def begin(self, episode: Episode) -> None:
        """Take the next episode; :attr:`is_idle` before."""
        self._cache = FeatureCache(self._agent, episode)

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
