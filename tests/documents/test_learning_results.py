"""What README and docs claim of learning stands in the committed result files."""

import json
import re
from collections import Counter

import deployed
import pytest
from result_files import RESULTS, ROOT, rows_of
from study.collect import act_tried
from study.document import with_results
from study.plan import load_plan
from study.results import read_rows, success_by_step
from study.summary import dip_by_chance, mean_difference, summarise, table, variants_in


def mean_checkpoints(study):
    tried = {str(seed): shares for seed, shares in act_tried(RESULTS / study, "serl_sac").items()}
    return {int(steps): sum(100 * seed[steps] for seed in tried.values()) / len(tried) for steps in tried["0"]}


def test_the_readme_says_what_the_benchmark_measured():
    directory = RESULTS / "pick_cube_ee_plateau"
    summary, cloned = summarise(directory, "serl_sac"), summarise(directory, "filtered_bc")
    text = (ROOT / "README.md").read_text()
    assert "\n| seed | ACT | ACT, best checkpoint that was tried | fine-tuned |\n" in text
    rows = re.findall(r"^\| (\d) \| (\d+) of 50 \| (\d+) of 50 \| (\d+) of 50 \|$", text, re.MULTILINE)
    counts = [[round(50 * share) for share in shares] for shares in (summary.act, summary.best_act, summary.final)]
    assert [tuple(map(int, row)) for row in rows] == list(zip(summary.seeds, *counts, strict=True))
    _, low, high = mean_difference(summary.by_seed(summary.final), summary.by_seed(summary.act))
    words = " ".join(text.split())
    assert f"On average {100 * sum(summary.act) / len(summary.act):.0f} % became {100 * summary.mean[0]:.0f} %" in words
    assert f"difference {100 * low:+.0f} to {100 * high:+.0f} points" in words
    scratch, lerobot = (summarise(directory, name) for name in ("from_scratch", "lerobot_sac"))
    assert cloned.seeds == scratch.seeds == lerobot.seeds == summary.seeds
    assert (
        f"ACT trained anew on its own successes went to {100 * cloned.mean[0]:.0f} %, our SAC without ACT to {100 * scratch.mean[0]:.0f} % and "
        f"LeRobot's own SAC to {100 * lerobot.mean[0]:.0f} %, these two after the arm had failed for 4,000 steps."
    ) in words
    assert max(_mean_success(directory, name, at=4_000) for name in ("from_scratch", "lerobot_sac")) < 0.05
    steps, shares = zip(*((f"{steps:,}", f"{share:.0f}") for steps, share in mean_checkpoints("pick_cube_ee_plateau").items()), strict=True)
    assert f"after {_listed(steps)} steps it succeeds in {_listed(shares)} % of the episodes" in words
    measured = {row["policy"]: f"{int(row['successes']) / 2:.0f}" for row in rows_of("dips/dips.csv")}
    drop = max(100 * (act - worst) for act, worst in zip(summary.act, summary.worst, strict=True))
    assert f"Fifty episodes of practice in a row, exploration included, were up to {drop:.0f} points below ACT's fifty" in words
    assert f"200 other episodes say ACT {measured['ACT']}, practice {measured['collecting']} %" in words


def test_the_readme_says_what_twenty_demonstrations_gave():
    summary = summarise(RESULTS / "pick_cube_ee", "serl_sac")
    others = {name: summarise(RESULTS / "pick_cube_ee", name) for name in ("lerobot_sac", "from_scratch")}
    assert {other.seeds for other in others.values()} == {summary.seeds}
    act, final = 100 * sum(summary.act) / len(summary.act), 100 * summary.mean[0]
    lerobot, scratch = (f"{100 * other.mean[0]:.0f} %" for other in others.values())
    words = " ".join((ROOT / "README.md").read_text().split())
    assert f"{act:.0f} % became {final:.0f} %; LeRobot's own SAC ended at {lerobot}, ours without ACT at {scratch}." in words


def _mean_success(directory, variant, at):
    """Over the seeds, of the evaluations within 1,000 environment steps after `at`."""
    early = [row.success for row in read_rows(directory / f"{variant}.csv") if at <= row.step < at + 1_000]
    return sum(early) / len(early)


