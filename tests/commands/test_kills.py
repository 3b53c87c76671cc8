"""Every kind of SIGKILL once, by the script behind the table in docs/benchmarks.md: real `lerobot-train`, real sender, real files."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = 5


@pytest.mark.slow
def test_no_kill_loses_or_doubles_an_episode(tmp_path):
    table = tmp_path / "kills.csv"
    command = [
        sys.executable, str(ROOT / "examples" / "benchmark" / "kills.py"),
        f"--root={tmp_path / 'ground'}", f"--kills={KINDS}", "--seed=1", f"--output={table}",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=570, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    *kinds, total = csv.DictReader(table.read_text().splitlines())
    assert [row["kills"] for row in kinds] == ["1"] * KINDS
    assert int(total["episodes_acknowledged"]) > 10
    assert (total["episodes_lost"], total["episodes_doubled"], total["failed_to_open"]) == ("0", "0", "0")
