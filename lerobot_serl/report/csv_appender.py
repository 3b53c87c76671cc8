"""A crash-safe writer of metric files: a row at a time, and a name that comes up for the first time becomes a column."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from lerobot_serl.report.metrics_files import FILE_REMEDY, TEXT_COLUMNS, check_header, parse_cell, rows_of

MAX_COLUMNS = 500


class CsvAppender(AbstractContextManager["CsvAppender"]):
    """Appends rows to a CSV file so that a kill at any moment costs at most the row being written.

    Each row is a single unbuffered write, so readers see whole rows. An existing file keeps its rows, and its columns, also those that
    this release does not know; a torn last line is dropped. New columns are added at the end, empty in the rows that are there.

    Args:
        path: the CSV file; its folder is created. One thread of one process at a time may hold it.
        columns: the first columns of a new file.
        resume_below: (column, number): drop rows with a greater number in that column; the resumed run writes them again.

    Raises:
        ValueError: the existing file has none of the columns, so it is another one; or it lacks the resume column.
        OSError: the file cannot be written; what was there is left.
    """

    def __init__(self, path: Path, columns: Sequence[str], resume_below: tuple[str, float] | None = None) -> None:
        self.path = Path(path)
        self.columns: tuple[str, ...] = ()
        self._warned = False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._rewrite(columns, resume_below)

    def append(self, row: Mapping[str, object]) -> None:
        """Write one row; columns left out stay empty, names that are no columns yet become some.

        A file has at most 500 columns, with printable names: what is beyond that is left out, and the log says so once.

        Raises:
            ValueError: the file is closed.
            TypeError: a value of a number column is no number.
            OSError: the row could not be written whole (disk full); the file is left as before.
        """
        cells = {name: _format(value, name) for name, value in row.items()}
        if new := self._usable([name for name in cells if name not in self.columns]):
            with self._file:  # closes it afterwards
                self._file = self._rewrite((*self.columns, *new))
        line = _csv_line([cells.get(name, "") for name in self.columns])
        before = os.fstat(self._file.fileno()).st_size
        if self._file.write(line) != len(line):
            os.ftruncate(self._file.fileno(), before)
            raise OSError(f"could not write a whole row to {self.path}; is the disk full?")

    def close(self) -> None:
        """Close the file; calling it again does nothing."""
        self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rewrite(self, columns: Sequence[str], resume_below: tuple[str, float] | None = None) -> BinaryIO:
        """Put a new file in the place of the old one, with these columns too and without the rows to be written again, and open it."""
        rows = rows_of(self.path) if self.path.exists() else iter(())
        _, header = next(rows, (0, list[str]()))
        names = (*header, *(name for name in columns if name not in header))
        check_header(self.path, names, ())
        if header and not set(columns) & set(header):
            raise ValueError(
                f"{self.path} has none of the columns {', '.join(columns)}; its own are {', '.join(header)[:200]}; {FILE_REMEDY}"
            )
        column, limit = resume_below or (names[0], math.inf)
        check_header(self.path, header or names, [column])
        new_path = self.path.with_name(self.path.name + ".tmp")
        with new_path.open("wb") as new:
            new.write(_csv_line(names))
            for number, row in rows:
                cell = row[names.index(column)] if names.index(column) < len(row) else ""
                if resume_below is None or not float(parse_cell(cell, column, self.path, number)) > limit:
                    new.write(_csv_line([*row, *[""] * (len(names) - len(header))]))
            new.flush()
            os.fsync(new.fileno())
        os.replace(new_path, self.path)
        self.columns = names
        return self.path.open("ab", buffering=0)

    def _usable(self, names: Sequence[str]) -> list[str]:
        """Those of new names that can be columns."""
        usable = [name for name in names if name.strip() and name.isprintable()][: max(0, MAX_COLUMNS - len(self.columns))]
        if len(usable) < len(names) and not self._warned:
            self._warned = True
            left_out = ", ".join(repr(name[:40]) for name in names if name not in usable)[:200]
            logging.warning(f"{self.path} takes at most {MAX_COLUMNS} columns, with printable names. Left out from here on: {left_out}.")
        return usable


def _format(value: object, column: str) -> str:
    """Turn one value into a cell: None and NaN empty, text on one line, booleans 0 or 1, floats with all digits."""
    if value is None:
        return ""
    if column in TEXT_COLUMNS:
        return " ".join(str(value).splitlines())
    if isinstance(value, int):
        return str(int(value))
    if not hasattr(value, "__float__"):
        raise TypeError(f"column {column!r} needs a number, not {type(value).__name__}")
    return "" if math.isnan(number := float(value)) else repr(number)


def _csv_line(cells: Sequence[str]) -> bytes:
    """Encode cells as one CSV line."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue().encode()
