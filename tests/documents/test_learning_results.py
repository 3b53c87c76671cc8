"""What README and docs claim of learning stands in the committed result files."""

import json
import re
from collections import Counter

import deployed
import pytest
from result_files import RESULTS, ROOT, rows_of
from study.document import with_results
from study.plan import load_plan
from study.results import read_rows
from study.summary import mean_difference, summarise, table, variants_in


def test_the_readmes_table_is_the_benchmark():
    directory = RESULTS / "pick_cube_ee_plateau"
    summary, cloned = summarise(directory, "serl_sac"), summarise(directory, "filtered_bc")
    text = (ROOT / "README.md").read_text()
    assert "\n| seed | ACT | ACT, best checkpoint that was tried | fine-tuned |\n" in text
    rows = re.findall(r"^\| (\d) \| (\d+) of 50 \| (\d+) of 50 \| (\d+) of 50 \|$", text, re.MULTILINE)
    counts = [[round(50 * share) for share in shares] for shares in (summary.act, summary.best_act, summary.final)]
    assert [tuple(map(int, row)) for row in rows] == list(zip(summary.seeds, *counts, strict=True))
    scratch, lerobot = (summarise(directory, name) for name in ("from_scratch", "lerobot_sac"))
    assert cloned.seeds == scratch.seeds == lerobot.seeds == summary.seeds
    assert max(_mean_success(directory, name, at=4_000) for name in ("from_scratch", "lerobot_sac")) < 0.05


def _mean_success(directory, variant, at):
    """Over the seeds, of the evaluations within 1,000 environment steps after `at`."""
    early = [row.success for row in read_rows(directory / f"{variant}.csv") if at <= row.step < at + 1_000]
    return sum(early) / len(early)


def test_the_table_of_a_dip_is_the_result_file():
    directory = RESULTS / "pick_cube_ee_plateau"
    result, text = summarise(directory, "serl_sac"), (ROOT / "docs" / "benchmarks.md").read_text()
    dips = {seed: 100 * (act - worst) for seed, act, worst in zip(result.seeds, result.act, result.worst, strict=True)}
    (seed,) = (seed for seed, dip in dips.items() if dip > 15)
    rows = rows_of("dips/dips.csv")
    assert {(row["study"], row["seed"], row["episodes"]) for row in rows} == {(directory.name, str(seed), "200")}
    ways = ("ACT", "deployed: the mean edit", "collecting")
    counts = [row["successes"] for way in ways for row in rows if row["policy"] == way]
    assert f"| {seed} | {int(rows[0]['step']):,} | {' | '.join(counts)} |" in text


CUBE, OTHERS = ("pick_cube_ee", "pick_cube_ee_plateau", "pick_cube_joint"), ("metaworld_push", "metaworld_pick_place", "pusht")


def test_what_filtered_cloning_does_to_act():
    text = " ".join((ROOT / "docs" / "benchmarks.md").read_text().split())
    gain = {name: _gain(summarise(RESULTS / name, "filtered_bc")) for name in CUBE + OTHERS}
    assert {name for name in gain if gain[name] > 0} == set(CUBE), gain
    steps = {}
    for row in rows_of("longer/longer.csv"):
        assert row["episodes"] == "200"
        steps.setdefault((row["study"], row["seed"], int(row["training_steps"])), {})[row["dataset"]] = int(row["successes"])
    quoted = re.findall(r"\| ([a-z_]+) \| (\d) \| (\d+,000) \| (\d+) \| (\d+) \|", text)
    assert {(task, seed, int(count.replace(",", ""))): (int(alone), int(last)) for task, seed, count, alone, last in quoted} == {
        key: (successes["demonstrations"], successes["last round"]) for key, successes in steps.items()
    }
    ends = {task_seed: max(count for *other, count in steps if tuple(other) == task_seed) for task_seed in {key[:2] for key in steps}}
    for task_seed, end in ends.items():
        few, many = steps[*task_seed, 3_000], steps[*task_seed, end]
        assert few["last round"] < many["last round"] < many["demonstrations"], "a part of it, not all"


def _gain(result):
    return mean_difference(result.by_seed(result.final), result.by_seed(result.act))[0]


OTHER_TASKS = {
    "the same cube, joint targets": "pick_cube_joint",
    "Meta-World push": "metaworld_push",
    "Meta-World pick-place": "metaworld_pick_place",
    "Push-T": "pusht",
    "the same cube, one camera": "pick_cube_camera",
}


