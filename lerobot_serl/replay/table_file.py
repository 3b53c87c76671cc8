"""Parquet files of unknown origin: opened within bounds, and errors in words that say what happened to the file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .json_file import UnreadableError

# LeRobot closes a data file at 100 MB; an episode is one row group.
MAX_FILE_BYTES = 8 * 1024**3
MAX_NUMBERS_BYTES = 2 * 1024**3
MAX_ROWS = 50_000_000
# Of the footer, before anything in it is believed.
_MAX_FOOTER_STRING_BYTES, _MAX_FOOTER_ENTRIES = 64 * 1024**2, 10_000_000
_MAGIC = b"PAR1"


def open_table(path: Path) -> pq.ParquetFile:
    """A parquet file whose footer is there and claims a size that this machine can bear.

    Raises:
        UnreadableError: it is not.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            handle.seek(max(0, size - len(_MAGIC)))
            end = handle.read(len(_MAGIC))
    except FileNotFoundError as error:
        raise UnreadableError("is missing") from error
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error
    if end != _MAGIC:
        raise UnreadableError(f"has no footer ({size} bytes): the process that wrote it was stopped before it closed the file")
    if size > MAX_FILE_BYTES:
        raise UnreadableError(f"has {size} bytes, more than the {MAX_FILE_BYTES} that are read")
    try:
        table = pq.ParquetFile(
            path, thrift_string_size_limit=_MAX_FOOTER_STRING_BYTES, thrift_container_size_limit=_MAX_FOOTER_ENTRIES, memory_map=False
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnreadableError(f"has a damaged footer: {_first_line(error)}") from error
    if not 0 <= table.metadata.num_rows <= MAX_ROWS:
        raise UnreadableError(f"claims {table.metadata.num_rows} rows, expected at most {MAX_ROWS}")
    return table


def read_columns(table: pq.ParquetFile, columns: Sequence[str] | None = None) -> pa.Table:
    """Columns of a whole file, all of them if None.

    Raises:
        UnreadableError: they are too big, or damaged.
    """
    claimed = sum(
        group.column(i).total_uncompressed_size
        for group in (table.metadata.row_group(g) for g in range(table.metadata.num_row_groups))
        for i in range(group.num_columns)
        if columns is None or any(_belongs(group.column(i).path_in_schema, name) for name in columns)
    )
    if not 0 <= claimed <= MAX_NUMBERS_BYTES:
        raise UnreadableError(f"claims {claimed} bytes of numbers, expected at most {MAX_NUMBERS_BYTES}")
    try:
        return table.read(columns=None if columns is None else list(columns), use_threads=False)
    except (pa.ArrowException, OSError, ValueError, TypeError, NotImplementedError) as error:
        raise UnreadableError(f"has damaged contents: {_first_line(error)}") from error


def numbers_of(column: pa.ChunkedArray, shape: Sequence[int]) -> np.ndarray:
    """``(rows, *shape)``, or ``(rows,)`` for shape ``(1,)``.

    Raises:
        UnreadableError: values are missing, or do not have this shape.
    """
    if column.null_count:
        raise UnreadableError(f"has {column.null_count} rows without a value")
    values = column.combine_chunks()
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    values = values.storage if isinstance(values, pa.ExtensionArray) else values
    while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type) or pa.types.is_large_list(values.type):
        values = values.flatten()
    wanted = (len(column), *(() if tuple(shape) == (1,) else shape))
    if values.null_count or len(values) != int(np.prod(wanted)):
        raise UnreadableError(f"has {len(values) - values.null_count} values in {len(column)} rows, expected shape {tuple(shape)} in each")
    numbers = np.asarray(values.to_numpy(zero_copy_only=False))
    if numbers.dtype.kind not in "biuf":
        raise UnreadableError(f"has values of type {values.type}, expected numbers")
    return numbers.reshape(wanted)


def _belongs(path_in_schema: str, name: str) -> bool:
    return path_in_schema == name or path_in_schema.startswith(f"{name}.")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
