"""The measurement of what a dip of practice is made of."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import dip
import pytest
from study.base import frozen_policy, make_base
from study.candidates import CANDIDATES
from study.plan import load_plan
from study.practice import CONTROL_SEED, deterministic, evaluate
from study.tasks import TASKS

PLANS = Path(__file__).parents[2] / "examples" / "benchmark" / "plans"
# Random edits of the whole action box, executed whatever the critics say.
NOTHING_HOLDS_IT = (
    "{startup: {collect_steps: 100, critic_updates: 20, ramp_updates: 1, scale_fraction: 1.0}, critic: {prior_steps: 0}, "
    "actor: {edit_scale: 2.0, candidates: false, pessimism: 0.0, anchor: 0.0, lr: 0.03}}"
)


@pytest.mark.slow
def test_each_policy_is_measured_at_the_weights_of_the_dip(tmp_path, monkeypatch):
    """Practice that leaves nothing of ACT: the count of ACT is of ACT itself, the others are of what became of it."""
    task = TASKS["pick_cube_ee"]
    # LeRobot reads a state dataset item by item, which takes longer than all else in ACT's training.
    task = replace(task, act_steps=(400,), act_range=None, act_flags=(*task.act_flags, "--batch_size=8"))
    monkeypatch.setitem(TASKS, "pick_cube_ee", task)
    plan = tmp_path / "short.yaml"
    text = (PLANS / "pick_cube_ee.yaml").read_text()
    assert "serl_sac: {method: serl_sac}" in text
    plan.write_text(text.replace("serl_sac: {method: serl_sac}", f"serl_sac: {{method: serl_sac, policy: {NOTHING_HOLDS_IT}}}"))
    root, results = tmp_path / "root", tmp_path / "dips.csv"
    base_root = load_plan(plan, quick=False).base_root(root, 0)
    base_root.mkdir(parents=True)
    base = make_base(base_root, task, 0)
    seen, trained = [], dip.trained

    def seen_too(run, steps):
        for step, policy in trained(run, steps):
            seen.append(policy)
            yield step, policy

    monkeypatch.setattr(dip, "trained", seen_too)
    monkeypatch.setattr(sys, "argv", ["dip.py", str(plan), "0", "180", f"--root={root}", f"--results={results}", "--episodes=16"])
    dip.main()
    (policy,) = seen
    assert 180 <= policy.progress.env_steps < 180 + 60
    assert policy.agent.learning.optimizers.state_dict()["actor.0.step"] >= 30
    with results.open(newline="") as handle:
        counts = {row["policy"]: int(row["successes"]) for row in csv.DictReader(handle)}
    frozen = frozen_policy(base.act, task.horizon)
    world = base.world(frozen.config.input_features, frozen.agent.action_dim, CONTROL_SEED)
    assert counts["ACT"] == sum(episode.success for episode in evaluate(world, deterministic(frozen), 16)) > 0
    assert {counts[name] for name in counts if name != "ACT"} == {0}
    assert counts.keys() == {"ACT", "collecting", *CANDIDATES}
