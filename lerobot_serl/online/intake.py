"""An episode on its way into the replay memory: ACT sees its frames, a few at a time, so that no gradient step waits long for it."""

import math
import time

import torch
from torch import Tensor

from ..policy.agent import Agent
from ..replay.memory import BASE, FEATURES
from ..replay.recording import Recording, policy_input
from ..replay.transition import Episode

# What one slice of the work should take. A gradient step waits for one slice at most; a single frame of a large ACT may take longer.
SLICE_S = 0.01
# ACT's backbone needs some hundred times as much.
LARGEST_BATCH_BYTES = 16 * 1024 * 1024


class Annotation:
    """Features and ACT's chunks for the frames of one recording.

    Args:
        agent: whose base policy sees the frames.
        recording: of raw observations and actions.
    """

    def __init__(self, agent: Agent, recording: Recording) -> None:
        self.recording = recording
        self._agent, self._device = agent, next(agent.parameters()).device
        self._features: list[Tensor] = []
        self._bases: list[Tensor] = []
        self._n_frames = 0
        image_bytes = sum(math.prod(value.shape[1:]) for value in recording.observation.values() if value.dtype == torch.uint8)
        self._most_frames = max(1, LARGEST_BATCH_BYTES // max(1, image_bytes))

    @property
    def n_left(self) -> int:
        """Frames that ACT has not seen yet."""
        return len(self.recording) - self._n_frames

    def advance(self, n_frames: int) -> None:
        """Show ACT the next frames, at most so many, and no more than `LARGEST_BATCH_BYTES` of images."""
        span = slice(self._n_frames, self._n_frames + min(n_frames, self._most_frames))
        feature, base = self._agent.annotate(
            policy_input({key: value[span].to(self._device) for key, value in self.recording.observation.items()})
        )
        self._features.append(feature.cpu())
        self._bases.append(base.cpu())
        self._n_frames += len(feature)

    def episode(self) -> Episode:
        """The recording in action units with what ACT makes of it; all frames have been seen."""
        recording = self.recording
        images = {key: recording.observation[key] for key in self._agent.image_keys}
        return Episode(
            columns={FEATURES: torch.cat(self._features), BASE: torch.cat(self._bases), **images},
            action=self._agent.box.normalize(recording.action.to(self._device)).clamp(-1.0, 1.0).cpu(),
            reward=recording.reward,
            intervention=recording.intervention,
            terminated=recording.terminated,
            truncated=recording.truncated,
        )


def annotate(agent: Agent, recording: Recording, batch_size: int) -> Episode:
    """The whole of it at once, ``batch_size`` frames in a batch."""
    annotation = Annotation(agent, recording)
    while annotation.n_left:
        annotation.advance(batch_size)
    return annotation.episode()


class Intake:
    """Annotates one recording after the other, in slices of about :data:`SLICE_S`.

    Args:
        agent: see :class:`Annotation`.
        batch_size: most frames of a slice.
        slice_s: what one should take. Without a limit slices do not depend on the clock, and the same seed gives the same run (ACT's output differs
            in the last digits between batches of different sizes).
    """

    def __init__(self, agent: Agent, batch_size: int, slice_s: float = SLICE_S) -> None:
        self._agent, self._batch_size, self.slice_s = agent, batch_size, slice_s
        self._annotation: Annotation | None = None
        self._slice = 1 if slice_s < math.inf else batch_size

    @property
    def is_idle(self) -> bool:
        """Whether there is no recording in work."""
        return self._annotation is None

    def begin(self, recording: Recording) -> None:
        """Take the next recording; :attr:`is_idle` before."""
        self._annotation = Annotation(self._agent, recording)

    def forget(self) -> None:
        """Give the recording in work up."""
        self._annotation = None

    def advance(self) -> tuple[Recording, Episode] | None:
        """Do one slice of the work; returns the recording and its episode with the last one."""
        annotation = self._annotation
        if annotation is None:
            return None
        n_frames = min(self._slice, annotation.n_left)
        started_s = time.perf_counter()
        annotation.advance(n_frames)
        per_frame_s = max(time.perf_counter() - started_s, 1e-6) / n_frames
        # At most doubled: the first slices of a run are slow, and a slice of one frame says little about one of many.
        self._slice = max(1, int(min(self.slice_s / per_frame_s, 2 * self._slice, self._batch_size)))
        if annotation.n_left:
            return None
        self._annotation = None
        return annotation.recording, annotation.episode()
