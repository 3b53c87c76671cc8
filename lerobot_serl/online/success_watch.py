"""Watches success while the actor learns; an alarm, and the way back, when it falls far below the start-up episodes'."""

import json
import logging
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..policy.agent import EditAgent
from ..policy.parts import GuardConfig
from ..replay.recording import Recording
from ..report.interval import wilson_interval
from .best_weights import Kept, check, keep, restore
from .progress import Phase, Progress

FILE = "success_watch.safetensors"
MIN_STARTUP_EPISODES = 10
LOOK_AT = (
    "If it happens again: look at the rewards and the cameras, and hold the policy closer to ACT with a smaller --policy.actor.edit_scale or a "
    "larger --policy.actor.anchor."
)


@dataclass
class Tally:
    """Successes among episodes without help."""

    successes: int = 0
    trials: int = 0

    @property
    def rate(self) -> float:
        return self.successes / self.trials if self.trials else 0.0

    def __str__(self) -> str:
        low, high = wilson_interval(self.successes, self.trials)
        return f"{self.successes} of {self.trials} ({100 * self.rate:.0f} %, 95 % interval {100 * low:.0f} to {100 * high:.0f} %)"


class SuccessWatch:
    """Counts episodes in which no person acted: one with help says nothing about the policy, neither good nor bad.

    Copies of the weights are taken every half window. A window's success is credited to the copy from its middle: half of the window's
    episodes ran on those weights or on what grew out of them, so that a copy taken just before a collapse is not taken for good. At most two
    copies are held, the best one and the one of the window in progress.

    Args:
        settings: window, margin, and whether to go back.
        agent: whose weights are copied and restored.
        progress: alarms and rollbacks are counted there.
    """

    def __init__(self, settings: GuardConfig, agent: EditAgent, progress: Progress) -> None:
        self._settings, self._agent, self._progress = settings, agent, progress
        self._startup = Tally()
        self._recent: deque[bool] = deque(maxlen=settings.window)
        self._since_copy = 0
        self._best: Kept | None = None
        self._middle: Kept | None = None

    def before_update(self) -> None:
        """The weights with which the actor begins to learn, ACT's in a fresh run, are the best known until a window was better."""
        if self._best is None and self._progress.phase is Phase.ACTOR:
            self._best = replace(keep(self._agent, self._progress.learnt_updates), success=self._startup.rate)

    def episode(self, recording: Recording, phase: Phase) -> bool:
        """One finished episode, collected while ``phase`` was on; returns whether the weights were set back."""
        if bool(recording.intervention.any()):
            return False
        if phase is Phase.COLLECT:
            self._startup.successes += recording.success
            self._startup.trials += 1
        if phase is not Phase.ACTOR:
            return False
        self.before_update()
        self._recent.append(recording.success)
        self._since_copy += 1
        if self._has_fallen():
            return self._alarm()
        if self._since_copy >= self._settings.window // 2:
            self._compare()
        return False

    def save(self, directory: Path) -> None:
        """Write ``success_watch.safetensors``, for :meth:`load`."""
        copies = {"best": self._best, "middle": self._middle}
        state: dict[str, Any] = {
            "startup": [self._startup.successes, self._startup.trials],
            "recent": [int(success) for success in self._recent],
            "since_copy": self._since_copy,
            **{name: {"learnt_updates": kept.learnt_updates, "success": kept.success} for name, kept in copies.items() if kept is not None},
        }
        tensors = {f"{name}/{key}": value for name, kept in copies.items() if kept is not None for key, value in kept.tensors.items()}
        save_file(tensors, directory / FILE, metadata={"state": json.dumps(state)})

    def load(self, directory: Path) -> None:
        """Go on where the checkpoint in ``directory`` stopped; without the file, as in older checkpoints, begin anew.

        Raises:
            ValueError: the file is damaged, or of other networks.
        """
        path = directory / FILE
        if not path.is_file():
            return
        try:
            with safe_open(path, framework="pt") as file:
                state = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
            self._startup = Tally(*state["startup"])
            self._recent.extend(bool(success) for success in state["recent"])
            self._since_copy = int(state["since_copy"])
            self._best, self._middle = (self._read_copy(name, state, tensors) for name in ("best", "middle"))
        except Exception as error:
            raise ValueError(f"{path} cannot be read ({error}). Go on from another checkpoint, or delete this file.") from error

    def _read_copy(self, name: str, state: dict[str, Any], tensors: dict[str, Tensor]) -> Kept | None:
        if name not in state:
            return None
        own = {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
        check(self._agent, own)
        return Kept(own, **state[name])

    @property
    def _window(self) -> Tally:
        return Tally(sum(self._recent), len(self._recent))

    def _has_fallen(self) -> bool:
        """Below by more than the margin, and even the upper end of the window's interval below the lower end of the start-up's."""
        window, startup = self._window, self._startup
        if window.trials < self._settings.window or startup.trials < MIN_STARTUP_EPISODES:
            return False
        surely = wilson_interval(window.successes, window.trials)[1] < wilson_interval(startup.successes, startup.trials)[0]
        return surely and window.rate < startup.rate - self._settings.margin

    def _alarm(self) -> bool:
        self._progress.alarms += 1
        best = self._best if self._settings.rollback else None
        logging.warning(
            f"ALARM: success has fallen far below the start-up episodes'. Last episodes without help: {self._window}; start-up: {self._startup}. "
            + (self._roll_back(best) if best is not None else "The weights stay as they are (policy.guard.rollback=false). ")
            + LOOK_AT
        )
        # The next alarm needs a whole window of new episodes.
        self._recent.clear()
        self._since_copy, self._middle = 0, None
        return best is not None

    def _roll_back(self, best: Kept) -> str:
        restore(self._agent, best)
        progress = self._progress
        undone = progress.learnt_updates - best.learnt_updates
        progress.undone_updates += undone
        progress.rollbacks += 1
        return (
            f"The weights are set back by {undone} updates, to those of the best window so far (success {100 * (best.success or 0):.0f} %). "
            "The data stay: learning goes on from there. "
        )

    def _compare(self) -> None:
        """Half a window is over: was the last whole one the best so far?"""
        window = self._window
        if window.trials == self._settings.window and self._middle is not None:
            assert self._best is not None
            if window.rate >= (self._best.success or 0.0):
                self._best = replace(self._middle, success=window.rate)
        self._middle = keep(self._agent, self._progress.learnt_updates)
        self._since_copy = 0
