"""Reading evaluations: LeRobot's two forms, runs, and files that cannot be trusted."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from evaluation_files import write_evaluation, write_seeded

from lerobot_serl.report import evaluations
from lerobot_serl.report.csv_appender import CsvAppender
from lerobot_serl.report.evaluations import ComparisonError, read_outcomes
from lerobot_serl.report.metrics_files import EPISODE_COLUMNS, MetricsDirectory

SIX = (True, False, True, True, False, False)


KINDS = {"e": "exploring", "d": "deployed", "a": "ACT", "": ""}


def write_practice(run_dir: Path, successes: str, helped: str = "", collect: int = 0, kinds: str = "") -> Path:
    """A run whose episodes succeed where `successes` has a 1, with a person's help where `helped` has one, each of its kind."""
    with CsvAppender(MetricsDirectory(run_dir).episodes, EPISODE_COLUMNS) as table:
        for number, success in enumerate(successes):
            phase = "collect" if number < collect else "actor"
            help_steps = 3 if helped[number : number + 1] == "1" else 0
            row = {"episode": number, "env_steps": 10 * (number + 1), "phase": phase, "success": int(success), "interventions": help_steps}
            table.append({**row, "acted_as": KINDS[kinds[number : number + 1]]})
    return run_dir


def test_a_directory_a_file_and_the_folder_above_mean_the_same(tmp_path: Path) -> None:
    directory = write_evaluation(tmp_path / "run" / "evaluation", SIX)
    for given in (directory, directory / "eval_info.json", tmp_path / "run"):
        outcomes = read_outcomes(given, 50)
        assert outcomes.source == directory / "eval_info.json"
        assert outcomes.tasks == (("franka_sim 0", SIX),)
        assert (outcomes.successes, outcomes.seeds, outcomes.practice) == (SIX, None, False)
    assert read_outcomes(directory / "eval_info.json", 50).folder == directory


def test_tasks_are_ordered_by_name_whatever_order_they_ended_in(tmp_path: Path) -> None:
    one = read_outcomes(write_evaluation(tmp_path / "a", SIX, "push", reach=SIX[::-1]), 50)
    two = read_outcomes(write_evaluation(tmp_path / "b", SIX[::-1], "reach", push=SIX), 50)
    assert one.tasks == two.tasks == (("push 0", SIX), ("reach 0", SIX[::-1]))
    assert one.successes == SIX + SIX[::-1]


def test_seeds_are_read_where_they_stand(tmp_path: Path) -> None:
    directory = write_seeded(tmp_path, SIX, 1000)
    assert read_outcomes(directory, 50).seeds == (1000, 1001, 1002, 1003, 1004, 1005)
    content = json.loads((directory / "eval_info.json").read_text())
    content["per_episode"][3]["seed"] = None
    (directory / "eval_info.json").write_text(json.dumps(content))
    assert read_outcomes(directory, 50).seeds is None


def test_numbers_0_and_1_are_outcomes(tmp_path: Path) -> None:
    assert read_outcomes(write_evaluation(tmp_path, [1, 0, True]), 50).successes == (True, False, True)


def test_a_run_gives_its_newest_episodes_without_help_after_the_start_up(tmp_path: Path) -> None:
    run = write_practice(tmp_path, "1110100110", helped="0000010001", collect=3)
    outcomes = read_outcomes(run, 4)
    assert outcomes.practice
    assert outcomes.successes == (True, False, True, True)
    assert len(read_outcomes(run, 50).successes) == 5


def test_a_run_gives_its_episodes_as_deployed_if_it_has_any(tmp_path: Path) -> None:
    run = write_practice(tmp_path / "a", "1110100110", helped="0000000100", collect=3, kinds="addededdad")
    outcomes = read_outcomes(run, 50)
    assert outcomes.deployed
    assert outcomes.successes == (True, False, False)
    assert read_outcomes(run, 2).successes == (False, False)
    none_yet = read_outcomes(write_practice(tmp_path / "b", "1110", collect=1, kinds="deae"), 50)
    assert (none_yet.deployed, none_yet.successes) == (False, (True, False))  # without ACT's


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged: it is not JSON"),
        ("[" * 100_000, "is damaged: it is not JSON"),
        ("[]", "the file is a list, expected a JSON dict"),
        ("{}", "has neither per_task nor per_episode: it is no evaluation of lerobot-eval"),
        ('{"per_task": {}}', "per_task is a dict, expected a JSON list"),
        ('{"per_task": [{"task_group": "x", "task_id": true, "metrics": {}}]}', "task_id is True, expected a JSON int"),
        ('{"per_task": [{"task_group": "x", "task_id": 0, "metrics": {"successes": 0.5}}]}', "successes is 0.5, expected a JSON list"),
        ('{"per_episode": [{"success": true}, {}]}', "success of episode 1 is None, expected true or false"),
        ('{"per_episode": [3]}', "an episode is 3, expected a JSON dict"),
    ],
)
def test_damaged_files_are_named_with_the_remedy(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "eval_info.json"
    path.write_text(text)
    with pytest.raises(ComparisonError) as error:
        read_outcomes(tmp_path, 50)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "lerobot-eval writes it anew" in str(error.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.5, 1.0, 2, -1, "true", None, [True]])
def test_outcomes_other_than_true_and_false_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(ComparisonError, match=r"success of episode 1 is .*, expected true or false"):
        read_outcomes(write_evaluation(tmp_path, [True, value]), 50)


def test_a_task_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = write_evaluation(tmp_path, SIX) / "eval_info.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"per_task": content["per_task"] * 2}))
    with pytest.raises(ComparisonError, match="it has task franka_sim 0 twice"):
        read_outcomes(tmp_path, 50)


def test_huge_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_evaluation(tmp_path, SIX)
    monkeypatch.setattr(evaluations, "MAX_EVALUATION_BYTES", 100)
    with pytest.raises(ComparisonError, match="bytes; an evaluation of more than 100 is not read"):
        read_outcomes(tmp_path, 50)


def test_what_is_not_there_or_ambiguous_is_named(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match="nowhere does not exist; give lerobot-eval's --output_dir"):
        read_outcomes(tmp_path / "nowhere", 50)
    with pytest.raises(ComparisonError, match=r"holds neither eval_info.json .* nor metrics/episodes.csv"):
        read_outcomes(tmp_path, 50)
    write_evaluation(tmp_path / "one", SIX)
    write_evaluation(tmp_path / "two", SIX)
    with pytest.raises(ComparisonError, match=r"holds one/eval_info.json, two/eval_info.json; give the one that you mean"):
        read_outcomes(tmp_path, 50)
    write_practice(write_evaluation(tmp_path / "both", SIX), "111")
    with pytest.raises(ComparisonError, match=r"holds eval_info.json, metrics/episodes.csv; give the one"):
        read_outcomes(tmp_path / "both", 50)