def test_an_act_that_more_training_does_not_make_better():
    directory = RESULTS / "pick_cube_ee_plateau"
    result, text = summarise(directory, "serl_sac"), " ".join((ROOT / "docs" / "benchmarks.md").read_text().split())
    steps, shares = zip(*((f"{steps:,}", f"{share:.0f}") for steps, share in mean_checkpoints(directory.name).items()), strict=True)
    assert f"After {_listed(steps)} its mean over the seeds is {_listed(shares)} %" in text
    dips = {seed: 100 * (act - worst) for seed, act, worst in zip(result.seeds, result.act, result.worst, strict=True)}
    ((seed, dip),) = ((seed, dip) for seed, dip in dips.items() if dip > 15)
    assert f"practice of seed {seed} fell {dip:.0f} points below ACT, that of the others at most {sorted(dips.values())[-2]:.0f}." in text
    practice = [row.seed for row in read_rows(directory / "serl_sac.training.csv")]
    median, twentieth = dip_by_chance(result.act[result.seeds.index(seed)], practice.count(seed))
    assert f"the worst 50 lie {100 * median:.0f} points below in the median, and {100 * twentieth:.0f} or more in one" in text
    cloned = summarise(directory, "filtered_bc")
    drop = max(100 * (act - worst) for act, worst in zip(cloned.act, cloned.worst, strict=True))
    assert f"`filtered_bc`, which practises without any exploration, fell {drop:.0f} in its worst seed." in text
    rows = rows_of("dips/dips.csv")
    assert {(row["study"], row["seed"], row["episodes"]) for row in rows} == {(directory.name, str(seed), "200")}
    ways = ("ACT", "deployed: the mean edit", "collecting")
    counts = [row["successes"] for way in ways for row in rows if row["policy"] == way]
    assert f"| {seed} | {int(rows[0]['step']):,} | {' | '.join(counts)} |" in text


CUBE, OTHERS = ("pick_cube_ee", "pick_cube_ee_plateau", "pick_cube_joint"), ("metaworld_push", "metaworld_pick_place", "pusht")


def test_what_filtered_cloning_does_to_act():
    text = " ".join((ROOT / "docs" / "benchmarks.md").read_text().split())
    assert "`filtered_bc` makes ACT better on the cube and worse on the other tasks (tables below)." in text
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


def test_the_readme_says_what_the_other_tasks_gave():
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


def test_the_readme_says_how_far_practice_of_the_other_tasks_fell():
    deepest = {}
    for study in OTHER_TASKS.values():
        summary = summarise(RESULTS / study, "serl_sac")
        dips = sorted(100 * (act - worst) for act, worst in zip(summary.act, summary.worst, strict=True))
        deepest[study] = dips.pop()
        if study == "metaworld_pick_place":
            one, deepest["pick-place's others"] = deepest.pop(study), dips[-1]
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"practice fell at most {max(deepest.values()):.0f} points below ACT there, and {one:.0f} in one run of pick-place." in text


def test_the_evaluations_of_what_was_tried_are_the_result_file():
    """Each sentence, with the shares of successes in the place of its numbers."""
    shares = {}
    for row in rows_of("exploring/evaluations.csv"):
        settings = row["settings"].removeprefix("rho mean rms step, 3 knots, pessimism 1").removeprefix(", ")
        share = f"{100 * int(row['successes']) / int(row['episodes']):.0f}"
        shares.setdefault((row["task"], settings), {}).setdefault(round(int(row["step"]), -3), []).append(share)
    ee, joint, push, place = (
        {settings: steps for (task, settings), steps in shares.items() if task == name}
        for name in ("pick_cube_ee", "pick_cube_joint", "metaworld_push", "metaworld_pick_place")
    )
    prior = "prior of 300 steps"
    worst = {
        (row["task"], row["settings"].endswith(prior)): 2 * int(row["successes_in_worst_50"]) for row in rows_of("exploring/worst_50.csv")
    }
    text = " ".join((ROOT / "docs" / "algorithm.md").read_text().split())
    for sentence in (
        f"on seeds 0 and 1 gave {_both(ee[''][12000])} % without it, {_both(ee['advantage penalty 0.1'][12000])} % with 0.1.",
        f"{_both(ee[prior][12000])} % with `n₀ / (n₀ + N)`",
        f"after 16,000 steps {_both(joint['again'][16000])} % without it, after 15,000 {_both(joint[prior][15000])} % with it",
        f"a prior of 100 gave {_both(joint['prior of 100 steps'][16000])} %",
        f"on both tasks ({push[''][5000][0]} % each; ACT 60 and 62 %)",
        f"fell to {worst['metaworld_push', False]} % on push and to {worst['metaworld_pick_place', False]} % on pick-place",
        f"with it to {worst['metaworld_push', True]} and {worst['metaworld_pick_place', True]} %",
        f"the evaluations were {push[prior][5000][0]} and {place[prior][5000][0]} %",
        f"push is at {push[''][20000][0]} and {push[prior][20000][0]} %, pick-place at {place[''][20000][0]} and {place[prior][20000][0]} %",
    ):
        assert sentence in text
    assert push[""][5000] == place[""][5000]


