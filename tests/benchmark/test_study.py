"""The learning benchmarks: plans, result tables, summaries, and a real quick run."""

import csv
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import draccus
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from owned_act import REPO, own_act, own_dataset
from study.base import MARKER as BASE
from study.collect import collect, finished
from study.methods import METHODS
from study.methods.serl import make_policy, preset
from study.plan import QUICK_ACT_STEPS, PlanError, load_plan
from study.results import COLUMNS, Row, read_rows, replace_measured, success_by_step, worst_window, write_json, write_rows
from study.run import EVALUATIONS, MARKER, TRAINING
from study.schedule import Schedule
from study.summary import dip_by_chance, summarise, table, variants_in

from lerobot_serl.policy.agent import Agent
from lerobot_serl.policy.configuration_serl_sac import SerlSacConfig

ROOT = Path(__file__).parents[2]
BENCHMARK = ROOT / "examples" / "benchmark"

PLAN = {
    "task": "pick_cube_ee", "seeds": [0, 1], "env_steps": 1000, "evaluate_every": 500, "episodes": 4,
    "variants": {"serl_sac": {"method": "serl_sac"}, "other": {"method": "serl_sac", "policy": {"horizon": 1}, "seeds": [0]}},
}  # fmt: skip
rows = st.builds(
    Row, st.integers(0, 10**6), st.integers(0, 500), st.integers(0, 1), st.floats(-1e6, 1e6), st.integers(1, 1000), st.integers(0, 9),
    st.floats(0, 1e5),
)  # fmt: skip


def plan_file(directory, **changes):
    path = directory / "example.yaml"
    path.write_text(yaml.safe_dump({**PLAN, **changes}, sort_keys=False))
    return path


def evaluation(seed, step, successes, trials=4):
    return [Row(step, i, int(i < successes), float(i < successes), 10, seed, 1.0) for i in range(trials)]


def leave_run(root, variant, seed, evaluations, training=()):
    directory = root / "example" / variant / f"seed{seed}"
    write_rows(directory / EVALUATIONS, evaluations)
    write_rows(directory / TRAINING, training)
    write_json(directory / MARKER, {"variant": variant, "seed": seed, "seconds": 60.0, "commit": "abc"})


def test_the_columns_are_those_that_the_documentation_names():
    assert COLUMNS == ("step", "episode", "success", "return", "length", "seed", "wall_s", "acted_as")


