"""Metric files: appending, surviving a kill, resuming, reading."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_serl.report import metrics_files
from lerobot_serl.report.metrics_files import (
    EPISODE_COLUMNS,
    EVALUATION_COLUMNS,
    LEARNER_LEADING_COLUMNS,
    CsvAppender,
    MetricsDirectory,
    MetricsFormatError,
    MissingMetricsError,
    RunMetrics,
    read_table,
)

COLUMNS = ("step", "env_steps", "phase", "loss")


def write_steps(path: Path, steps: list[int]) -> None:
    with CsvAppender(path, COLUMNS) as appender:
        for step in steps:
            appender.append({"step": step, "env_steps": 10 * step, "phase": "actor", "loss": step / 3})


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "learner.csv"
    with CsvAppender(path, COLUMNS) as appender:
        appender.append({"step": 1, "env_steps": np.int64(5), "phase": 'odd, "name"', "loss": 0.1 + 0.2})
        appender.append({"step": True, "loss": math.nan})
        appender.append({"step": 3, "env_steps": None, "phase": "actor", "loss": -math.inf})
    table = read_table(path, required=COLUMNS)
    assert table["step"] == [1.0, 1.0, 3.0]
    assert table["phase"] == ['odd, "name"', "", "actor"]
    assert table["loss"][0] == 0.1 + 0.2
    assert math.isnan(table["loss"][1])
    assert table["loss"][2] == -math.inf
    assert math.isnan(table["env_steps"][2])


@given(cut=st.integers(1, 200))
def test_a_file_cut_anywhere_keeps_its_whole_rows(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "learner.csv"
    write_steps(path, list(range(12)))
    data = path.read_bytes()
    header_bytes = data.index(b"\n") + 1
    kept = data[: max(header_bytes, len(data) - cut)]
    path.write_bytes(kept)
    whole = kept.count(b"\n") - 1
    assert read_table(path)["step"] == [float(step) for step in range(whole)]
    with CsvAppender(path, COLUMNS) as appender:
        appender.append({"step": 99})
    assert read_table(path)["step"] == [*(float(step) for step in range(whole)), 99.0]


def test_a_torn_header_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "learner.csv"
    path.write_bytes(b"step,env_st")
    with pytest.raises(MetricsFormatError, match="no complete header"):
        read_table(path)
    write_steps(path, [4])
    assert read_table(path)["step"] == [4.0]


def test_torn_line_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "learner.csv"
    write_steps(path, [1])
    path.write_bytes(path.read_bytes() + b"9" * 200_000)
    write_steps(path, [2])
    assert read_table(path)["step"] == [1.0, 2.0]


def test_resume_drops_rows_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "learner.csv"
    write_steps(path, [50, 100, 150, 200])
    with CsvAppender(path, COLUMNS, resume_below=("step", 100)) as appender:
        appender.append({"step": 120, "loss": 7.0})
    table = read_table(path)
    assert table["step"] == [50.0, 100.0, 120.0]
    assert table["loss"] == [50 / 3, 100 / 3, 7.0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["learner.csv"]


def test_resume_keeps_rows_without_a_value_and_knows_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "learner.csv"
    with CsvAppender(path, COLUMNS) as appender:
        appender.append({"step": None, "loss": 1.0})
        appender.append({"step": 5})
    CsvAppender(path, COLUMNS, resume_below=("step", 1)).close()
    assert read_table(path)["loss"] == [1.0]
    with pytest.raises(ValueError, match=r"no column.*nothing"):
        CsvAppender(path, COLUMNS, resume_below=("nothing", 1))


def test_unknown_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "learner.csv"
    write_steps(path, [1])
    with CsvAppender(path, ("step", "loss")) as appender:
        assert appender.columns == COLUMNS
        with pytest.raises(ValueError, match=r"no column\(s\) extra, more"):
            appender.append({"step": 1, "extra": 2, "more": 3})
    with pytest.raises(ValueError, match=r"no column\(s\) sigma"):
        CsvAppender(path, (*COLUMNS, "sigma"))
    assert read_table(path)["step"] == [1.0]


def test_values_that_would_break_the_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "learner.csv"
    with CsvAppender(path, COLUMNS) as appender:
        with pytest.raises(ValueError, match="line break"):
            appender.append({"phase": "a\nb"})
        with pytest.raises(TypeError, match="'loss' needs a number, not str"):
            appender.append({"loss": "much"})
    with pytest.raises(ValueError, match="closed"):
        appender.append({"step": 1})
    assert read_table(path)["step"] == []


def test_threads_do_not_mix_rows(tmp_path: Path) -> None:
    path = tmp_path / "learner.csv"
    with CsvAppender(path, COLUMNS) as appender:

        def work(base: int) -> None:
            for number in range(200):
                appender.append({"step": base + number, "phase": "actor"})

        threads = [threading.Thread(target=work, args=(1000 * index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expected = [1000.0 * index + number for index in range(4) for number in range(200)]
    assert sorted(read_table(path)["step"]) == expected


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
    evaluations["successes"][0] = 11.0
    with pytest.raises(MetricsFormatError, match=r"evaluations\.csv row 1: 11 of 10"):
        RunMetrics(evaluations=evaluations).act_success()


@pytest.mark.parametrize(
    "content", [bytes(300) + b"\n", b"\x82\xff" * 50 + b"\n", b'step,env_steps,wall_s,phase\n"' + b"1" * 200_000 + b'",2,3,critic\n']
)
def test_garbage_is_told_by_file_whoever_meets_it(tmp_path, content):
    """What a power loss or a bad disk leaves; the appender's message was a codec's, without a file."""
    path = tmp_path / "learner.csv"
    path.write_bytes(content)
    readers = [
        lambda: read_table(path, LEARNER_LEADING_COLUMNS),
        lambda: CsvAppender(path, LEARNER_LEADING_COLUMNS, resume_below=("step", 5.0)),
    ]
    for read in readers:
        with pytest.raises(ValueError, match=rf"{path}.*to go on without it"):
            read()
    assert path.read_bytes() == content
