"""The measurement of whether filtered cloning was trained for long enough."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import longer
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from study.base import REPO_ID, frozen_policy, make_base
from study.methods.filtered_bc import write_dataset
from study.plan import load_plan
from study.practice import CONTROL_SEED, deterministic, evaluate
from study.tasks import TASKS

from lerobot_serl.replay.demonstrations import EpisodeReader

PLAN = Path(__file__).parents[2] / "examples" / "benchmark" / "plans" / "pick_cube_ee.yaml"


@pytest.mark.slow
def test_act_of_the_demonstrations_and_of_the_last_round_are_told_apart(tmp_path, monkeypatch):
    """The last round's data say that the arm should do nothing, those of the rounds before are the demonstrations."""
    task = TASKS["pick_cube_ee"]
    # LeRobot reads a state dataset item by item, which takes longer than all else in ACT's training.
    task = replace(task, act_steps=(50,), act_range=None, act_flags=(*task.act_flags, "--batch_size=8"))
    monkeypatch.setitem(TASKS, "pick_cube_ee", task)
    root, results = tmp_path / "root", tmp_path / "longer.csv"
    command = ["longer.py", str(PLAN), "0", "100", "400", f"--root={root}", f"--results={results}", "--episodes=16"]
    monkeypatch.setattr(sys, "argv", command)
    assert longer.main() == 1
    base_root = load_plan(PLAN).base_root(root, 0)
    base_root.mkdir(parents=True)
    base = make_base(base_root, task, 0)
    reader = EpisodeReader(
        LeRobotDataset(REPO_ID, root=base.demonstrations), list(frozen_policy(base.act, task.horizon).config.input_features)
    )
    shown = [reader.read(index) for index in range(len(reader))]
    for number, factor in ((9, 1.0), (10, 0.0)):
        recordings = [replace(recording, action=factor * recording.action) for recording in shown]
        write_dataset(root / "pick_cube_ee" / "filtered_bc" / "seed0" / f"round{number}" / "dataset", base.meta, recordings)
    assert longer.main() == 0
    with results.open(newline="") as handle:
        counts = {(row["dataset"], row["training_steps"]): int(row["successes"]) for row in csv.DictReader(handle)}
    assert counts["last round", "100"] == counts["last round", "400"] == 0
    policy = frozen_policy(root / "longer/pick_cube_ee/seed0/demonstrations/checkpoints/000400/pretrained_model", task.horizon)
    world = base.world(policy.config.input_features, policy.agent.action_dim, CONTROL_SEED)
    assert counts["demonstrations", "400"] == sum(episode.success for episode in evaluate(world, deterministic(policy), 16)) > 0
    assert counts["demonstrations", "400"] > counts["demonstrations", "100"]
