"""Episode after episode, with what the person beside it sees and hears; one that must not be used is tried again."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from ..lerobot_names import log_say
from ..replay.episode import ActedAs, Decider, Episode
from .controls import QUIT
from .dropped import DroppedEpisodes
from .live_line import LiveLine
from .rollout import Act, Rollout
from .workplace import Workplace
from .world import EpisodeSpoilt

RECENT_EPISODES = 50


class Attempts:
    """The episodes of one process.

    Args:
        place: prepared.
        fps: of the control loop, to show steps as seconds.

    Attributes:
        done: episodes so far.
    """

    def __init__(self, place: Workplace, fps: int) -> None:
        self._place, self._live = place, LiveLine(1.0 / fps)
        self._recent: deque[bool] = deque(maxlen=RECENT_EPISODES)
        assert place.world is not None
        self._dropped = DroppedEpisodes(place.world, lambda: not self.goes_on)
        self.done = 0

    def rollout(self, act: Act, **hooks: Any) -> Rollout:
        """One world, one way to act, and this workplace's person; ``hooks`` as :class:`Rollout` takes them."""
        place = self._place
        assert place.world is not None
        return Rollout(
            place.world, act, controls=place.controls, takeover=place.takeover, veto_s=place.settings.robot.reward.veto_s, **hooks
        )

    def tick(self, steps: int, mover: ActedAs | None) -> None:
        """After each step: who moved the arm; None: a person did."""
        self._live.tick(self.done + 1, steps, mover, self.share)

    @property
    def goes_on(self) -> bool:
        """Whether nobody has asked to stop."""
        return not self._place.controls.asked(QUIT)

    def run(self, rollout: Rollout) -> Episode | None:
        """The next episode; None if the person discarded it, or it was dropped.

        Raises:
            WorldError: the world can not go on, or three episodes in a row were dropped.
        """
        if self._place.settings.play_sounds:
            log_say(f"Episode {self.done + 1}", play_sounds=True)
        try:
            episode = rollout.run_episode()
        except EpisodeSpoilt as error:
            self._live.clear()
            self._dropped.add(error)
            return None
        self._live.clear()
        self._dropped.forget()
        if episode is None or (len(episode) == 1 and not episode.terminated):
            return None  # discarded, or holds no transition
        self.done += 1
        self._recent.append(episode.success_alone)
        return episode

    @property
    def share(self) -> str:
        """Success of the last episodes, in words; empty before the first."""
        recent = self._recent
        return f"last {len(recent)}: {100 * sum(recent) / len(recent):.0f} % success without help" if recent else ""


def describe(episode: Episode) -> str:
    """An episode in a few words."""
    outcome = "success" if episode.success else "time limit" if episode.truncated else "failure"
    said: Mapping[str, Any] = episode.info
    judge = "" if episode.decided_by in (Decider.TIME_LIMIT, Decider.NOBODY) else f" ({episode.decided_by.value})"
    parts = [f"{outcome}{judge} after {len(episode)} steps"]
    if episode.acted_as is not ActedAs.EXPLORING:
        parts.append("ACT alone" if episode.acted_as is ActedAs.ACT else "as deployed")
    if n_interventions := int(episode.intervention.sum()):
        parts.append(f"{n_interventions} steps by hand")
    if late := said.get("late_ticks"):
        parts.append(f"{late} late ticks, worst {1000 * float(said['worst_lateness_s']):.0f} ms")
    if held := said.get("held_steps"):
        parts.append(f"{held} steps without a plan")
    if refused := said.get("refused_plans"):
        parts.append(f"{refused} plans refused")
    if clamps := said.get("clamps"):
        parts.append(f"{clamps} targets at a limit")
    return ", ".join(parts)
