"""The results of an evaluation, as `lerobot-serl-report --compare` reads them: whole after every episode, whatever ends the process."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..replay.episode import Episode
from ..replay.json_file import write_json


class EvaluationFile:
    """As LeRobot's evaluations, with an entry for each episode, and in it the seed of its start where there is one.

    Args:
        path: to write; its directory is created.
        about: what was evaluated, and where.

    Raises:
        FileExistsError: there is an evaluation already.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path, self.about = path, dict(about)
        if path.exists():
            raise FileExistsError(f"--output_dir={path.parent} holds an evaluation already, {path.name}. Choose another directory.")
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f"{path.name}.tmp")
        probe.write_text("")  # before anything moves
        probe.unlink()
        self._episodes: list[dict[str, Any]] = []
        self._started_s = time.monotonic()

    @property
    def counts(self) -> tuple[int, int]:
        """Successes without help, and episodes."""
        return sum(episode["success"] for episode in self._episodes), len(self._episodes)

    def add(self, episode: Episode) -> None:
        """After an episode. A person's help makes it a failure: otherwise only those that go well by themselves would be counted.

        Raises:
            OSError: the disk is full or cannot be written; the file is what it was.
        """
        rewards = episode.reward.tolist()
        self._episodes.append(
            {
                "episode_ix": len(self._episodes),
                "sum_reward": sum(rewards),
                "max_reward": max(rewards),
                "success": episode.success_alone,
                "steps": len(episode),
                "steps_by_hand": int(episode.intervention.sum()),
                **episode.info,
            }
        )
        write_json(self.path, {"per_episode": self._episodes, "aggregated": self._aggregated(), **self.about})

    def _aggregated(self) -> dict[str, float]:
        """LeRobot's names."""
        (successes, number), elapsed_s = self.counts, time.monotonic() - self._started_s
        return {
            "avg_sum_reward": sum(episode["sum_reward"] for episode in self._episodes) / number,
            "avg_max_reward": sum(episode["max_reward"] for episode in self._episodes) / number,
            "pc_success": 100 * successes / number,
            "eval_s": elapsed_s,
            "eval_ep_s": elapsed_s / number,
        }
