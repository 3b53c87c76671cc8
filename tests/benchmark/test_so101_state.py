"""The SO-101 of other people, for the learning benchmarks."""

import csv
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from result_files import ROOT
from study.collect import control_of
from study.results import read_rows
from study.so101_state import LIFT_M, START_HIGH_M, START_LOW_M, So101State, new_expert
from study.sparse_state import STATE, THINGS

BENCHMARK = ROOT / "examples" / "benchmark"


def attempt(env, seed):
    """Observations, actions and rewards of the expert's attempt."""
    observation, _ = env.reset(seed=seed)
    expert, seen, rewards, done = new_expert(env), [observation], [], False
    while not done:
        observation, reward, terminated, truncated, _ = env.step(expert())
        seen.append(observation)
        rewards.append(reward)
        done = terminated or truncated
    return seen, rewards


def test_the_expert_lifts_the_cube_from_wherever_it_begins():
    env = So101State()
    starts = []
    for seed in range(6):
        seen, rewards = attempt(env, seed)
        assert rewards == [0.0] * (len(rewards) - 1) + [1.0]
        heights = [observation[THINGS][2] - seen[0][THINGS][2] for observation in seen]
        assert max(heights[:-1]) <= LIFT_M < heights[-1]
        starts.append(seen[0][THINGS][:2])
    low, high = np.min(starts, axis=0), np.max(starts, axis=0)
    assert (low >= np.float32(START_LOW_M)).all()
    assert (high <= np.float32(START_HIGH_M)).all()
    assert (high - low > 0.02).all()


def test_a_seed_fixes_an_episode_whatever_was_before_it():
    env = So101State()
    first, *_ = attempt(env, 1)
    attempt(env, 2)
    again, *_ = attempt(env, 1)
    assert len(first) == len(again)
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(one[key], other[key]) for key in (STATE, THINGS))


def test_a_cube_that_is_only_pushed_is_no_success():
    env = So101State(episode_length=40)
    env.reset(seed=0)
    start, ends = env.cube, []
    for step in range(40):
        beside_or_through = np.array([-0.06, 0.0, 0.02] if step < 15 else [0.05, 0.0, 0.0])
        action = np.clip((env.cube + beside_or_through - env.arm.ik_point_pos) / 0.025, -1.0, 1.0)
        ends.append(env.step(np.append(action, 0.0))[1:4])
    assert np.linalg.norm(env.cube[:2] - start[:2]) > 0.02
    assert ends == [(0.0, False, False)] * 39 + [(0.0, False, True)]


@pytest.mark.slow
def test_the_quick_form_of_its_plan_runs_through(tmp_path):
    """Demonstrations, ACT by `lerobot-train`, practice, every way to deploy what came of it, and the tables."""
    plan = BENCHMARK / "plans" / "deployed" / "so101_lift.yaml"
    command = [sys.executable, str(BENCHMARK / "learn.py"), str(plan), "--quick", f"--root={tmp_path / 'root'}", f"--results={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    results = tmp_path / "deployed" / "so101_lift_quick"
    assert list(Counter(row.step for row in read_rows(results / "serl_sac.csv")).values())[:2] == [3, 3]
    with control_of(results, "serl_sac").open(newline="") as file:
        assert {row["policy"] for row in csv.DictReader(file)} >= {"ACT", "deployed: the mean edit"}
    assert "| serl_sac | 1 |" in (results / "summary.md").read_text()
