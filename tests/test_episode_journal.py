"""The journal of episodes that are not in the dataset yet (``replay/journal.py``)."""

import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_serl.replay.journal import SUFFIX, EpisodeJournal

HOSTILE = [
    "../../escape",
    "/etc/passwd",
    "..",
    "",
    "a/b",
    "a\0b",
    "-" * 300,
    "\U0001d49c" * 200,
    "x\n",
    "%2e%2e%2f",
    f"a{SUFFIX}/..",
    "\ud800",
]


def test_nothing_is_created_before_the_first_episode(tmp_path):
    journal = EpisodeJournal(tmp_path / "j")
    assert journal.pending() == []
    assert journal.uuids() == set()
    assert not (tmp_path / "j").exists()


def test_order_and_contents_survive_reopening(tmp_path):
    journal = EpisodeJournal(tmp_path / "deep" / "j")
    uuids = [f"{'zyxwvutsrqpo'[i]}-{i}" for i in range(12)]  # alphabetically backwards, and past the tenth
    for index, uuid in enumerate(uuids):
        journal.write(uuid, b"episode %d" % index)
    again = EpisodeJournal(tmp_path / "deep" / "j")
    assert [path.read_bytes() for path in again.pending()] == [b"episode %d" % index for index in range(12)]
    assert again.uuids() == set(uuids)


def test_new_episodes_come_last_also_after_the_first_ones_are_gone(tmp_path):
    journal = EpisodeJournal(tmp_path)
    for name in "wxy":
        journal.write(name, name.encode())
    journal.pending()[0].unlink()
    EpisodeJournal(tmp_path).write("a", b"a")
    assert [path.read_bytes() for path in journal.pending()] == [b"x", b"y", b"a"]


def test_half_written_files_are_not_episodes(tmp_path):
    journal = EpisodeJournal(tmp_path)
    journal.write("a", b"a")
    (tmp_path / "00000002-b.part").write_bytes(b"half")
    assert [path.read_bytes() for path in journal.pending()] == [b"a"]
    journal.write("c", b"c")
    assert [path.read_bytes() for path in journal.pending()] == [b"a", b"c"]


@pytest.mark.parametrize("uuid", HOSTILE)
def test_a_hostile_uuid_stays_in_the_directory(tmp_path, uuid):
    directory = tmp_path / "outer" / "j"
    journal = EpisodeJournal(directory)
    journal.write(uuid, b"data")
    journal.write(uuid, b"more")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.parent == directory for path in files)
    assert [path.read_bytes() for path in journal.pending()] == [b"data", b"more"]
    assert all(set(name) <= set("-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") for name in journal.uuids())


@settings(max_examples=100, deadline=None)
@given(uuid=st.text(max_size=200))
def test_any_uuid_can_be_written(tmp_path_factory, uuid):
    journal = EpisodeJournal(tmp_path_factory.mktemp("journal"))
    journal.write(uuid, b"data")
    (path,) = journal.pending()
    assert path.parent == journal.directory
    assert path.read_bytes() == b"data"


def test_threads_do_not_overwrite_each_other(tmp_path):
    journal = EpisodeJournal(tmp_path)
    threads = [threading.Thread(target=journal.write, args=(f"u{i}", b"%d" % i)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.read_bytes() for path in journal.pending()} == {b"%d" % i for i in range(24)}
    assert [int(path.name[:8]) for path in journal.pending()] == list(range(1, 25))


def test_a_written_episode_survives_sigkill(tmp_path):
    """The module is loaded by path, so that the process starts without LeRobot."""
    source = sys.modules[EpisodeJournal.__module__].__file__
    code = (
        "import importlib.util, os, pathlib, signal, sys\n"
        f"spec = importlib.util.spec_from_file_location('journal', {source!r})\n"
        "journal = importlib.util.module_from_spec(spec); spec.loader.exec_module(journal)\n"
        f"target = journal.EpisodeJournal(pathlib.Path({str(tmp_path)!r}))\n"
        "target.write('one', b'1' * 100000); target.write('two', b'2')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == -9
    assert [path.read_bytes() for path in EpisodeJournal(tmp_path).pending()] == [b"1" * 100000, b"2"]


def test_a_file_is_synced_before_it_gets_its_name_and_the_directory_after(tmp_path, monkeypatch):
    events = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor):
        events.append("directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        real_fsync(descriptor)

    def replace(source, target):
        events.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    EpisodeJournal(tmp_path).write("a", b"data")
    assert events == ["file", "rename", "directory"]
