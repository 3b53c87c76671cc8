"""Metric files: reading, and what their episodes say of a policy."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_csv_appender import write_steps

from lerobot_serl.replay.episode import ActedAs
from lerobot_serl.report import metrics_files
from lerobot_serl.report.csv_appender import CsvAppender
from lerobot_serl.report.interval import SuccessCount
from lerobot_serl.report.metrics_files import (
    ACT,
    DEPLOYED,
    EPISODE_COLUMNS,
    EVALUATION_COLUMNS,
    EXPLORING,
    MetricsDirectory,
    MetricsFormatError,
    MissingMetricsError,
    RunMetrics,
    read_table,
)


def episodes_of(*rows: tuple[str, str, float, float]) -> RunMetrics:
    """Of rows (phase, acted_as, success, interventions)."""
    names = ("phase", "acted_as", "success", "interventions")
    return RunMetrics(episodes={name: [row[index] for row in rows] for index, name in enumerate(names)})


def test_the_words_are_those_of_the_actor_process() -> None:
    assert [acted_as.value for acted_as in ActedAs] == [EXPLORING, DEPLOYED, ACT]


def test_episodes_are_told_apart_by_how_they_were_carried_out() -> None:
    metrics = episodes_of(
        ("collect", "ACT", 1, 0), ("collect", "", 0, 0), ("actor", "exploring", 1, 0), ("actor", "deployed", 1, 3), ("actor", "ACT", 0, 2)
    )  # fmt: skip
    assert metrics.rows() == [0, 1, 2, 3, 4]
    assert metrics.rows(EXPLORING) == [1, 2]  # older releases wrote nothing, and always explored
    assert metrics.rows(ACT, collecting=False) == [4]
    assert metrics.unaided(ACT) == [0]
    assert metrics.unaided(collecting=False) == [2]
    assert metrics.kind_of_fine_tuned() == EXPLORING
    assert episodes_of(("actor", "deployed", 1, 0)).kind_of_fine_tuned() == DEPLOYED
    assert episodes_of(("collect", "deployed", 1, 0)).kind_of_fine_tuned() == EXPLORING


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,step\n", "'step' is in the header twice"),
        ("step,,loss\n", "column 2 of the header has no name"),
        ("step,loss\n", "lacks the column.*env_steps"),
        ("step,env_steps\n1\n", "line 2: 1 cells, expected 2"),
        ("step,env_steps\n1,2\n3,four\n", "line 3: 'four' in column 'env_steps' is not a number"),
        ("", "no complete header"),
    ],
)
def test_malformed_files_are_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(text)
    with pytest.raises(MetricsFormatError, match=message) as caught:
        read_table(path, required=("step", "env_steps"))
    assert str(path) in str(caught.value)


def test_huge_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert metrics_files.MAX_FILE_BYTES == 2**30
    path = tmp_path / "learner.csv"
    write_steps(path, [1, 2, 3])
    monkeypatch.setattr(metrics_files, "MAX_FILE_BYTES", path.stat().st_size)
    assert len(read_table(path)["step"]) == 3
    monkeypatch.setattr(metrics_files, "MAX_FILE_BYTES", path.stat().st_size - 1)
    with pytest.raises(MetricsFormatError, match="are not read"):
        read_table(path)


def test_run_info_round_trip_and_errors(tmp_path: Path) -> None:
    directory = MetricsDirectory(tmp_path)
    assert directory.read_run_info() == {}
    directory.write_run_info({"name": "a", "horizon": 8})
    assert directory.read_run_info() == {"name": "a", "horizon": 8}
    for text in ("[1]", "{"):
        directory.run_info.write_text(text)
        with pytest.raises(MetricsFormatError, match=r"run\.json"):
            directory.read_run_info()


def test_what_is_best_is_read_or_refused(tmp_path: Path) -> None:
    directory = MetricsDirectory(tmp_path)
    with CsvAppender(directory.episodes, EPISODE_COLUMNS) as appender:
        appender.append({"env_steps": 1, "success": 1})
    assert directory.load().best == {}
    directory.best.write_text('{"text": "Best: ACT.", "updates": 5}')
    assert directory.load().best == {"text": "Best: ACT.", "updates": 5}
    for text in ("[1]", "{", "{}", '{"text": 5}', "[" * 100_000):
        directory.best.write_text(text)
        with pytest.raises(MetricsFormatError, match=r"best\.json .*move that file away"):
            directory.load()


def test_load_orders_episodes_and_leaves_out_unknown_outcomes(tmp_path: Path) -> None:
    directory = MetricsDirectory(tmp_path)
    with pytest.raises(MissingMetricsError, match=str(directory.directory)):
        directory.load()
    with CsvAppender(directory.episodes, EPISODE_COLUMNS) as appender:
        for env_steps, success in ((30, 1), (10, 0), (20, None)):
            appender.append({"env_steps": env_steps, "success": success, "phase": "collect"})
    assert directory.load().episodes["env_steps"] == [10.0, 30.0]
    with CsvAppender(directory.episodes, EPISODE_COLUMNS) as appender:
        appender.append({"env_steps": 40, "success": 2})
    with pytest.raises(MetricsFormatError, match="success must be 0 or 1, not 2"):
        directory.load()


def test_act_success_prefers_evaluations_over_the_collect_phase() -> None:
    episodes = {"phase": ["collect", "collect", "actor"], "success": [1.0, 0.0, 1.0]}
    collected = RunMetrics(episodes=episodes).act_success()
    assert collected is not None
    assert (collected.successes, collected.trials, collected.source) == (1, 2, "collect phase")
    rows = [(0.0, 0.0, "act", 3.0, 10.0), (9.0, 5.0, "act", 4.0, 10.0), (9.0, 5.0, "fine_tuned", 9.0, 10.0)]
    evaluations = {name: [row[index] for row in rows] for index, name in enumerate(EVALUATION_COLUMNS)}
    evaluated = RunMetrics(episodes=episodes, evaluations=evaluations).act_success()
    assert evaluated is not None
    assert (evaluated.successes, evaluated.trials, evaluated.source) == (7, 20, "evaluations")
    assert RunMetrics().act_success() is None
    own = {"phase": [*episodes["phase"], "collect", "actor"], "success": [1.0, 0.0, 1.0, 0.0, 0.0]}
    own["acted_as"] = ["exploring", "exploring", "deployed", "ACT", "ACT"]
    assert RunMetrics(episodes=own).act_success() == SuccessCount(0, 2, "ACT episodes")
    assert RunMetrics(episodes=own, evaluations=evaluations).act_success() == evaluated
    evaluations["successes"][0] = 11.0
    with pytest.raises(MetricsFormatError, match=r"evaluations\.csv row 1: 11 of 10"):
        RunMetrics(evaluations=evaluations).act_success()


def test_what_practice_began_with_is_not_taken_for_act() -> None:
    """A trained checkpoint goes on: the first episodes are its own."""
    start = [("collect", "exploring", 1.0, 0.0), ("collect", "deployed", 1.0, 1.0)]
    assert episodes_of(*start).act_success() is None
    assert episodes_of(*start, ("actor", "ACT", 0.0, 0.0)).act_success() == SuccessCount(0, 1, "ACT episodes")
