"""How a learner would understand rewards and ends of a sound dataset: its table of labels."""

from pathlib import Path

import numpy as np

from ..replay.json_file import UnreadableError
from ..replay.label_rule import decide_rule
from ..replay.label_table import LabelTable
from ..replay.labels import LABEL_COLUMNS, label_columns, label_episodes, unread_labels
from ..replay.opening import delete_episodes_command
from ..replay.table_file import numbers_of, open_table, read_columns
from .dataset_episode import Features
from .finding import Finding, note

_EPISODE_INDEX = "episode_index"


def label_notes(root: Path, features: Features) -> list[Finding]:
    """Notes with the table, or with the reason for which a learner would refuse the dataset as demonstrations."""
    names = [_EPISODE_INDEX, *(name for name in LABEL_COLUMNS if name in features)]
    try:
        tables = [read_columns(open_table(path), names) for path in sorted((root / "data").glob("*/*.parquet"))]
        read = {
            name: np.concatenate([numbers_of(table.column(name), features.get(name, {}).get("shape", (1,))) for table in tables])
            for name in names
        }
        numbers = read.pop(_EPISODE_INDEX)
        columns = label_columns(read, root.name)
        cuts = (np.flatnonzero(np.diff(numbers)) + 1).tolist()
        spans = list(zip([0, *cuts], [*cuts, len(numbers)], strict=True))
        rule = decide_rule(columns, spans, root.name)
    except (UnreadableError, ValueError) as error:
        return [note(f"as demonstrations it would be refused, or need a flag: {error}")]
    command = delete_episodes_command(f"local/{root.name}", root, "NUMBERS")
    table = LabelTable.of(root.name, rule, columns, spans, label_episodes(rule, columns, spans), unread_labels(features), command)
    return [note(text) for text in [*table.lines(), *([table.warning] if table.warning else [])]]
