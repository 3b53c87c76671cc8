"""Episodes from the journal into the dataset, by a real process."""

import json
import os
import signal
import time
from dataclasses import asdict

import pytest
from conftest import ENV_STATE, FPS, STATE, assert_same_recording, make_recording, vector_features
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_serl.replay.completion import CompletionProcess, StoreSettings, complete, journal_of
from lerobot_serl.replay.demonstrations import EpisodeReader
from lerobot_serl.replay.recording_message import encode_recording
from lerobot_serl.replay.store import online_features


def settings_for(root):
    return StoreSettings("test/online", str(root), FPS, online_features(vector_features(), use_videos=False), False)


def journalled(root, recordings, first=0):
    journal = journal_of(root)
    for index, recording in enumerate(recordings, first):
        journal.write(f"episode-{index}", encode_recording(recording, f"episode-{index}"))
    return journal


def assert_dataset_holds(root, recordings):
    reader = EpisodeReader(LeRobotDataset("test/online", root=root), [STATE, ENV_STATE])
    assert len(reader) == len(recordings)
    for index, recording in enumerate(recordings):
        assert_same_recording(recording, reader.read(index), words=False)


RECORDINGS = [make_recording(3, end, mark) for mark, end in enumerate(["terminated", "truncated", "data end", "terminated"], 1)]


def test_the_journal_lies_beside_the_dataset(tmp_path):
    assert journal_of(tmp_path / "a.b").directory == tmp_path / "a.b.journal"


def test_complete_moves_every_episode_once_and_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("lerobot_serl.replay.completion.EPISODES_PER_OPENING", 2)
    root = tmp_path / "online"
    journal = journalled(root, RECORDINGS[:3])
    assert complete(settings_for(root)) == 3
    assert journal.pending() == []
    assert_dataset_holds(root, RECORDINGS[:3])
    assert complete(settings_for(root)) == 0
    journalled(root, RECORDINGS[3:], 3)
    assert complete(settings_for(root)) == 1
    assert_dataset_holds(root, RECORDINGS)


def test_settings_survive_json(tmp_path):
    """The process gets them as JSON, where tuples become lists."""
    root = tmp_path / "online"
    journalled(root, RECORDINGS[:1])
    assert complete(StoreSettings(**json.loads(json.dumps(asdict(settings_for(root)))))) == 1
    journalled(root, RECORDINGS[1:2], 1)
    assert complete(settings_for(root)) == 1
    assert_dataset_holds(root, RECORDINGS[:2])


@pytest.mark.slow
def test_the_process_completes_on_request_and_at_the_end(tmp_path):
    root = tmp_path / "online"
    journal = journalled(root, RECORDINGS[:2])
    process = CompletionProcess(settings_for(root))
    started = time.perf_counter()
    process.request()
    assert time.perf_counter() - started < 2  # returns at once: the process alone needs longer to import LeRobot
    assert len(journal.pending()) == 2
    until = time.monotonic() + 120
    while journal.pending() and time.monotonic() < until:
        time.sleep(0.1)
    assert journal.pending() == []
    journalled(root, RECORDINGS[2:], 2)
    process.finish()
    assert journal.pending() == []
    assert_dataset_holds(root, RECORDINGS)
    process.finish()  # again is harmless


def test_a_killed_process_loses_nothing(tmp_path):
    root = tmp_path / "online"
    journal = journalled(root, RECORDINGS[:2])
    process = CompletionProcess(settings_for(root))
    process.request()
    assert process._process is not None
    os.kill(process._process.pid, signal.SIGKILL)
    assert process._process.wait(10) == -signal.SIGKILL
    assert len(journal.pending()) == 2
    journalled(root, RECORDINGS[2:], 2)
    process.request()  # the learner does not notice; it must not fail
    assert complete(settings_for(root)) == 4
    assert_dataset_holds(root, RECORDINGS)
