"""Episodes from the journal into the dataset, by a real process."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
from journalled import assert_dataset_holds, journalled, settings_for
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from small_data import make_recording
from traps import lay_traps

from lerobot_serl.replay.dataset_writer import DatasetWriter, StoreSettings, write_pending
from lerobot_serl.replay.journal import journal_of
from lerobot_serl.replay.manifest import known_uuids

RECORDINGS = [make_recording(3, end, mark) for mark, end in enumerate(["terminated", "truncated", "data end", "terminated"], 1)]


def test_the_journal_lies_beside_the_dataset(tmp_path):
    assert journal_of(tmp_path / "a.b").directory == tmp_path / "a.b.journal"


def test_complete_moves_every_episode_once_and_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("lerobot_serl.replay.dataset_writer.EPISODES_PER_OPENING", 2)
    root = tmp_path / "online"
    journal = journalled(root, RECORDINGS[:3])
    assert write_pending(settings_for(root), openings=1) == 2
    assert len(journal.pending()) == 1
    assert write_pending(settings_for(root)) == 1
    assert journal.pending() == []
    assert_dataset_holds(root, RECORDINGS[:3])
    assert write_pending(settings_for(root)) == 0
    journalled(root, RECORDINGS[3:], 3)
    assert write_pending(settings_for(root)) == 1
    assert_dataset_holds(root, RECORDINGS)


def test_settings_survive_json(tmp_path):
    """The process gets them as JSON, where tuples become lists."""
    root = tmp_path / "online"
    journalled(root, RECORDINGS[:1])
    assert write_pending(StoreSettings(**json.loads(json.dumps(asdict(settings_for(root)))))) == 1
    journalled(root, RECORDINGS[1:2], 1)
    assert write_pending(settings_for(root)) == 1
    assert_dataset_holds(root, RECORDINGS[:2])


@pytest.mark.slow
def test_the_process_completes_on_request_and_at_the_end(tmp_path):
    root = tmp_path / "online"
    journal = journalled(root, RECORDINGS[:2])
    process = DatasetWriter(settings_for(root))
    subprocess.run([sys.executable, "-c", ""], check=True)  # begins the forkserver, if it has not begun
    started = time.perf_counter()
    process.request()
    assert time.perf_counter() - started < 2  # returns at once, before the process has imported anything
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


@pytest.mark.slow
def test_no_file_in_the_working_directory_is_run(tmp_path, monkeypatch):
    (work := tmp_path / "work").mkdir()
    mark = lay_traps(work)
    monkeypatch.chdir(work)
    root = tmp_path / "online"
    journalled(root, RECORDINGS)
    DatasetWriter(settings_for(root)).finish()
    assert_dataset_holds(root, RECORDINGS)
    assert not mark.exists()


@pytest.mark.slow
def test_a_killed_process_loses_nothing(tmp_path):
    root = tmp_path / "online"
    journal = journalled(root, RECORDINGS[:2])
    process = DatasetWriter(settings_for(root))
    process.request()
    assert process._process is not None
    os.kill(process._process.pid, signal.SIGKILL)
    assert process._process.wait(10) == -signal.SIGKILL
    assert len(journal.pending()) == 2
    journalled(root, RECORDINGS[2:], 2)
    process.request()  # the learner does not notice; it must not fail
    assert write_pending(settings_for(root)) == 4
    process.finish()
    assert_dataset_holds(root, RECORDINGS)


def test_an_episode_that_the_dataset_has_is_not_added_again(tmp_path):
    """A process killed after the dataset's new version was committed, before the episodes' files were deleted."""
    root = tmp_path / "online"
    journal = journalled(root, RECORDINGS[:2])
    kept = {path: path.read_bytes() for path in journal.pending()}
    assert write_pending(settings_for(root)) == 2
    for path, content in kept.items():
        path.write_bytes(content)
    journalled(root, RECORDINGS[2:3], 2)
    assert write_pending(settings_for(root)) == 1
    assert journal.pending() == []
    assert_dataset_holds(root, RECORDINGS[:3])


def test_a_damaged_episode_is_set_aside_and_the_others_go_on(tmp_path, caplog):
    root = tmp_path / "online"
    journal = journalled(root, RECORDINGS[:3])
    damaged = journal.pending()[1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    other = journal.write("episode-9", b"whole, but no episode")
    assert write_pending(settings_for(root)) == 2
    assert journal.pending() == []
    assert_dataset_holds(root, [RECORDINGS[0], RECORDINGS[2]])
    assert {path.name for path in (journal.directory / "damaged").iterdir()} == {damaged.name, other.name}
    assert caplog.text.count("set aside as") == 2


def test_the_dataset_says_which_episodes_it_holds(tmp_path):
    root = tmp_path / "online"
    journalled(root, RECORDINGS[:2])
    write_pending(settings_for(root))
    lines = [json.loads(line) for line in (root / "meta" / "serl_episodes.jsonl").read_text().splitlines()]
    assert lines == [{"uuid": f"episode-{index}", **RECORDINGS[index].info} for index in range(2)]


def test_no_report_of_an_episode_changes_its_uuid(tmp_path):
    """The manifest tells what came already: under another name an episode would be added again, and the other one never."""
    root = tmp_path / "online"
    journalled(root, [replace(RECORDINGS[0], info={"uuid": "another"})])
    write_pending(settings_for(root))
    assert known_uuids(root) == {"episode-0"}


KILLED_AT_A_CALL = """
import json, os, sys
import lerobot_serl.replay.store
from lerobot_serl.replay.dataset_writer import StoreSettings, write_pending

