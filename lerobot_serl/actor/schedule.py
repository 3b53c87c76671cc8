"""Which episodes of practice explore, which are carried out as the policy would be deployed, and which are ACT's."""

from collections import deque

from ..replay.episode import ActedAs, Episode

SHARE_BEFORE_LEARNING = 0.5
ACT_EVERY = 4
RECENT, ENOUGH, HIGH_SUCCESS = 20, 10, 0.9


class Schedule:
    """Evenly spread and without chance, so that a short practice has its share too; the first episode is no exploration.

    Before the actor learns every second episode is carried out as deployed: in a fresh run that is ACT, which is thereby measured.

    Args:
        share: ``policy.actor.deployed_share``.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._credit, self._deployed = 1.0 - SHARE_BEFORE_LEARNING, 0
        self._recent: deque[bool] = deque(maxlen=RECENT)

    def next(self, learning: bool) -> ActedAs:
        """What the next episode is.

        Args:
            learning: the actor has begun to learn.
        """
        self._credit += self._share_now(learning)
        if self._credit < 1.0:
            return ActedAs.EXPLORING
        self._credit -= 1.0
        self._deployed += 1
        return ActedAs.ACT if self._deployed % ACT_EVERY == 0 else ActedAs.DEPLOYED

    def finished(self, episode: Episode) -> None:
        """An episode is over; one with help says nothing about the policy."""
        if episode.acted_as is ActedAs.DEPLOYED and not bool(episode.intervention.any()):
            self._recent.append(episode.success)

    def _share_now(self, learning: bool) -> float:
        if not learning:
            return SHARE_BEFORE_LEARNING
        succeeds = len(self._recent) >= ENOUGH and sum(self._recent) >= HIGH_SUCCESS * len(self._recent)
        return min(1.0, 2 * self._share) if succeeds else self._share
