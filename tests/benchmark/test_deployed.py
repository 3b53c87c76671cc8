"""The table of ways to deploy the same weights."""

import csv

import deployed
import pytest
from study.collect import collect, control_of
from study.plan import PlanError, load_plan
from study.results import write_json, write_rows
from study.run import CONTROL, EVALUATIONS, MARKER, TRAINING
from study.summary import variants_in

PLAN = """
name: deployed/example
task: pick_cube_ee
seeds: [0, 1]
env_steps: 30
evaluate_every: 10
episodes: 4
control_steps: [10, 30]
variants: {serl_sac: {method: serl_sac}}
"""
WAYS = deployed.COLUMNS[1:5]


def leave_run(root, seed, measured):
    directory = root / "deployed" / "example" / "serl_sac" / f"seed{seed}"
    for name in (EVALUATIONS, TRAINING):
        write_rows(directory / name, [])
    write_json(directory / MARKER, {"variant": "serl_sac", "seed": seed, "seconds": 60.0, "commit": "abc"})
    with (directory / CONTROL).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["seed", "step", "policy", "successes", "episodes", "length"])
        writer.writerows([seed, step, policy, successes, 100, "9.0"] for step, policy, successes in measured)


@pytest.fixture
def results(tmp_path):
    """Two seeds; the second one is deployed badly at 30 steps, and its ACT was good."""
    path = tmp_path / "example.yaml"
    path.write_text(PLAN)
    plan = load_plan(path)
    leave_run(tmp_path, 0, [(0, "ACT", 40), *((10, way, 50) for way in WAYS), *((30, way, 80) for way in WAYS), (30, "best", 79)])
    leave_run(tmp_path, 1, [(0, "ACT", 95), *((10, way, 92) for way in WAYS), (30, WAYS[0], 60), *((30, way, 64) for way in WAYS[1:])])
    collect(plan, tmp_path, tmp_path / "results")
    return tmp_path / "results" / "deployed"


def test_every_measurement_has_a_row_with_act_beside_it(results):
    assert deployed.table(results).splitlines()[2:] == [
        "| example | 0 | 10 | 40 | 50 | 50 | 50 | 50 | 40 |",  # what acts as ACT is not measured again
        "| example | 0 | 30 | 40 | 80 | 80 | 80 | 80 | 79 |",
        "| example | 1 | 10 | 95 | 92 | 92 | 92 | 92 | 95 |",
        "| example | 1 | 30 | 95 | 60 | 64 | 64 | 64 | 95 |",
    ]


def test_shortfalls_are_named(results):
    assert deployed.shortfalls(results) == [
        "example seed 1, 30 steps: 4.0 points below fresh noise", "example seed 1, 30 steps: 35.0 points below ACT",
    ]  # fmt: skip


def test_a_seed_that_is_collected_again_replaces_its_rows(results, tmp_path):
    leave_run(tmp_path, 1, [(0, "ACT", 90)])
    collect(load_plan(tmp_path / "example.yaml"), tmp_path, results.parent)
    assert [row[:2] for row in csv.reader(control_of(results / "example", "serl_sac").open())][-1] == ["1", "0"]
    assert variants_in(results / "example") == ["serl_sac"]


@pytest.mark.parametrize("line", ["control_steps: 10", "control_steps: [a]", "control_episodes: 0"])
def test_bad_settings_are_refused(tmp_path, line):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.replace("control_steps: [10, 30]", line))
    with pytest.raises(PlanError, match=line.split(":")[0] if "episodes" in line else "no list of whole numbers"):
        load_plan(path)