@given(st.lists(rows, max_size=20))
def test_what_is_written_is_read(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("rows") / "table.csv"
    write_rows(path, written)
    assert read_rows(path) == written


def test_a_table_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("step,success\n0,1\n")
    with pytest.raises(ValueError, match="expected"):
        read_rows(path)


def test_a_second_measurement_takes_the_place_of_the_first(tmp_path):
    first, other, third, again = (
        [{"seed": s, "step": t, "policy": name, "successes": n} for name in "ab"] for s, t, n in ("215", "226", "317", "218")
    )
    for measured in (first, other, third, again):
        replace_measured(tmp_path / "results" / "dips.csv", measured, ("seed", "step"))
    with (tmp_path / "results" / "dips.csv").open(newline="") as handle:
        assert list(csv.DictReader(handle)) == other + third + again


def test_success_by_step_is_of_one_seed():
    every = evaluation(0, 0, 1) + evaluation(0, 500, 3) + evaluation(1, 0, 4)
    assert success_by_step(every, 0) == {0: 0.25, 500: 0.75}


@given(st.lists(st.integers(0, 1), min_size=1, max_size=120))
def test_the_worst_window_is_the_lowest_mean(successes):
    practice = [Row(i, i, success, 0.0, 1, 0, 0.0) for i, success in enumerate(successes)]
    size = min(50, len(successes))
    assert worst_window(practice, 0) == min(sum(successes[i : i + size]) / size for i in range(len(successes) - size + 1))


def test_a_policy_that_never_changes_dips_by_chance_and_more_the_longer_it_practises():
    assert dip_by_chance(1.0, 200) == (0.0, 0.0)
    median, twentieth = dip_by_chance(0.5, 50)  # one window: as often below as above
    assert abs(median) <= 0.02
    assert twentieth == pytest.approx(1.645 * (0.5 * 0.5 / 50) ** 0.5, abs=0.025)
    assert dip_by_chance(0.5, 500)[0] > 0.1 > median


def test_a_plan_lists_its_runs_seed_by_seed(tmp_path):
    plan = load_plan(plan_file(tmp_path))
    assert plan.name == "example"
    assert [(variant.name, seed) for variant, seed in plan.jobs()] == [("serl_sac", 0), ("other", 0), ("serl_sac", 1)]
    assert plan.variants["other"].policy == {"horizon": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": "0, 1"}, "no list of whole numbers"),
        ({"env_steps": 0}, "env_steps is 0"),
        ({"variants": {"one": {"policy": {}}}}, "expected a method"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_a_plan_that_says_nonsense_is_refused(tmp_path, changes, message):
    with pytest.raises(PlanError, match=message):
        load_plan(plan_file(tmp_path, **changes))


@pytest.mark.parametrize("path", sorted((BENCHMARK / "plans").rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_plan_names_tasks_and_methods_that_exist(path):
    from study.methods import METHODS
    from study.tasks import TASKS

    plan = load_plan(path)
    assert plan.task in TASKS
    assert {variant.method for variant in plan.variants.values()} <= METHODS.keys()
    assert len(set(plan.seeds)) == len(plan.seeds)


def test_the_checkpoint_to_start_from_is_the_first_within_the_range_or_the_last_of_all():
    from study.tasks import TASKS

    early, plateau = TASKS["pick_cube_ee"], TASKS["pick_cube_ee_plateau"]
    assert early.act_range == (0.45, 0.65)
    assert [early.takes(300, share) for share in (0.44, 0.45, 0.65, 0.66)] == [False, True, True, False]
    assert plateau.act_steps == (1000, 2000, 3000, 5000)
    assert [plateau.takes(steps, share) for steps in plateau.act_steps for share in (0.0, 0.5, 1.0)] == 9 * [False] + 3 * [True]


def test_seeds_of_demonstrations_selection_evaluation_and_practice_are_apart():
    from study.base import SELECTION_EPISODES
    from study.practice import CONTROL_SEED, DEMONSTRATION_SEED, EVALUATION_SEED, SEEDS_OF_A_RUN, SELECTION_SEED, TRAINING_SEED

    assert 10 * DEMONSTRATION_SEED + 1000 < SELECTION_SEED  # ten runs' demonstrations, each with fewer than a thousand attempts
    assert SELECTION_SEED + 10 * SELECTION_EPISODES < EVALUATION_SEED
    assert EVALUATION_SEED + 1000 < CONTROL_SEED < CONTROL_SEED + 1000 < TRAINING_SEED
    assert SEEDS_OF_A_RUN > 30_000  # not even episodes of one step would reach the next run's


def test_collecting_keeps_runs_whose_own_files_are_gone(tmp_path):
    plan, root, results = load_plan(plan_file(tmp_path)), tmp_path / "root", tmp_path / "results"
    leave_run(root, "serl_sac", 0, evaluation(0, 0, 1), evaluation(0, 5, 2))
    for seed, tried in enumerate(({"300": 0.38, "100": 0.14, "500": 0.64}, {"300": 0.54})):
        write_json(root / "bases" / "pick_cube_ee" / f"seed{seed}" / BASE, {"act": "somewhere", "seed": seed, "tried": tried})
    collect(plan, root, results)
    first = root / "example" / "serl_sac" / "seed0"
    first.rename(tmp_path / "gone")
    (root / "bases" / "pick_cube_ee" / "seed0" / BASE).unlink()
    trained_anew = {"act": "elsewhere", "seed": 1, "tried": {"300": 0.9}}  # on another machine, after the first runs
    write_json(root / "bases" / "pick_cube_ee" / "seed1" / BASE, trained_anew)
    leave_run(root, "serl_sac", 1, evaluation(1, 0, 3))
    collect(plan, root, results)
    assert read_rows(results / "example" / "serl_sac.csv") == evaluation(0, 0, 1) + evaluation(1, 0, 3)
    assert read_rows(results / "example" / "serl_sac.training.csv") == evaluation(0, 5, 2)
    meta = json.loads((results / "example" / "meta.json").read_text())
    assert [(run["variant"], run["seed"]) for run in meta["runs"]] == [("serl_sac", 0), ("serl_sac", 1)]
    assert {run["commit"] for run in meta["runs"]} == {"abc"}
    assert meta["plan"]["task"] == "pick_cube_ee"
    assert {seed: list(tried.items()) for seed, tried in meta["act"].items()} == {
        "0": [("300", 0.38), ("100", 0.14), ("500", 0.64)], "1": [("300", 0.54)],
    }  # fmt: skip


def test_what_is_finished_can_be_collected_while_the_rest_waits(tmp_path):
    plan, root = plan_file(tmp_path), tmp_path / "root"
    leave_run(root, "serl_sac", 0, evaluation(0, 0, 1) + evaluation(0, 500, 4), evaluation(0, 5, 2))
    command = [sys.executable, str(BENCHMARK / "learn.py"), str(plan), "--collect_only", f"--root={root}", f"--results={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "| serl_sac | 1 | 25 |  | 100 | +75 |" in done.stdout
    assert not (root / "example" / "other").exists()


def test_a_run_that_was_cut_off_counts_as_not_done(tmp_path):
    plan, root = load_plan(plan_file(tmp_path)), tmp_path / "root"
    leave_run(root, "serl_sac", 0, evaluation(0, 0, 1))
    (root / "example" / "serl_sac" / "seed0" / MARKER).unlink()
    assert finished(plan, root) == []


def test_the_summary_says_what_the_tables_say(tmp_path):
    directory = tmp_path / "example"
    practice = [Row(i, i, int(i % 2), 0.0, 1, 0, 0.0) for i in range(60)]
    write_rows(directory / "good.csv", evaluation(0, 0, 1) + evaluation(0, 500, 2) + evaluation(0, 1000, 4))
    write_rows(directory / "good.training.csv", practice)
    write_rows(directory / "bad.csv", evaluation(0, 0, 0) + evaluation(0, 1000, 0))
    write_rows(directory / "bad.training.csv", practice)
    assert variants_in(directory) == ["bad", "good"]
    good = summarise(directory, "good")
    assert (good.act, good.final, good.worst, good.steps_to_gain) == ((0.25,), (1.0,), (0.5,), (500,))
    lines = table(directory, act_from="good", without_act=["bad"]).splitlines()
    assert lines[2] == "| good | 1 | 25 |  | 100 | +75 | -25 | 500 |"
    assert lines[3] == "| bad | 1 | 25 |  | 0 | -25 | -25 | never |"


def test_an_ablation_is_compared_with_the_default_of_its_own_seeds_at_the_end_and_on_the_way(tmp_path):
    both = [(1, 2, 4), (2, 4, 4)]
    write_rows(
        tmp_path / "default.csv", [row for s, run in enumerate(both) for i, n in enumerate(run) for row in evaluation(s, 500 * i, n)]
    )
    write_rows(tmp_path / "other.csv", evaluation(1, 0, 2) + evaluation(1, 500, 1) + evaluation(1, 1000, 4))
    heads, _, *lines = table(tmp_path, act_from="default").splitlines()
    assert heads.split(" | ")[6:8] == ["difference to default, same seeds", "the same over all evaluations"]
    cells = {line.split(" | ")[0]: line.split(" | ")[5:8] for line in lines}
    # Seed 1 alone: 4 and 4 of 4 at the end; 4 and 4 of 4 against 1 and 4 of 4 on the way to it. ACT's own evaluation does not count.
    assert cells == {"| other": ["+50", "+0", "-38"], "| default": ["+62 (-96 to +100)", "", ""]}


def test_the_best_checkpoint_of_act_is_the_runs_own_or_the_seeds(tmp_path):
    for name in ("one", "other"):
        write_rows(tmp_path / f"{name}.csv", evaluation(0, 0, 1) + evaluation(1, 0, 3))
    runs = [{"variant": "one", "seed": 0}, {"variant": "one", "seed": 1}, {"variant": "other", "seed": 1, "act": {"700": 0.9, "300": 0.4}}]
    write_json(tmp_path / "meta.json", {"act": {"0": {"300": 0.1, "700": 0.5, "100": 0.3}, "1": {"300": 0.6}}, "runs": runs})
    assert [summarise(tmp_path, name).best_act for name in ("one", "other")] == [(0.5, 0.6), (0.5, 0.9)]
    heads, _, *lines = table(tmp_path, act_from="one").splitlines()
    assert heads.split(" | ")[2:4] == ["ACT", "ACT, best checkpoint that was tried"]
    assert {line.split(" | ")[0]: line.split(" | ")[2:4] for line in lines} == {"| one": ["50", "55"], "| other": ["50", "70"]}


def test_a_best_checkpoint_of_some_seeds_alone_is_not_told(tmp_path):
    write_rows(tmp_path / "one.csv", evaluation(0, 0, 1) + evaluation(1, 0, 3))
    write_json(tmp_path / "meta.json", {"act": {"0": {"300": 0.5}}, "runs": []})
    assert summarise(tmp_path, "one").best_act == ()
    assert table(tmp_path).splitlines()[2].startswith("| one | 2 | 50 |  | 50 ")


def test_a_variant_that_uses_act_otherwise_is_compared_with_its_own_start(tmp_path):
    """ACT that is asked for a new chunk at each step succeeds more often, or less, than in whole chunks."""
    write_rows(tmp_path / "default.csv", evaluation(0, 0, 1) + evaluation(0, 500, 2))
    write_rows(tmp_path / "horizon_1.csv", evaluation(0, 0, 2) + evaluation(0, 500, 3))
    write_rows(tmp_path / "from_scratch.csv", evaluation(0, 0, 0) + evaluation(0, 500, 3))
    lines = table(tmp_path, act_from="default", without_act=["from_scratch"]).splitlines()[2:]
    assert {line.split(" | ")[0]: line.split(" | ")[5] for line in lines} == {
        "| default": "+25",
        "| horizon_1": "+25",
        "| from_scratch": "+50",
    }


def test_runs_whose_act_was_not_measured_yet_wait(tmp_path):
    """While a study runs, a variant may have seeds that the one with ACT's success does not have yet."""
    write_rows(tmp_path / "act.csv", evaluation(0, 0, 1))
    write_rows(tmp_path / "early.csv", evaluation(0, 0, 1) + evaluation(0, 500, 3) + evaluation(1, 500, 4))
    write_rows(tmp_path / "later.csv", evaluation(1, 500, 4))
    lines = table(tmp_path, act_from="act").splitlines()[2:]
    assert lines == ["| early | 1 | 25 |  | 75 | +50 |  |  |", "| act | 1 | 25 |  | 25 | +0 |  |  |"]


def test_from_scratch_the_actors_output_is_the_action():
    """No ACT in it: with its edits around a random ACT, half of the first actions lay at the bounds."""
    inputs = {
        "observation.state": PolicyFeature(FeatureType.STATE, (5,)),
        "observation.environment_state": PolicyFeature(FeatureType.ENV, (3,)),
    }
    config = draccus.decode(SerlSacConfig, preset("rlpd") | {"device": "cpu"})
    config.input_features, config.output_features = inputs, {"action": PolicyFeature(FeatureType.ACTION, (4,))}
    torch.manual_seed(0)
    agent = Agent(config)
    observation = {key: torch.randn(2000, *feature.shape) for key, feature in inputs.items()}
    features, base = agent.cache_features(observation)
    mean, std = agent.actor(features, base)
    executed = agent.explore(features, base, learning=True, generator=torch.Generator().manual_seed(1)).chunk
    assert (mean.abs().max(), std.mean().item()) == (0.0, 1.0)
    assert not any(name.startswith("act.") for name in agent.state_dict())
    assert executed.std().item() == pytest.approx(torch.randn(100_000).tanh().std().item(), abs=0.02)
    assert executed.abs().max() < 1.0


def test_naive_sac_begins_as_act_and_moves_all_of_its_weights(tmp_path, monkeypatch):
    own_dataset(tmp_path / "data")
    own_act(tmp_path / "act", tmp_path / "data")
    meta = LeRobotDatasetMetadata(REPO, root=tmp_path / "data")
    base = SimpleNamespace(start={"act_path": str(tmp_path / "act"), "horizon": 10}, meta=meta, task=SimpleNamespace(horizon=10))
    run = SimpleNamespace(seed=0, directory=tmp_path, variant=SimpleNamespace(policy={}), base=base)
    made = []
    monkeypatch.setattr(importlib.import_module("study.methods.naive"), "learn", lambda run, policy: made.append(policy))
    METHODS["naive"](run)
    act = make_policy(run, base.start)
    (policy,) = made
    keys = list(policy.config.input_features)
    dataset = LeRobotDataset(REPO, root=tmp_path / "data")
    frames = [dataset[index] for index in range(5)]
    observation = {key: torch.stack([frame[key] for frame in frames]) for key in keys}
    span = 2 * act.agent.box.half_width
    assert ((policy.chunks(observation) - act.chunks(observation)).abs() / span).max() < 1e-4
    features, reference = policy.agent.encode(observation)
    policy.agent.actor(features, reference)[0].sum().backward()
    moved = [name for name, value in policy.agent.actor.act.named_parameters() if value.grad is not None]
    assert any("encoder" in name for name in moved)


def test_a_job_that_fails_is_named_and_does_not_stop_the_others(tmp_path, capsys):
    path = plan_file(tmp_path, task="no_such_task", variants={"one": {"method": "serl_sac"}})
    schedule = Schedule({path: load_plan(path)}, tmp_path / "root", parallel=2, quick=False)
    schedule.run()
    assert sorted(schedule.failed) == ["example/one seed 0", "example/one seed 1"]
    assert "no_such_task" in capsys.readouterr().out


def test_what_another_schedule_has_done_meanwhile_is_left_alone(tmp_path):
    root, path = tmp_path / "root", plan_file(tmp_path, seeds=[0], variants={"act": {"method": "frozen_act"}})
    schedule = Schedule({path: load_plan(path)}, root, parallel=1, quick=False)
    leave_run(root, "act", 0, evaluation(0, 0, 2))
    schedule.run()
    assert schedule.failed == []
    assert read_rows(root / "example" / "act" / "seed0" / EVALUATIONS) == evaluation(0, 0, 2)
    assert not (root / "bases").exists()


def test_while_one_run_makes_a_base_the_next_one_has_another(tmp_path, monkeypatch):
    """Two of one seed side by side: the second would wait for minutes until the first has trained their ACT."""
    path = plan_file(tmp_path, variants={"one": {"method": "serl_sac"}, "two": {"method": "serl_sac"}})
    plan, root = load_plan(path), tmp_path / "root"
    monkeypatch.setattr("study.schedule.POLL_S", 0.05)
    Schedule({path: plan}, root, parallel=2, quick=False, program=("false",)).run()
    begun = {(name, seed): (root / "example" / name / f"seed{seed}").stat().st_mtime_ns for name in ("one", "two") for seed in (0, 1)}
    assert sorted(begun, key=begun.__getitem__)[:2] == [("one", 0), ("one", 1)]


def test_runs_whose_base_is_there_are_begun_in_the_order_of_the_plan(tmp_path, monkeypatch):
    path = plan_file(tmp_path, variants={"one": {"method": "serl_sac"}, "two": {"method": "serl_sac"}})
    plan, root = load_plan(path), tmp_path / "root"
    for seed in plan.seeds:
        write_json(plan.base_root(root, seed) / BASE, {})
    monkeypatch.setattr("study.schedule.POLL_S", 0.05)
    Schedule({path: plan}, root, parallel=2, quick=False, program=("false",)).run()
    begun = {(name, seed): (root / "example" / name / f"seed{seed}").stat().st_mtime_ns for name in ("one", "two") for seed in (0, 1)}
    assert sorted(begun, key=begun.__getitem__) == [("one", 0), ("two", 0), ("one", 1), ("two", 1)]


@pytest.mark.slow
def test_the_quick_form_runs_every_method_and_goes_on_where_it_stopped(tmp_path):
    """All methods on the real task; what is finished is not repeated."""
    document = yaml.safe_load((BENCHMARK / "plans" / "pick_cube_ee.yaml").read_text())
    document["variants"] |= {method: {"method": method} for method in METHODS if method not in document["variants"]}
    plan = tmp_path / "pick_cube_ee.yaml"
    plan.write_text(yaml.safe_dump(document))
    command = [sys.executable, str(BENCHMARK / "learn.py"), str(plan), "--quick", f"--root={tmp_path / 'root'}", f"--results={tmp_path}"]
    first = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert first.returncode == 0, first.stdout + first.stderr
    results = tmp_path / "pick_cube_ee_quick"
    assert set(variants_in(results)) == set(load_plan(plan).variants) >= set(METHODS)
    for name in variants_in(results):
        assert {row.step for row in read_rows(results / f"{name}.csv")} >= {0}
    assert (results / "success.png").stat().st_size > 5000
    without_act = [name for name, entry in document["variants"].items() if entry["method"] in ("from_scratch", "lerobot_sac")]
    assert table(results, "serl_sac", without_act) in (results / "summary.md").read_text()
    before = (results / "serl_sac.csv").read_bytes()
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (results / "serl_sac.csv").read_bytes() == before


@pytest.mark.slow
def test_a_seed_fixes_a_run(tmp_path):
    """Two runs with one seed have the same episodes, to the last step; another order of time must not matter. The first one makes ACT."""
    path = plan_file(tmp_path, seeds=[3], variants={"serl_sac": {"method": "serl_sac"}})
    tables, acts = [], []
    for place in ("one", "two"):
        command = [sys.executable, "-m", "study.run_one", str(path), "serl_sac", "3", str(tmp_path / "root"), "--quick"]
        directory = tmp_path / "root" / "example_quick" / "serl_sac" / "seed3"
        subprocess.run(command, check=True, cwd=BENCHMARK, capture_output=True, timeout=300)
        with (directory / TRAINING).open() as file:
            tables.append([{key: value for key, value in row.items() if key != "wall_s"} for row in csv.DictReader(file)])
        acts.append(json.loads((directory / MARKER).read_text())["act"])
        directory.rename(tmp_path / place)
    assert len(tables[0]) > 5
    assert tables[0] == tables[1]
    (base,) = (tmp_path / "root" / "bases_quick").glob(f"*/seed3/{BASE}")
    assert acts[0] == acts[1] == json.loads(base.read_text())["tried"]
    assert list(acts[0]) == [str(QUICK_ACT_STEPS)]