def _both(seeds):
    return " and ".join(seeds)


@pytest.mark.parametrize(
    "study",
    [
        "pick_cube_ee_trained_out",
        "pick_cube_ee_plateau",
        "pick_cube_joint",
        "metaworld_push",
        "metaworld_pick_place",
        "pusht",
        "pick_cube_camera",
    ],
)
def test_seeds_are_told_one_by_one(study):
    result = summarise(RESULTS / study, "serl_sac")
    act, final = ([f"{100 * share:.0f}" for share in shares] for shares in (result.act, result.final))
    (section,) = re.findall(rf"^### [^\n]*`{study}`\)$(.*?)^###", (ROOT / "docs" / "benchmarks.md").read_text(), re.MULTILINE | re.DOTALL)
    assert re.search(rf"[Ff]rom {_listed(act)}( %)? to {_listed(final)} %", " ".join(section.split()))


@pytest.mark.parametrize("plan", sorted((ROOT / "examples" / "benchmark" / "plans").glob("*.yaml")), ids=lambda path: path.stem)
def test_tables_and_what_has_not_run_stand_in_the_document(plan):
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert f"(`{plan.stem}`)\n" in text
    assert with_results(text, load_plan(plan), RESULTS) == text


def test_which_seeds_of_joint_targets_stay_below_the_others():
    directory = RESULTS / "pick_cube_joint"
    result, rows = summarise(directory, "serl_sac"), read_rows(directory / "serl_sac.csv")
    late = [[100 * share for step, share in success_by_step(rows, seed).items() if step >= 10_000] for seed in result.seeds]
    text = " ".join((ROOT / "docs" / "benchmarks.md").read_text().split())
    sentence = "from 10,000 steps on seed 1 is between {:.0f} and {:.0f} % and seed 3 between {:.0f} and {:.0f} %."
    assert sentence.format(min(late[1]), max(late[1]), min(late[3]), max(late[3])) in text


def _listed(words):
    return f"{', '.join(words[:-1])} and {words[-1]}"


def test_the_deepest_dip_of_pick_place_and_what_chance_would_make_of_it():
    directory = RESULTS / "metaworld_pick_place"
    result = summarise(directory, "serl_sac")
    dips = [100 * (act - worst) for act, worst in zip(result.act, result.worst, strict=True)]
    deepest = max(range(len(dips)), key=dips.__getitem__)
    episodes = sum(row.seed == result.seeds[deepest] for row in read_rows(directory / "serl_sac.training.csv"))
    median, twentieth = (100 * dip for dip in dip_by_chance(result.act[deepest], episodes))
    text = " ".join((ROOT / "docs" / "benchmarks.md").read_text().split())
    act, worst, others = 100 * result.act[deepest], 100 * result.worst[deepest], sorted(dips)[-2]
    sentence = (
        f"Practice of seed {result.seeds[deepest]} fell to {worst:.0f} % over 50 episodes, {act - worst:.0f} points below its ACT, before it rose; "
        f"the other seeds' practice stayed within {others:.0f}. Chance is a part of that: of a policy that always succeeds in {act:.0f} % the "
        f"worst 50 of {episodes} episodes lie {median:.0f} points below in the median, and {twentieth:.0f} or more in one run of twenty."
    )
    assert sentence in text


