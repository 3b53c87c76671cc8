"""An episode cut where a person took over and gave back."""

import itertools

from .episode import Episode


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
