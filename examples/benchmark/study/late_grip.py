"""Demonstrations with a fault: one entry of the action comes some steps late, as if it had been recorded from another clock."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.utils.constants import ACTION


def delay_entry(meta: LeRobotDatasetMetadata, name: str, steps: int) -> None:
    """Shift an entry of the recorded actions within each episode; the first value fills the gap, the last ones are lost.

    The dataset's statistics stay as they were; range and meaning are the same.

    Args:
        meta: of a dataset on disk, whose files are written anew.
        name: of the entry.
        steps: negative: the entry comes early, and the last value fills the gap.
    """
    entry = meta.features[ACTION]["names"].index(name)
    for file in sorted((meta.root / "data").rglob("*.parquet")):
        table = pq.read_table(file)
        actions = np.stack(table[ACTION].to_numpy())
        episodes = table["episode_index"].to_numpy()
        for episode in np.unique(episodes):
            rows = np.flatnonzero(episodes == episode)
            actions[rows, entry] = actions[rows[(np.arange(len(rows)) - steps).clip(0, len(rows) - 1)], entry]
        column = table.schema.get_field_index(ACTION)
        field = table.schema.field(ACTION)
        pq.write_table(table.set_column(column, field, pa.array(list(actions), field.type)), file)
