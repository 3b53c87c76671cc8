"""A network that harms bytes on the way: the script behind the table in docs/benchmarks.md, and a connection that has gone silent."""

import csv
import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import make_recording
from restartable_learner import RestartableLearner, uuids

from lerobot_serl.actor import client as client_module
from lerobot_serl.actor.answers import LearnerSilent
from lerobot_serl.actor.client import LearnerClient
from lerobot_serl.replay.recording_message import encode_recording

SCRIPT = Path(__file__).parents[1] / "examples" / "benchmark" / "faulty_network.py"
FAULTS = ("changed", "cut", "delayed", "dropped", "reordered", "repeated")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("faulty_network", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Silence:
    """Connections that were open at a moment pass nothing from then on."""

    def __init__(self):
        self._seen, self._silent = set(), set()

    def begin(self):
        self._silent |= self._seen

    def of(self, block):
        connection = threading.current_thread()  # the proxy has one for each connection and direction
        self._seen.add(connection)
        return ([] if connection in self._silent else [block]), True


def test_a_connection_that_has_gone_silent_is_replaced(script, tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "EPISODE_TIMEOUT_S", 1.0)
    learner, harm = RestartableLearner(tmp_path / "learner"), Silence()
    network = script.FaultyNetwork(learner.port, harm)
    client = LearnerClient(f"127.0.0.1:{network.port}", patience_s=20, name="arm")
    try:
        client.connect()
        client.send("one", encode_recording(make_recording(), "one"), False)
        before = network.n_connections
        harm.begin()
        with pytest.raises(LearnerSilent):
            client.send("two", encode_recording(make_recording(), "two"), False)
        client.send("two", encode_recording(make_recording(), "two"), False)
        assert network.n_connections > before
        assert uuids(tmp_path / "learner") == ["one", "two"]
    finally:
        client.close()
        learner.server.stop()


def test_every_fault_happens_and_harms(script):
    harm = script.Harm(rate=1.0, seed=0)
    script.LONGEST_DELAY_S = 0.1
    block = bytes(range(100))
    outcomes = [harm.of(block) for _ in range(60)]
    assert set(harm.counts) == set(FAULTS)
    assert sum(parts == [block] and goes_on for parts, goes_on in outcomes) == harm.counts["delayed"]
    assert sum(not goes_on for _, goes_on in outcomes) == harm.counts["cut"]
    assert script.Harm(rate=0.0, seed=0).of(block) == ([block], True)


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_changed(tmp_path):
    table = tmp_path / "faulty_network.csv"
    command = [
        sys.executable, str(SCRIPT), f"--root={tmp_path / 'ground'}", "--episodes=15", "--rate=0.03", "--seed=1", f"--output={table}",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=570, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert int(row["episodes"]) >= 15
    assert (row["lost"], row["doubled"], row["refused"]) == ("0", "0", "0")
    assert sum(int(row.get(fault, 0)) for fault in FAULTS) > 5
    assert int(row["connections"]) > 1
