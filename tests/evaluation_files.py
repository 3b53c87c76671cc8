"""Evaluation files as lerobot-eval writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path


def write_evaluation(directory: Path, successes: Sequence[object], task: str = "franka_sim", **more_tasks: Sequence[object]) -> Path:
    """`eval_info.json` of LeRobot 0.6 with one task, or several; returns the directory."""
    tasks = {task: successes, **more_tasks}
    per_task = [
        {
            "task_group": name,
            "task_id": 0,
            "metrics": {
                "sum_rewards": [float(bool(value)) for value in values], "max_rewards": [float(bool(value)) for value in values],
                "successes": list(values), "video_paths": [], "predicted_video_paths": [],
            },
        }
        for name, values in tasks.items()
    ]  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    overall = {"pc_success": float("nan"), "n_episodes": len(successes), "eval_s": 1.0}
    (directory / "eval_info.json").write_text(json.dumps({"per_task": per_task, "per_group": {}, "overall": overall}, indent=2))
    return directory


def write_seeded(directory: Path, successes: Sequence[bool], first_seed: int) -> Path:
    """`eval_info.json` as older versions of LeRobot wrote it, with the seeds; returns the directory."""
    episodes = [
        {"episode_ix": i, "sum_reward": 0.0, "max_reward": 0.0, "success": s, "seed": first_seed + i} for i, s in enumerate(successes)
    ]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "eval_info.json").write_text(json.dumps({"per_episode": episodes, "aggregated": {"pc_success": 1.0}}))
    return directory
