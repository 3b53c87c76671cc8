"""Watches success while the actor learns; an alarm, and the way back, when it falls far below what it was before."""

import json
import logging
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..policy.agent import Agent
from ..policy.parts import GuardConfig
from ..policy.progress import Phase, Progress
from ..replay.episode import Episode
from ..report.interval import wilson_interval
from .best_weights import Kept, check, keep, restore
from .evidence import BestPolicy, Candidate, Evidence, Tally, better

FILE = "success_watch.safetensors"
MIN_EPISODES = 10
# Episodes carried out as deployed that count for a copy of the weights, half of them before it was taken, half after. Half as many also raise the
# alarm, against ACT's own episodes. With fewer than 20 the intervals tell nothing apart; with many the evidence is of weights that are gone.
DEPLOYED_WINDOW = 40
LOOK_AT = (
    "If it happens again: look at the rewards and the cameras, and hold the policy closer to ACT with a smaller --policy.actor.edit_scale or a "
    "larger --policy.actor.anchor."
)


class SuccessWatch:
    """Counts episodes in which no person acted: one with help says nothing about the policy, neither good nor bad.

    Two windows raise the alarm: the last episodes of practice against those of the start-up, which shows a collapse soon, and the last
    episodes carried out as deployed against ACT's own, which shows what users would get.

    Args:
        settings: windows, margin, and whether to go back.
        agent: whose weights are copied and restored.
        progress: alarms and rollbacks are counted there.
    """

    def __init__(self, settings: GuardConfig, agent: Agent, progress: Progress) -> None:
        self._settings = settings
        self._agent = agent
        self._progress = progress
        self._startup = Tally()
        self._recent: deque[bool] = deque(maxlen=settings.window)
        self._start: Kept | None = None
        self._evidence = Evidence(DEPLOYED_WINDOW, agent, progress)

    @property
    def best_policy(self) -> BestPolicy:
        """Which weights the episodes as deployed favour."""
        return self._evidence.best_policy()

    def before_update(self) -> None:
        """Keep the weights with which the actor begins to learn: ACT's in a fresh run."""
        if self._start is None and self._progress.phase is Phase.ACTOR:
            self._start = keep(self._agent, self._progress.learnt_updates)
            self._evidence.copy()

    def episode(self, episode: Episode, phase: Phase) -> bool:
        """One finished episode, collected while ``phase`` was on; returns whether the weights were set back."""
        if bool(episode.intervention.any()):
            return False
        if phase is Phase.COLLECT:
            self._startup.add(episode.success)
        if phase is not Phase.ACTOR:
            self._evidence.episode(episode, learning=False)
            return False
        self.before_update()
        self._evidence.episode(episode, learning=True)
        self._recent.append(episode.success)
        evidence, deployed = self._evidence, Tally.of(self._evidence.recent)
        if len(self._recent) == self._settings.window and self._is_far_below(recent := Tally.of(self._recent), self._startup):
            return self._alarm(f"the start-up episodes'. Last episodes without help: {recent}; start-up: {self._startup}")
        if len(evidence.recent) == evidence.recent.maxlen and self._is_far_below(deployed, evidence.act):
            return self._alarm(f"ACT's. Last episodes as deployed: {deployed}; ACT: {evidence.act}")
        return False

    def save(self, directory: Path) -> None:
        """Write ``success_watch.safetensors``, for :meth:`load`."""
        evidence = self._evidence
        state: dict[str, Any] = {
            "startup": asdict(self._startup),
            "recent": [int(success) for success in self._recent],
            "act": asdict(evidence.act),
            "deployed": evidence.deployed,
            "recent_deployed": [int(success) for success in evidence.recent],
            "since_copy": evidence.since_copy,
            "open": len(evidence.open),
            "copies": {},
        }
        tensors: dict[str, Tensor] = {}
        for name, candidate in self._copies().items():
            before, after = asdict(candidate.before), asdict(candidate.after)
            state["copies"][name] = {"learnt_updates": candidate.kept.learnt_updates, "before": before, "after": after}
            tensors |= {f"{name}/{key}": value for key, value in candidate.kept.tensors.items()}
        save_file(tensors, directory / FILE, metadata={"state": json.dumps(state)})

    def load(self, directory: Path) -> None:
        """Go on where the checkpoint in ``directory`` stopped; without the file, as in older checkpoints, begin anew.

        Raises:
            ValueError: the file is damaged, of other networks, or of an earlier version.
        """
        path = directory / FILE
        if not path.is_file():
            return
        try:
            with safe_open(path, framework="pt") as file:
                state = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
            if "copies" not in state:
                logging.warning(f"{path} is of an earlier version, which did not tell episodes as deployed apart: counting begins anew.")
                return
            self._startup = Tally(**state["startup"])
            self._recent.extend(bool(success) for success in state["recent"])
            copies = {name: self._read_copy(name, said, tensors) for name, said in state["copies"].items()}
            self._start = copies["start"].kept if "start" in copies else None
            evidence = self._evidence
            evidence.act = Tally(**state["act"])
            evidence.since_copy = int(state["since_copy"])
            evidence.best = copies.get("best")
            evidence.deployed = int(state["deployed"])
            evidence.recent.extend(bool(success) for success in state["recent_deployed"])
            evidence.open = [copies[f"open{index}"] for index in range(state["open"])]
        except Exception as error:
            raise ValueError(f"{path} cannot be read ({error}). Go on from another checkpoint, or delete this file.") from error

    def _copies(self) -> dict[str, Candidate]:
        """Every copy that is held, by its name in the file."""
        evidence = self._evidence
        held = {f"open{index}": candidate for index, candidate in enumerate(evidence.open)}
        if self._start is not None:
            held["start"] = Candidate(self._start)
        if evidence.best is not None:
            held["best"] = evidence.best
        return held

    def _read_copy(self, name: str, said: dict[str, Any], tensors: dict[str, Tensor]) -> Candidate:
        own = {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
        check(self._agent, own)
        return Candidate(Kept(own, int(said["learnt_updates"])), Tally(**said["before"]), Tally(**said["after"]))

    def _is_far_below(self, window: Tally, before: Tally) -> bool:
        """Below by more than the margin, and even the upper end of the window's interval below the lower end of the other's."""
        if before.trials < MIN_EPISODES or window.rate >= before.rate - self._settings.margin:
            return False
        return wilson_interval(window.successes, window.trials)[1] < wilson_interval(before.successes, before.trials)[0]

    def _alarm(self, reason: str) -> bool:
        self._progress.alarms += 1
        assert self._start is not None
        best, candidate = Candidate(self._start, self._startup), self.best_policy.candidate
        if candidate is not None:
            best = better(best, candidate)
        way_back = self._roll_back(best) if self._settings.rollback else "The weights stay as they are (policy.guard.rollback=false). "
        logging.warning(f"ALARM: success has fallen far below {reason}. {way_back}{LOOK_AT}")
        # The next alarm needs a whole window of new episodes.
        self._recent.clear()
        self._evidence.forget_recent()
        return self._settings.rollback

    def _roll_back(self, best: Candidate) -> str:
        restore(self._agent, best.kept)
        progress = self._progress
        undone = progress.learnt_updates - best.kept.learnt_updates
        progress.undone_updates += undone
        progress.rollbacks += 1
        return (
            f"The weights are set back by {undone} updates, to those with the best evidence so far ({best.tally}). "
            "The data stay: learning goes on from there. "
        )
