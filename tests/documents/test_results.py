"""What README and docs claim of the quickstart, speed, durability and the robot side stands in the committed result files."""

import csv
import json
import re

import hardware
import pytest
from result_files import RESULTS, ROOT, rows_of
from speed import read_lines
from speed import table as speed_table

QUICKSTART = RESULTS / "quickstart"
SEEDS = sorted(path.name for path in QUICKSTART.glob("seed*"))


def evaluations(seed):
    with (QUICKSTART / seed / "metrics" / "evaluations.csv").open() as handle:
        return {row["name"]: (int(row["successes"]), int(row["trials"])) for row in csv.DictReader(handle)}


def test_three_seeds_are_there():
    assert SEEDS == ["seed0", "seed1", "seed2"]


def test_the_table_of_the_quickstart_is_the_result_files():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    rows = re.findall(r"^\| (\d) \| (\d+) of 100 \| (\d+) of 100 \|", text, re.MULTILINE)
    assert [(f"seed{seed}", int(act), int(tuned)) for seed, act, tuned in rows] == [
        (seed, evaluations(seed)["act"][0], evaluations(seed)["fine_tuned"][0]) for seed in SEEDS
    ]
    assert all(trials == 100 for seed in SEEDS for _, trials in evaluations(seed).values())


def test_the_summary_follows_from_the_episodes():
    summary = json.loads((QUICKSTART / "summary.json").read_text())
    for seed in SEEDS:
        with (QUICKSTART / seed / "metrics" / "episodes.csv").open() as handle:
            success = [float(row["success"]) for row in csv.DictReader(handle)]
        worst = min(sum(success[i : i + 50]) / 50 for i in range(len(success) - 49))
        assert summary[seed]["worst_50_training_episodes"] == pytest.approx(worst)
        assert summary[seed]["worst_50_training_episodes"] >= summary[seed]["act"] - 0.15


def test_what_was_tried_for_speed_is_the_result_file():
    text = " ".join((ROOT / "docs" / "benchmarks.md").read_text().split())
    with (RESULTS / "speed" / "tried.csv").open(newline="") as handle:
        tried = [(float(row["before"]), float(row["after"])) for row in csv.DictReader(handle)]
    steps = re.findall(r"\| (?:all critics in one|one critic after)[^|]+\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", text)
    assert [tuple(map(float, pair)) for pair in zip(*steps, strict=True)] == tried[:3]


def test_the_speed_table_is_the_result_file():
    lines = read_lines(RESULTS / "speed" / "speed.csv")
    assert len(lines) > 10
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert speed_table(lines) in text


def test_the_hardware_table_is_the_result_file():
    lines = [line for line in hardware.read_lines(RESULTS / "hardware" / "hardware.csv") if line.device == "cpu"]
    assert len(lines) > 20
    assert hardware.table(lines) in (ROOT / "docs" / "hardware.md").read_text()


def test_the_table_of_the_robot_workflow_is_the_result_file():
    rows = {row["name"]: row for row in rows_of("robot_workflow/robot_workflow.csv")}
    text = " ".join((ROOT / "docs" / "benchmarks.md").read_text().split())
    (found,) = re.findall(r"ACT \| (\d+) of 100 \| 0 \| \| fine-tuned \| (\d+) of 100 \| (\d+) \|", text)
    assert found == (rows["act"]["successes"], rows["fine_tuned"]["successes"], rows["fine_tuned"]["episodes"])
    assert len(rows_of("robot_workflow/episodes.csv")) == int(rows["fine_tuned"]["episodes"])


def test_takeovers_make_the_policy_better_on_each_seed_and_the_table_is_the_result_file():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    measured = {(row["arm"], row["seed"], int(row["updates"])): int(row["successes"]) for row in rows_of("interventions/interventions.csv")}
    last = max(updates for _, _, updates in measured)
    assert all(measured["takeovers", seed, last] > measured["none", seed, last] for seed in "012")
    quoted = {}
    for updates, *values in re.findall(rf"^\| ([\d,]+) {r'\| (\d+) ' * 6}\|$", text, re.MULTILINE):
        arms = [(arm, seed) for seed in "012" for arm in ("none", "takeovers")]
        quoted |= {(*arm, int(updates.replace(",", ""))): int(value) for arm, value in zip(arms, values, strict=True)}
    assert quoted == {key: value for key, value in measured.items() if key[0] in ("none", "takeovers")}


