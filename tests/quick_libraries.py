"""Three functions of libraries that take a large part of the tests' time, replaced by quicker ones that give the same."""

import functools
import logging
from typing import Any

import datasets
from datasets.features.features import require_decoding
from draccus.wrappers import docstring


def set_column(features: datasets.Features, name: str, feature: Any) -> None:
    """As the library's own, which looks at all columns again when one is set: with the 70 of an episodes table, a third of opening a dataset."""
    dict.__setitem__(features, name, feature)
    features._column_requires_decoding[name] = require_decoding(feature)


def install() -> None:
    datasets.disable_progress_bars()
    datasets.Features.__setitem__ = set_column
    datasets.Value.__deepcopy__ = lambda value, memo: value  # nobody changes one
    # Comments beside settings, for --help: the library reads a class's source again for each of its fields.
    docstring.get_attribute_docstring = functools.cache(docstring.get_attribute_docstring)
    logging.getLogger("draccus").setLevel(logging.INFO)