def test_what_is_said_of_act_trained_for_longer_is_in_the_result_files():
    def best(study, seeds):
        tried = json.loads((RESULTS / study / "meta.json").read_text())["act"]
        return sorted(f"{100 * max(tried[seed].values()):.0f}" for seed in seeds)

    joint = sorted(best("pick_cube_joint", "1234"), key=int)
    (push,), (place,), (pusht,) = best("metaworld_push", "1"), best("metaworld_pick_place", "1"), best("pusht", "0")
    (camera,) = best("pick_cube_camera", "2")
    text, readme = (" ".join((ROOT / name).read_text().split()) for name in ("docs/benchmarks.md", "README.md"))
    assert f"have {joint[0]} to {joint[-1]} % with joint targets (seeds 1 to 4, whose practice starts from 100 steps of training)" in text
    assert f"{push} % on Meta-World push (seed 1), {place} % on pick and place (seed 1), {pusht} % on Push-T (seed 0)" in text
    assert f"{camera} % with the camera (seed 2)" in text
    practised = summarise(RESULTS / "pick_cube_joint", "serl_sac")
    tried, final = (100 * sum(shares) / len(shares) for shares in (practised.best_act, practised.final))
    assert f"With joint targets it is {tried:.0f} %, and practice from the early checkpoints ends at {final:.0f} %." in text
    assert tried >= final
    assert "With joint targets the best of ACT's checkpoints is as good as practice from an early one" in readme
    directory = RESULTS / "pick_cube_ee_trained_out"
    result, rows = summarise(directory, "serl_sac"), read_rows(directory / "serl_sac.csv")
    shares = [success_by_step(rows, seed) for seed in result.seeds]
    late = [f"{100 * next(share for step, share in by_step.items() if step >= 8_000):.0f}" for by_step in shares]
    lowest, seed = min((min(by_step.values()), seed) for seed, by_step in zip(result.seeds, shares, strict=True))
    dips = [100 * (act - worst) for act, worst in zip(result.act, result.worst, strict=True)]
    act, (mean, low, high) = sum(result.act) / len(result.act), mean_difference(result.by_seed(result.final), result.by_seed(result.act))
    assert f"after 8,000 steps the evaluations were at {_listed(late)} %, the lowest of all was {100 * lowest:.0f} % (seed {seed})" in text
    assert f"over 50 episodes practice fell {min(dips):.0f} to {max(dips):.0f} points below ACT." in text
    assert f"It has {100 * act:.0f} % then, more than `filtered_bc` makes of the early one" in text
    assert f"ten times as long, it has {100 * act:.0f} % there by itself, and {100 * (act + mean):.0f} % after practice." in readme
    assert low < 0 < high
    assert "the interval of the difference includes 0" in text


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
    total = sum(map(sum, seconds.values())) / 3600
    assert f"Together {total:.0f} core hours: {total / 2:.0f} hours on two cores." in text


def test_what_is_said_of_ways_to_deploy_is_the_result_files():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    section = text[text.index("### Which policy is deployed") :].split("\n### ")[0]
    assert deployed.table(RESULTS / "deployed") in section
    assert (RESULTS / "deployed" / "table.md").read_text().strip() in section
    words = " ".join(section.split())
    for shortfall in deployed.shortfalls(RESULTS / "deployed"):
        task, seed, step = re.match(r"(\S+) seed (\d), ([\d,]+) steps", shortfall).groups()
        assert (
            f"on {task.removeprefix('metaworld_').replace('_', '-')}, seed {seed}, after {int(step.replace(',', '')) // 1000:,},000 steps"
            in words
        )
    for _, _, _, successes, _ in deployed.measurements(RESULTS / "deployed"):
        assert successes["best"] >= successes["ACT"]
    for meta in (RESULTS / "deployed").glob("*/meta.json"):
        assert all(re.fullmatch("[0-9a-f]{40}", run["commit"]) for run in json.loads(meta.read_text())["runs"])


def test_what_is_said_of_long_episodes_is_the_practice():
    text = " ".join((ROOT / "docs" / "benchmarks.md").read_text().split())
    late, counts = {}, {}
    for task in ("metaworld_peg_insert_side", "metaworld_box_close", "pick_cube_ee", "pick_cube_joint"):
        rows = read_rows(RESULTS / "deployed" / task / "serl_sac.training.csv")
        practice = {seed: [row.success for row in rows if row.seed == seed] for seed in (0, 1)}
        late[task] = [sum(successes[190:240]) for successes in practice.values() if successes]
        counts[task] = [len(successes) for successes in practice.values() if successes]
    peg, box, ee, joint = (late[task] for task in late)
    assert (
        f"peg-insert-side succeeds in {peg[0]:.0f} and {peg[1]:.0f} of 50, box-close in {box[0]:.0f} and {box[1]:.0f}, and the cube" in text
    )
    assert f"{ee[0]:.0f} with displacements and {joint[0]:.0f} with joint targets (seed 0)" in text
    few = counts["metaworld_peg_insert_side"] + counts["metaworld_box_close"]
    assert f"these tasks {min(few)} to {max(few)}." in text
