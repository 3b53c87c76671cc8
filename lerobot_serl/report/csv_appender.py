"""A crash-safe writer of metric files: a row at a time, and an older file takes new columns."""

from __future__ import annotations

import csv
import io
import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from lerobot_serl.report.metrics_files import FILE_REMEDY, TEXT_COLUMNS, check_header, parse_cell, rows_of


def _format(value: object, column: str) -> str:
    """Turn one value into a cell: None and NaN empty, booleans 0 or 1, floats with all digits."""
    if value is None:
        return ""
    if column in TEXT_COLUMNS:
        text = str(value)
        if "\n" in text or "\r" in text:
            raise ValueError(f"column {column!r} must not hold a line break")
        return text
    if isinstance(value, int):
        return str(int(value))
    if not hasattr(value, "__float__"):
        raise TypeError(f"column {column!r} needs a number, not {type(value).__name__}")
    number = float(value)
    return "" if math.isnan(number) else repr(number)


def _csv_line(cells: Sequence[str]) -> bytes:
    """Encode cells as one CSV line."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue().encode()


class CsvAppender:
    """Appends rows to a CSV file so that a kill at any moment costs at most the row being written.

    Each row is a single unbuffered write, so readers see whole rows. Opening an existing file keeps its columns, also those that this
    release does not know, drops a torn last line, and adds the columns that it lacks at the end, empty in the rows that are there.
    Safe to call from several threads; one process at a time may hold a file.

    Args:
        path: the CSV file; its folder is created.
        columns: column names, used as the header of a new file.
        resume_below: (column, number): drop rows with a greater number in that column; the resumed run writes them again.

    Raises:
        ValueError: the existing file has none of the columns, so it is another one; or it lacks the resume column.
        OSError: the file cannot be written; what was there is left.
    """

    def __init__(self, path: Path, columns: Sequence[str], resume_below: tuple[str, float] | None = None) -> None:
        self.path = Path(path)
        check_header(self.path, columns, ())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        if _drop_torn_line(self.path):
            there = self._existing_columns(columns)
            self.columns = (*there, *(name for name in columns if name not in there))
            if resume_below is not None:
                self._refuse_unknown(resume_below[:1], there)
            if resume_below is not None or self.columns != there:
                self._rewrite(len(self.columns) - len(there), resume_below)
        else:
            self.columns = tuple(columns)
            self.path.write_bytes(_csv_line(columns))
        self._file = self.path.open("ab", buffering=0)

    def _existing_columns(self, columns: Sequence[str]) -> tuple[str, ...]:
        with self.path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
            header = tuple(next(rows_of(self.path, handle))[1])
        check_header(self.path, header, ())
        if not set(columns) & set(header):
            self._refuse_unknown(columns, header)
        return header

    def _refuse_unknown(self, names: Sequence[str], known: Sequence[str]) -> None:
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"{self.path} has no column(s) {', '.join(unknown)}; its columns are {', '.join(known)[:200]}; {FILE_REMEDY}")

    def _rewrite(self, added: int, resume_below: tuple[str, float] | None) -> None:
        """Put a new file in the place of the old one: ``added`` cells more in every row, and without the rows that will be written again."""
        column, limit = resume_below or (None, math.inf)
        index = len(self.columns) if column is None else self.columns.index(column)
        new_path = self.path.with_name(self.path.name + ".tmp")
        with self.path.open(encoding="utf-8-sig", errors="replace", newline="") as source, new_path.open("wb") as new:
            new.write(_csv_line(self.columns))
            rows = rows_of(self.path, source)
            next(rows)
            for number, row in rows:
                value = parse_cell(row[index], self.columns[index], self.path, number) if index < len(row) else None
                if not (isinstance(value, float) and value > limit):
                    new.write(_csv_line([*row, *[""] * added]))
            new.flush()
            os.fsync(new.fileno())
        os.replace(new_path, self.path)

    def append(self, row: Mapping[str, object]) -> None:
        """Write one row; columns left out stay empty.

        Raises:
            ValueError: a name is not a column, or the file is closed, or text holds a line break.
            TypeError: a value of a number column is no number.
            OSError: the row could not be written whole (disk full); the file is left as before.
        """
        self._refuse_unknown(list(row), self.columns)
        line = _csv_line([_format(row.get(name), name) for name in self.columns])
        with self._lock:
            before = os.fstat(self._file.fileno()).st_size
            if self._file.write(line) != len(line):
                os.ftruncate(self._file.fileno(), before)
                raise OSError(f"could not write a whole row to {self.path}; is the disk full?")

    def close(self) -> None:
        """Close the file; calling it again does nothing."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _drop_torn_line(path: Path) -> bool:
    """Cut what follows the last line end of a file; False when no complete line (no header) is left."""
    if not path.exists():
        return False
    with path.open("r+b") as handle:
        end = handle.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            handle.seek(start)
            position = handle.read(end - start).rfind(b"\n")
            if position >= 0:
                handle.truncate(start + position + 1)
                return True
            end = start
    return False