def test_the_readmes_table_of_other_tasks_is_the_benchmark():
    text = (ROOT / "README.md").read_text()
    heads = "| task | ACT | ACT, best checkpoint that was tried | fine-tuned | own successes | SAC without ACT | LeRobot's SAC |"
    table = text[text.index(heads) :].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert [row[0] for row in rows] == list(OTHER_TASKS)
    for title, act, best, tuned, *peers in rows:
        study = RESULTS / OTHER_TASKS[title]
        summary = summarise(study, "serl_sac")
        assert [act, best] == [f"{100 * sum(shares) / len(shares):.0f} %" for shares in (summary.act, summary.best_act)]
        assert tuned == f"{100 * summary.mean[0]:.0f} % ({100 * min(summary.final):.0f} to {100 * max(summary.final):.0f})"
        measured = [summarise(study, name) for name in ("filtered_bc", "from_scratch", "lerobot_sac") if (study / f"{name}.csv").is_file()]
        assert [cell for cell in peers if cell] == [f"{100 * peer.mean[0]:.0f} %" for peer in measured]
        assert {len(one.seeds) for one in [summary, *measured]} == {5}, title


@pytest.mark.parametrize("plan", sorted((ROOT / "examples" / "benchmark" / "plans").glob("*.yaml")), ids=lambda path: path.stem)
def test_tables_and_what_has_not_run_stand_in_the_document(plan):
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert f"(`{plan.stem}`)\n" in text
    assert with_results(text, load_plan(plan), RESULTS) == text


def test_an_act_that_was_trained_for_longer_is_as_good():
    joint, out = (summarise(RESULTS / study, "serl_sac") for study in ("pick_cube_joint", "pick_cube_ee_trained_out"))
    assert sum(joint.best_act) >= sum(joint.final)
    _, low, high = mean_difference(out.by_seed(out.final), out.by_seed(out.act))
    assert low < 0 < high


STUDIES = sorted(path.parent for path in RESULTS.glob("*/summary.md"))


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_the_tables_of_a_study_follow_from_its_episodes(study):
    """The summary, made anew from the committed CSV files; every seed of the plan is there or said to be missing."""
    meta = json.loads((study / "meta.json").read_text())
    acts = [name for name, variant in meta["plan"]["variants"].items() if variant["method"] in ("serl_sac", "frozen_act")]
    act_from = next(name for name in acts if (study / f"{name}.csv").is_file())
    without_act = [name for name, variant in meta["plan"]["variants"].items() if variant["method"] in ("from_scratch", "lerobot_sac")]
    assert (study / "summary.md").read_text() == table(study, act_from, without_act) + "\n"
    assert {run["variant"] for run in meta["runs"]} == set(variants_in(study))
    for name in variants_in(study):
        rows = read_rows(study / f"{name}.csv")
        assert {row.seed for row in rows} == {run["seed"] for run in meta["runs"] if run["variant"] == name}
        counts = Counter((row.seed, row.step) for row in rows)
        assert set(counts.values()) == {meta["plan"]["episodes"]}


def test_there_are_studies():
    assert STUDIES


def test_the_table_of_what_was_tried_is_the_result_file():
    shares = {}
    for row in rows_of("exploring/practice.csv"):
        share = f"{100 * int(row['successes']) / int(row['episodes']):.0f}"
        shares.setdefault((row["task"], row["seed"], row["settings"]), []).append(share)
    text = (ROOT / "docs" / "algorithm.md").read_text()
    quoted = re.findall(r"^\| ([a-z_]+) \| (\d) \| (rho [^|]+) \| ([\d, ]+) \|$", text, re.MULTILINE)
    assert {(task, seed, settings): values.split(", ") for task, seed, settings, values in quoted} == {
        key: values[:6] for key, values in shares.items()
    }


def test_the_cost_of_all_plans_is_the_sum_of_their_runs():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    table = re.findall(r"^\| `(\w+)` \| (\d+) \| ([\d.]+) \| (\d+) \|$", text[text.index("### Cost") :], re.MULTILINE)
    seconds = {
        file.parent.name: [run["seconds"] for run in json.loads(file.read_text()).get("runs", [])] for file in RESULTS.glob("*/meta.json")
    }
    assert table == [
        (name, str(len(runs)), f"{sum(runs) / 3600:.1f}", f"{max(runs) / 60:.0f}") for name, runs in sorted(seconds.items()) if runs
    ]


def test_the_table_of_ways_to_deploy_is_the_result_files():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    section = text[text.index("### Which policy is deployed") :].split("\n### ")[0]
    assert deployed.table(RESULTS / "deployed") in section
    assert (RESULTS / "deployed" / "table.md").read_text().strip() in section
    for _, _, _, successes, _ in deployed.measurements(RESULTS / "deployed"):
        assert successes["best"] >= successes["ACT"]
    for meta in (RESULTS / "deployed").glob("*/meta.json"):
        assert all(re.fullmatch("[0-9a-f]{40}", run["commit"]) for run in json.loads(meta.read_text())["runs"])
