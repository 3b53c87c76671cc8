"""A network that harms bytes on the way: the script behind the table in docs/benchmarks.md, and a connection that has gone silent."""

import csv
import importlib.util
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from restartable_learner import RestartableLearner, uuids
from small_data import make_recording

from lerobot_serl import transport
from lerobot_serl.actor import client as client_module
from lerobot_serl.actor.client import LearnerClient
from lerobot_serl.actor.outbox import Outbox
from lerobot_serl.actor.rpc_errors import CONNECTIONS_BELIEVED, LearnerRefused, LearnerSilent
from lerobot_serl.actor.sender import Sender
from lerobot_serl.replay.episode_message import encode_episode

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmark" / "faulty_network.py"
PATIENCE_S = 300
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
    monkeypatch.setattr(client_module, "ACKNOWLEDGEMENT_TIMEOUT_S", 1.0)
    learner, harm = RestartableLearner(tmp_path / "learner"), Silence()
    network = script.FaultyNetwork(learner.port, harm)
    client = LearnerClient(f"127.0.0.1:{network.port}", patience_s=20, name="arm")
    try:
        client.connect()
        client.send("one", encode_episode(make_recording(), "one"), False)
        before = network.n_connections
        harm.begin()
        with pytest.raises(LearnerSilent):
            client.send("two", encode_episode(make_recording(), "two"), False)
        client.send("two", encode_episode(make_recording(), "two"), False)
        assert network.n_connections > before
        assert uuids(tmp_path / "learner") == ["one", "two"]
    finally:
        client.close()
        learner.server.stop()


def wait_for_weights(client, version):
    until = time.monotonic() + PATIENCE_S
    while client._version < version and time.monotonic() < until:
        time.sleep(0.1)


class Slow:
    """Every block needs its time."""

    def __init__(self, seconds):
        self.seconds = seconds

    def of(self, block):
        time.sleep(self.seconds)
        return [block], True


@pytest.mark.slow
def test_a_network_may_be_slow_as_long_as_something_moves(script, tmp_path, monkeypatch):
    for name in ("CALL_TIMEOUT_S", "POLICY_TIMEOUT_S", "PART_TIMEOUT_S"):
        monkeypatch.setattr(client_module, name, 5.0)
    monkeypatch.setattr(transport, "CHUNK_BYTES", 2**14)
    learner, harm = RestartableLearner(tmp_path / "learner"), Slow(0.0)
    network = script.FaultyNetwork(learner.port, harm)
    lost = []
    client = LearnerClient(f"127.0.0.1:{network.port}", patience_s=1.0, name="arm", on_lost=lost.append)
    harm.seconds = 0.06  # for 2 kB; the policy has over 300
    began = time.monotonic()
    try:
        client.connect()
        assert time.monotonic() - began > 5.0
        learner.publisher.publish("actor", 1, 2)
        wait_for_weights(client, 2)
        assert (client._version, lost, network.n_connections) == (2, [], 1)
    finally:
        client.close()
        learner.server.stop()


class NothingLong:
    """Ends connections on which more than so many bytes have come, in either direction."""

    def __init__(self):
        self.limit, self._n_bytes = math.inf, Counter()

    def of(self, block):
        connection = threading.current_thread()
        self._n_bytes[connection] += len(block)
        return [block], self._n_bytes[connection] < self.limit


def test_episodes_arrive_where_weights_do_not(script, tmp_path):
    """Weights are the largest thing that passes; an arm goes on with those that it has."""
    learner, harm = RestartableLearner(tmp_path / "learner"), NothingLong()
    network = script.FaultyNetwork(learner.port, harm)
    client = LearnerClient(f"127.0.0.1:{network.port}", patience_s=20, name="arm")
    sender = Sender(Outbox(tmp_path / "spool", 10**9), client)
    try:
        client.connect()
        sender.start()
        harm.limit = 100_000  # a third of the weights
        learner.publisher.publish("actor", 1, 2)
        for uuid in ("one", "two", "three"):
            sender.keep(client.dataset, uuid, encode_episode(make_recording(), uuid))
            until = time.monotonic() + PATIENCE_S
            assert sender.wait_for(uuid, lambda until=until: time.monotonic() < until)
        assert (uuids(tmp_path / "learner"), client._version) == (["one", "two", "three"], 1)
        harm.limit = math.inf
        wait_for_weights(client, 2)
        assert client._version == 2
    finally:
        sender.finish(0.0, 0.0)
        client.close()
        sender.join(10)
        learner.server.stop()


class ChangedHeads:
    """Cuts every connection that is open at a moment, and changes the session's number on the first ones that are opened after it."""

    def __init__(self):
        self._seen, self._cut, self.n_left, self.n_changed = set(), set(), 0, 0

    def begin(self, connections):
        self._cut, self.n_left = set(self._seen), connections

    def of(self, block):
        connection = threading.current_thread()
        self._seen.add(connection)
        if connection in self._cut:
            return [], False
        head = re.search(rb"[0-9a-f]{32}", block)
        if head is not None and self.n_left:
            self.n_left, self.n_changed = self.n_left - 1, self.n_changed + 1
            return [block[: head.start()] + b"#" * 32 + block[head.end() :]], True
        return [block], True


def check_for(client, seconds):
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        client.check()
        time.sleep(0.05)


@pytest.mark.parametrize(("connections", "is_believed"), [(CONNECTIONS_BELIEVED - 1, False), (10**6, True)])
def test_who_was_let_in_once_does_not_believe_one_refusal(script, tmp_path, connections, is_believed):
    """A head that was changed on the way is refused like one that was wrong from the beginning, and the same connection would repeat it."""
    learner, harm = RestartableLearner(tmp_path / "learner"), ChangedHeads()
    network = script.FaultyNetwork(learner.port, harm)
    lost, back = threading.Event(), threading.Event()
    told = {"on_lost": lambda reason: lost.set(), "on_back": back.set}
    client = LearnerClient(f"127.0.0.1:{network.port}", patience_s=20, name="arm", **told)
    try:
        client.connect()
        harm.begin(connections)
        assert lost.wait(20)
        if is_believed:
            with pytest.raises(LearnerRefused, match=r"session '#{32}': expected 32 hexadecimal digits"):
                check_for(client, 20)
        else:
            assert back.wait(20)
            client.check()
            client.send("one", encode_episode(make_recording(), "one"), False)
            assert uuids(tmp_path / "learner") == ["one"]
        assert harm.n_changed == (CONNECTIONS_BELIEVED if is_believed else connections)
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
