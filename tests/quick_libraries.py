"""Functions of libraries that take a large part of the tests' time, replaced by quicker ones that give the same.

Commands that a test starts have the libraries' own.
"""

import functools
import logging
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import arrow_dataset, fingerprint
from datasets.features.features import require_decoding
from datasets.table import InMemoryTable, table_cast
from draccus.wrappers import docstring

OWN_FROM_PARQUET = datasets.Dataset.from_parquet


def set_column(features: datasets.Features, name: str, feature: Any) -> None:
    """As the library's own, which looks at all columns again when one is set: with the 70 of an episodes table, a third of opening a dataset."""
    dict.__setitem__(features, name, feature)
    features._column_requires_decoding[name] = require_decoding(feature)


def from_parquet(paths: Any, *, features: datasets.Features | None = None, filters: Any = None, **settings: Any) -> datasets.Dataset:
    """As the library's own, which writes a copy to its cache; that is half of opening a small dataset. What is odd is left to it."""
    try:
        tables = [pq.ParquetFile(path, memory_map=False).read() for path in paths]
        wanted = features or datasets.Features.from_arrow_schema(tables[0].schema)
        table = pa.concat_tables([table_cast(table, wanted.arrow_schema) for table in tables])
    except Exception:
        table = None
    if table is None or not len(table) or filters is not None or settings:
        return OWN_FROM_PARQUET(paths, features=features, filters=filters, **settings)
    info = datasets.DatasetInfo(features=wanted)
    return datasets.Dataset(InMemoryTable(table), info, datasets.Split.TRAIN, fingerprint=random_fingerprint())


def random_fingerprint(*_: Any) -> str:
    """In place of a hash of all that a dataset consists of, by which results are found again in the library's cache."""
    return fingerprint.generate_random_fingerprint()


def install() -> None:
    datasets.disable_progress_bars()
    datasets.Features.__setitem__ = set_column
    datasets.Value.__deepcopy__ = lambda value, memo: value  # nobody changes one
    datasets.Dataset.from_parquet = staticmethod(from_parquet)
    arrow_dataset.generate_fingerprint = arrow_dataset.update_fingerprint = fingerprint.update_fingerprint = random_fingerprint
    # Comments beside settings, for --help: the library reads a class's source again for each of its fields.
    docstring.get_attribute_docstring = functools.cache(docstring.get_attribute_docstring)
    logging.getLogger("draccus").setLevel(logging.INFO)