CALLS = ("os.rename", "os.link", "os.remove", "os.symlink", "os.mkdir", "shutil.rmtree", "shutil.copytree")
runs = [StoreSettings(**settings) for settings in json.loads(sys.argv[1])]

def forked(settings, limit):
    # How many of these calls a run made that is killed before the call `limit`.
    here, there = os.pipe()
    if child := os.fork():
        os.close(there)
        with os.fdopen(here) as pipe:
            made = len(pipe.read())
        os.waitpid(child, 0)
        return made
    def watch(event, _):
        nonlocal limit
        if event in CALLS:
            if limit == 0:
                os._exit(9)
            limit -= 1
            os.write(there, b".")
    sys.addaudithook(watch)
    write_pending(settings)
    os._exit(0)

whole = forked(runs[0], 10_000)
print(whole, *(forked(run, number * whole // len(runs[1:])) for number, run in enumerate(runs[1:])))
"""


@pytest.mark.slow
def test_killed_between_any_two_changes_to_the_disk_nothing_is_lost_or_doubled(tmp_path):
    """Runs that end one after the other later; after each LeRobot opens the dataset, and the next run finishes."""
    roots = [tmp_path / f"run{index}" / "online" for index in range(25)]
    for root in roots:
        journalled(root, RECORDINGS[:1])
        write_pending(settings_for(root))
        journalled(root, RECORDINGS[1:], 1)
    settings = json.dumps([asdict(settings_for(root)) for root in roots])
    done = subprocess.run([sys.executable, "-c", KILLED_AT_A_CALL, settings], timeout=300, check=True, stdout=subprocess.PIPE, text=True)
    whole, *made = (int(number) for number in done.stdout.split())
    assert whole > 30
    assert made == [number * whole // len(made) for number in range(len(made))]  # each was killed where it should be
    outcomes = set()
    for root in roots:
        found, journal = LeRobotDataset("test/online", root=root), journal_of(root)
        outcomes.add((found.num_episodes, len(journal.pending())))
        assert found.num_episodes in (1, 4)
        assert found.num_episodes + len(journal.pending()) >= 4
        write_pending(settings_for(root))
        assert journal.pending() == []
        assert_dataset_holds(root, RECORDINGS)
        assert [path.name for path in root.with_name("online.versions").iterdir() if path.name.isdigit()] == [root.resolve().name]
    assert {(1, 3), (4, 0)} < outcomes  # some were killed while both the journal and the dataset had an episode


class Forgetful(DatasetWriter):
    """Its processes end after two episodes; real ones, with other constants."""

    started = 0

    def _running(self):
        if self._process is None or self._process.poll() is not None:
            self.started += 1
            code = "import lerobot_serl.replay.dataset_writer as it; it.EPISODES_PER_OPENING, it.OPENINGS_PER_PROCESS = 1, 2; it.main()"
            command = [sys.executable, "-c", code, json.dumps(asdict(self._settings))]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        return self._process


@pytest.mark.slow
def test_a_process_does_not_live_for_ever_and_the_next_one_goes_on(tmp_path):
    root = tmp_path / "online"
    journal = journalled(root, RECORDINGS[:3])
    process = Forgetful(settings_for(root))
    process.request()
    assert process._process.wait(120) == 0
    assert len(journal.pending()) == 1
    journalled(root, RECORDINGS[3:], 3)
    process.finish()
    assert journal.pending() == []
    assert process.started >= 2
    assert_dataset_holds(root, RECORDINGS)


@pytest.mark.slow
def test_what_can_not_be_completed_ends_the_wait(tmp_path, caplog):
    root = tmp_path / "online"
    journal = journalled(root, RECORDINGS[:2])
    process = Forgetful(settings_for(root))
    root.with_name("online.versions").touch()  # where the versions have to be
    process.finish()
    assert "2 episodes are not in the online dataset yet" in caplog.text
    assert len(journal.pending()) == 2
    assert process.started == 1