def test_the_table_of_the_takeovers_before_the_corrector_is_the_result_file():
    found = re.findall(r"^\| ([\d,]+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", (ROOT / "docs" / "benchmarks.md").read_text(), re.MULTILINE)
    rows = {(row["arm"], row["seed"], int(row["updates"])): int(row["successes"]) for row in rows_of("interventions/after_3_s.csv")}
    quoted = {}
    for updates, *values in found:
        order = [("none", "0"), ("takeovers", "0"), ("none", "1"), ("takeovers", "1")]
        quoted |= {(arm, seed, int(updates.replace(",", ""))): int(value) for (arm, seed), value in zip(order, values, strict=True)}
    assert quoted == rows


def test_the_variants_of_takeovers_are_the_result_file():
    found = re.findall(r"^\| (\d+) \| (\D.*) \| (\d+) \| (\d+) \|$", (ROOT / "docs" / "benchmarks.md").read_text(), re.MULTILINE)
    rows = rows_of("interventions/variants.csv")
    measured = {(row["act_training_steps"], row["who_helps"], row["updates"]): row["successes"] for row in rows}
    names = {(row["act_training_steps"], row["who_helps"]) for row in rows}
    assert {(steps, who): (act, after) for steps, who, act, after in found} == {
        (steps, who): (measured[steps, who, "0"], measured[steps, who, "6000"]) for steps, who in names
    }


def test_no_kill_lost_or_doubled_an_episode():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    *kinds, total = rows_of("durability/kills.csv")
    assert sum(int(row["kills"]) for row in kinds) == int(total["kills"]) >= 200
    assert (total["episodes_lost"], total["episodes_doubled"], total["failed_to_open"]) == ("0", "0", "0")
    assert f"| all | {total['kills']} | 0 |" in text


def test_no_episode_was_lost_in_the_faulty_network():
    (row,) = rows_of("durability/faulty_network.csv")
    assert int(row["episodes"]) >= 600
    assert (row["lost"], row["doubled"], row["refused"]) == ("0", "0", "0")


def test_nothing_grows_in_a_day_and_the_table_is_the_result_file():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    rows = {row["process"]: row for row in rows_of("durability/soak_summary.csv")}
    names = {"learner": "learner", "simulated": "`lerobot-serl-actor`", "completion": "process that completes the dataset"}
    names |= {side: f'robot side "{side}"' for side in ("left", "middle", "right")}
    for process, name in names.items():
        row = rows[process]
        memory = " | ".join(f"{row[f'resident_mb_at_{when}']} MB" for when in ("half", "end"))
        counts = " | ".join(row[f"{what}_at_{when}"] for what in ("threads", "open_files") for when in ("half", "end"))
        assert f"| {name} | {memory} | {counts} |" in text
        if process != "completion":
            assert float(row["resident_mb_at_end"]) < 1.01 * float(row["resident_mb_at_half"])
            assert row["threads_at_end"] == row["threads_at_half"]
            assert row["open_files_at_end"] == row["open_files_at_half"]
        assert float(row["hours"]) > 23.9
        assert (row["lost"], row["doubled"]) == ("0", "0")


def test_no_pause_grows_with_the_memory_and_the_table_is_the_result_file():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    rows = rows_of("durability/pauses.csv")
    assert [int(row.pop("steps_held")) for row in rows] == [1000, 10_000, 100_000]
    for size, row in zip(("1,000", "10,000", "100,000"), rows, strict=True):
        *ours, lerobot = row.values()
        theirs = f"{float(lerobot):,.0f}" if lerobot else ""
        assert f"| {size} | {' | '.join(ours)} | {theirs} |" in text
    for name in ("acknowledged_median_ms", "checkpoint_ms"):
        assert float(rows[-1][name]) < 2 * float(rows[0][name])


def test_the_completing_process_has_stopped_growing():
    (row,) = [row for row in rows_of("durability/soak_4h_summary.csv") if row["process"] == "completion"]
    assert float(row["resident_mb_at_end"]) < 1.02 * float(row["resident_mb_at_half"])
    assert (row["lost"], row["doubled"]) == ("0", "0")


def test_no_hostile_message_did_anything():
    total = rows_of("durability/hostile_messages.csv")[-1]
    assert int(total["sent"]) >= 100_000
    assert int(total["sent"]) == int(total["refused"]) + int(total["still good"])
    assert (total["code executed"], total["crashes"]) == ("0", "0")
    assert total["honest episodes acknowledged"] == total["honest episodes sent"]


def test_the_control_loop_is_fast_enough():
    (row,) = rows_of("control_loop/control_loop.csv")
    assert float(row["median_ms"]) <= 1
    assert float(row["p99_ms"]) <= 2


def test_the_tracking_table_is_the_result_file():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    for row in rows_of("franka/tracking.csv"):
        unit = row["unit"]
        assert f"| {float(row['rms']):.4f} {unit} | {float(row['max']):.4f} {unit} |" in text
        assert f"| {float(row['real_time_factor']):.2f} |" in text
