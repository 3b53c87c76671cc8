"""What wandb wrote down in `mode=offline`, in its own file."""

import json
import time
from pathlib import Path

from wandb.proto import wandb_internal_pb2
from wandb.sdk.internal.datastore import DataStore

PATIENCE_S = 30


def records(path: Path) -> list[wandb_internal_pb2.Record]:
    store, found = DataStore(), []
    store.open_for_scan(str(path))
    while (data := store.scan_data()) is not None:
        found.append(wandb_internal_pb2.Record.FromString(data))
    return found


def wandb_rows(run_dir: Path) -> list[dict[str, float]]:
    """Every row that the one run below a directory logged. A process of wandb's own writes them, and goes on when the run has ended."""
    until = time.monotonic() + PATIENCE_S
    while True:
        (path,) = run_dir.rglob("run-*.wandb")
        found = records(path)
        if any(record.HasField("exit") for record in found):
            break
        assert time.monotonic() < until, "wandb has not finished its file"
        time.sleep(0.1)
    return [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.HasField("history")
    ]
