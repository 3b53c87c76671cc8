"""The writer of metric files: appending, surviving a kill, resuming, files of older releases."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_serl.report import csv_appender
from lerobot_serl.report.csv_appender import CsvAppender
from lerobot_serl.report.metrics_files import LEARNER_LEADING_COLUMNS, MetricsFormatError, read_table

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
    with pytest.raises(ValueError, match=r"lacks the column\(s\) nothing"):
        CsvAppender(path, COLUMNS, resume_below=("nothing", 1))


def test_a_name_that_comes_up_in_the_middle_becomes_a_column(tmp_path: Path) -> None:
    """A metric that nobody had declared ended the run."""
    path = tmp_path / "learner.csv"
    write_steps(path, [1])
    with CsvAppender(path, ("step", "loss")) as appender:
        appender.append({"step": 2, "loss": 0.5})
        appender.append({"step": 3, "extra, 2": 7, "more": None})
        appender.append({"more": 8.0, "step": 4})
        appender.append({"step": 5, "phase": "actor"})
        assert appender.columns == (*COLUMNS, "extra, 2", "more")
    table = read_table(path)
    assert table["step"] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert [table["loss"][1], table["extra, 2"][2], table["more"][3]] == [0.5, 7.0, 8.0]
    assert all(math.isnan(value) for value in (*table["extra, 2"][:2], *table["extra, 2"][3:], *table["more"][:3]))
    assert table["phase"] == ["actor", "", "", "", "actor"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["learner.csv"]


def test_columns_are_bounded_and_named_readably(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "learner.csv"
    with CsvAppender(path, COLUMNS) as appender:
        appender.append({"step": 1, "": 1.0, " ": 1.0, "a\nb": 1.0, "good": 2.0})
        assert caplog.text.count("Left out from here on: '', ' ', 'a\\nb'.") == 1
        for step in range(2, 4):
            appender.append({"step": step, "late": 3.0} | {f"name_{index}_{step}": 1.0 for index in range(400)})
        assert len(appender.columns) == csv_appender.MAX_COLUMNS
    assert len(caplog.records) == 1
    table = read_table(path)
    assert (table["good"][0], table["late"][1:], table["name_399_2"][1]) == (2.0, [3.0, 3.0], 1.0)


@pytest.mark.parametrize("resume_below", [None, ("step", 2)])
def test_a_file_of_an_older_release_takes_new_columns(tmp_path: Path, resume_below: tuple[str, float] | None) -> None:
    """A release with one more column could not resume an older run."""
    path = tmp_path / "learner.csv"
    path.write_text("step,theirs,loss,env_steps\n1,7,0.5,10\n2,,,20\n3,9,0.1,30\n4,1", encoding="utf-8")
    (tmp_path / "learner.csv.tmp").write_text("left by a kill, and longer than what is written now " * 9)
    for _ in range(2):
        with CsvAppender(path, (*COLUMNS, "sigma"), resume_below) as appender:
            assert appender.columns == ("step", "theirs", "loss", "env_steps", "phase", "sigma")
    with CsvAppender(path, COLUMNS) as appender:  # an older release again
        appender.append({"step": 9, "phase": "actor"})
    kept = 3 if resume_below is None else 2
    table = read_table(path)
    assert table["step"] == [*[1.0, 2.0, 3.0][:kept], 9.0]
    assert table["env_steps"][:kept] == [10.0, 20.0, 30.0][:kept]
    assert table["theirs"][0] == 7.0
    assert table["phase"] == [*[""] * kept, "actor"]
    assert all(math.isnan(value) for value in table["sigma"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["learner.csv"]


def test_a_kill_leaves_the_older_file_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "learner.csv"
    write_steps(path, [1, 2])
    appenders = [CsvAppender(path, COLUMNS) for _ in range(2)]
    before, events, replace, fsync = path.read_bytes(), [], os.replace, os.fsync
    with monkeypatch.context() as patch:
        for killed_in, appender in zip(("fsync", "replace"), appenders, strict=True):
            patch.setattr(os, killed_in, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                CsvAppender(path, (*COLUMNS, "sigma"))
            with pytest.raises(KeyboardInterrupt), appender:
                appender.append({"step": 3, "sigma": 1.0})
            assert path.read_bytes() == before
            patch.undo()
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("replace"), replace(*paths)))
    CsvAppender(path, (*COLUMNS, "sigma")).close()
    assert events == ["fsync", "replace"]
    assert read_table(path)["step"] == [1.0, 2.0]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_is_killed_while_columns_are_added_loses_at_most_a_row(tmp_path: Path) -> None:
    path = tmp_path / "learner.csv"

    def write(first: int) -> None:
        with CsvAppender(path, COLUMNS) as appender:
            for step in range(first, 1_000_000):
                appender.append({"step": step, "loss": step / 3, f"name_{step // 3}": step})

    first = 0
    for wait_s in (0.05, 0.1, 0.15, 0.2, 0.3):
        process = multiprocessing.get_context("fork").Process(target=write, args=(first,))
        process.start()
        while not path.exists():
            time.sleep(0.001)
        time.sleep(wait_s)
        process.kill()
        process.join()
        table = read_table(path)
        first = len(table["step"])
        assert table["step"] == list(range(first))
        for step in range(0, first, 3):
            assert table[f"name_{step // 3}"][step] == step
    assert first > 10


def test_a_damaged_row_is_told_after_the_file_took_new_columns_too(tmp_path: Path) -> None:
    path = tmp_path / "learner.csv"
    path.write_text("step,loss\n1,0.5\n2\n3,1,4\n", encoding="utf-8")
    CsvAppender(path, ("step", "loss", "sigma", "q")).close()
    with pytest.raises(MetricsFormatError, match="line 3: 3 cells, expected 4"):
        read_table(path)


def test_a_file_with_none_of_the_columns_is_another_file(tmp_path: Path) -> None:
    path = tmp_path / "learner.csv"
    path.write_text("time,place\n1,2\n")
    with pytest.raises(
        ValueError, match=r"learner.csv has none of the columns step, env_steps, phase, loss; its own are time, place; move"
    ):
        CsvAppender(path, COLUMNS)
    assert path.read_text() == "time,place\n1,2\n"


def test_values_that_would_break_the_file(tmp_path: Path) -> None:
    path = tmp_path / "learner.csv"
    with CsvAppender(path, COLUMNS) as appender:
        appender.append({"phase": "a\nb\rc"})
        with pytest.raises(TypeError, match="'loss' needs a number, not str"):
            appender.append({"loss": "much", "new": 1})
        assert appender.columns == COLUMNS
    for row in ({"step": 1}, {"new": 1}):
        with pytest.raises(ValueError, match="closed"):
            appender.append(row)
    assert read_table(path)["phase"] == ["a b c"]


def test_a_row_that_the_disk_does_not_take_whole_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "learner.csv"
    write_steps(path, [1])
    with CsvAppender(path, COLUMNS) as appender:
        whole, before = appender._file, path.read_bytes()

        class Full:
            def fileno(self) -> int:
                return whole.fileno()

            def write(self, line: bytes) -> int:
                return whole.write(line[:5])

            def close(self) -> None:
                whole.close()

        appender._file = Full()
        with pytest.raises(OSError, match="could not write a whole row"):
            appender.append({"step": 2, "loss": 0.5})
        assert path.read_bytes() == before


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
