"""The frames before the newest, for base policies that look at several: at an episode's start the first frame is repeated, as LeRobot does."""

from collections import deque
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ..replay.lazy_frames import Frames


class History:
    """The last frames of an episode that goes on.

    Args:
        n_obs_steps: frames of an observation.
        keys: that an observation needs.
    """

    def __init__(self, n_obs_steps: int, keys: Iterable[str]) -> None:
        self._keys = list(keys)
        self._frames: deque[Mapping[str, Tensor]] = deque(maxlen=n_obs_steps)

    def reset(self) -> None:
        """An episode begins."""
        self._frames.clear()

    def add(self, frame: Mapping[str, Tensor]) -> None:
        """The newest frame, key -> ``(B, ...)``; to be called in every control step."""
        self._frames.append({key: frame[key] for key in self._keys})

    def observation(self) -> Mapping[str, Tensor]:
        """What a plan needs: the newest frame, or key -> ``(B, n_obs_steps, ...)``."""
        newest, most = self._frames[-1], self._frames.maxlen
        if most == 1:
            return newest
        frames = [self._frames[0]] * ((most or 0) - len(self._frames)) + list(self._frames)
        return {key: torch.stack([frame[key] for frame in frames], dim=1) for key in newest}


def recorded(observation: Mapping[str, Frames], start: int, stop: int, n_obs_steps: int) -> dict[str, Tensor]:
    """What plans for the frames ``start <= t < stop`` of a recorded episode need, as :meth:`History.observation`.

    Args:
        observation: of the episode, key -> ``(T, ...)``.
    """
    first = max(0, start + 1 - n_obs_steps)
    pieces = {key: value[first:stop] for key, value in observation.items()}
    if n_obs_steps == 1:
        return pieces
    index = (torch.arange(start, stop).unsqueeze(-1) + torch.arange(1 - n_obs_steps, 1)).clamp_min(0) - first
    return {key: value[index] for key, value in pieces.items()}
