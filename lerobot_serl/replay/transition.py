"""What reinforcement learning reads: recorded episodes, and batches of windows drawn from them."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from .lazy_frames import Frames


@dataclass(frozen=True, eq=False)
class Episode:
    """One recorded episode of ``T`` frames: frame ``t`` is observation, the action executed there, and what followed.

    Three facts about the end, never mixed: ``terminated`` (a success or failure state was reached after the last action: nothing
    follows, do not bootstrap); ``truncated`` (the time limit was reached: bootstrap from the last observation); neither (the data end
    here, for example where a person took over: also bootstrap from the last observation).

    Attributes:
        columns: name -> ``(T, ...)`` tensors, or encoded images, each frame stored once.
        action: ``(T, D)`` float32, in action units.
        reward: ``(T,)`` float32, following each action.
        intervention: ``(T,)`` bool, the action was a person's.
        terminated, truncated: of the last frame.
    """

    columns: Mapping[str, Frames]
    action: Tensor
    reward: Tensor
    intervention: Tensor
    terminated: bool
    truncated: bool

    def __post_init__(self) -> None:
        lengths = {name: len(value) for name, value in self._tensors().items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"All tensors of an episode need the same number of frames, got {lengths}.")
        if self.terminated and self.truncated:
            raise ValueError("An episode is terminated or truncated, not both.")
        if self.steps < 1:
            raise ValueError(f"An episode needs at least one transition, got {len(self)} frames (terminated={self.terminated}).")

    def __len__(self) -> int:
        return len(self.action)

    @property
    def steps(self) -> int:
        """Usable transitions: the last frame of an episode that did not terminate serves as the observation to bootstrap from."""
        return len(self) if self.terminated else len(self) - 1

    @property
    def is_finite(self) -> bool:
        """Whether no number is NaN or infinite."""
        return all(
            bool(value.isfinite().all()) for value in self._tensors().values() if isinstance(value, Tensor) and value.is_floating_point()
        )

    @property
    def success(self) -> bool:
        """Reached a rewarded termination."""
        return self.terminated and bool(self.reward[-1] > 0)

    def _tensors(self) -> dict[str, Frames]:
        return {**self.columns, "action": self.action, "reward": self.reward, "intervention": self.intervention}

    def slice(self, start: int, stop: int, terminated: bool | None = None) -> "Episode":
        """Frames ``start <= t < stop``; the ends are kept only if the last frame is included ("the data end here" otherwise).

        ``terminated`` says otherwise whether the slice's last frame ends it.
        """
        last = stop == len(self)
        return replace(
            self,
            columns={name: value.narrow(0, start, stop - start) for name, value in self.columns.items()},
            action=self.action[start:stop],
            reward=self.reward[start:stop],
            intervention=self.intervention[start:stop],
            terminated=self.terminated and last if terminated is None else terminated,
            truncated=self.truncated and last and not terminated,
        )


def intervened_segments(episode: Episode) -> list[Episode]:
    """The runs of frames in which a person acted, each with one more frame to bootstrap from where the episode goes on."""
    return [
        episode.slice(start, stop + 1, terminated=False) if stop < len(episode) else episode.slice(start, stop)
        for start, stop in _runs(episode.intervention.tolist(), wanted=True)
        if _has_a_transition(episode, start, stop)
    ]


def policy_segments(episode: Episode) -> list[Episode]:
    """The runs of frames in which the policy acted; one that a takeover ended is a failure: terminated, without a reward of its own.

    RLIF's idea (Luo et al. 2024, arXiv 2311.12996): that a person stepped in says that the policy did badly. Without it, a state from
    which a person always rescues the policy looks as good as success (measured: docs/benchmarks.md).
    """
    return [
        episode.slice(start, stop, terminated=True if stop < len(episode) else None)
        for start, stop in _runs(episode.intervention.tolist(), wanted=False)
        if _has_a_transition(episode, start, stop)
    ]


def _runs(flags: list[bool], wanted: bool) -> list[tuple[int, int]]:
    """Start and end (exclusive) of the stretches in which the flags are as wanted."""
    ends = [0, *(i for i in range(1, len(flags)) if flags[i] != flags[i - 1]), len(flags)]
    return [(start, stop) for start, stop in itertools.pairwise(ends) if flags[start] == wanted]


def _has_a_transition(episode: Episode, start: int, stop: int) -> bool:
    """Not a single frame at the very end that only serves as the observation to bootstrap from."""
    return stop - start >= 2 or stop < len(episode) or episode.terminated


@dataclass(frozen=True, eq=False)
class Batch:
    """``B`` windows of up to ``n`` steps, the first ``h`` of which are a chunk.

    Attributes:
        features, next_features: ``(B, F)`` at the window's start and after its last step, where the value that follows is asked for.
        base, next_base: ``(B, h, D)`` reference chunks there, in action units.
        chunk: ``(B, h, D)`` executed actions; steps beyond the window's length hold the reference chunk's.
        reward: ``(B,)`` discounted reward inside the window.
        discount: ``(B,)`` ``gamma^K``, 0 where the episode terminated inside the window.
        length: ``(B,)`` int64, ``K``, at most ``n``.
        by_person: ``(B, h)`` bool, a person executed this step; false beyond the window's length.
        is_demo: ``(B,)`` bool, drawn from the demonstrations' memory.
        images, next_images: camera key -> ``(B, C, H, W)`` uint8 where features are; empty unless the critics have eyes of their own.
        index: ``(B,)`` int64, number of the window's first transition in the memory that ``is_demo`` names; it never changes there.
        weight: ``(B,)`` of each window's error in the critics' loss; None: all count the same.
        previous: ``(B, D)`` action that was executed before the window; its own first one where an episode begins. None: nobody asks.
    """

    features: Tensor
    base: Tensor
    chunk: Tensor
    reward: Tensor
    discount: Tensor
    next_features: Tensor
    next_base: Tensor
    length: Tensor
    by_person: Tensor
    is_demo: Tensor
    images: Mapping[str, Tensor] = field(default_factory=dict)
    next_images: Mapping[str, Tensor] = field(default_factory=dict)
    index: Tensor | None = None
    weight: Tensor | None = None
    previous: Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device, or itself."""
        if self.reward.device == torch.device(device):
            return self
        return Batch(**{item.name: _map(lambda value: value.to(device), getattr(self, item.name)) for item in fields(self)})

    @staticmethod
    def concatenate(batches: list["Batch"]) -> "Batch":
        """Join batches along ``B``."""
        return Batch(**{item.name: _join([getattr(batch, item.name) for batch in batches]) for item in fields(Batch)})


def _map(function: Callable[[Tensor], Tensor], value: Tensor | Mapping[str, Tensor] | None) -> Any:
    if isinstance(value, Mapping):
        return {key: function(entry) for key, entry in value.items()}
    return None if value is None else function(value)


def _join(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Mapping):
        return {key: torch.cat([value[key] for value in values]) for key in first}
    return None if first is None else torch.cat(values)
