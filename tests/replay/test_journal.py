"""The journal of episodes that are not in the dataset yet (``replay/journal.py``)."""

import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synced import record_syncs

from lerobot_serl.replay.journal import DAMAGED, SUFFIX, DamagedFileError, EpisodeJournal, uuid_of

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
    assert [again.read(path) for path in again.pending()] == [b"episode %d" % index for index in range(12)]
    assert again.uuids() == set(uuids)


def test_new_episodes_come_last_also_after_the_first_ones_are_gone(tmp_path):
    journal = EpisodeJournal(tmp_path)
    for name in "wxy":
        journal.write(name, name.encode())
    journal.pending()[0].unlink()
    EpisodeJournal(tmp_path).write("a", b"a")
    assert [journal.read(path) for path in journal.pending()] == [b"x", b"y", b"a"]


def test_half_written_files_are_not_episodes(tmp_path):
    journal = EpisodeJournal(tmp_path)
    journal.write("a", b"a")
    (tmp_path / "00000002-b.part").write_bytes(b"half")
    assert [journal.read(path) for path in journal.pending()] == [b"a"]
    journal.write("c", b"c")
    assert [journal.read(path) for path in journal.pending()] == [b"a", b"c"]


def test_files_of_others_are_left_alone(tmp_path):
    journal = EpisodeJournal(tmp_path)
    for name in (f"notes{SUFFIX}", f"x-1{SUFFIX}", f"1{SUFFIX}"):
        (tmp_path / name).write_bytes(b"not ours")
    journal.write("a", b"a")
    assert [journal.read(path) for path in journal.pending()] == [b"a"]
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("uuid", HOSTILE)
def test_a_hostile_uuid_is_refused_and_writes_nothing(tmp_path, uuid):
    with pytest.raises(ValueError, match="expected 1 to 64 letters, digits and dashes"):
        EpisodeJournal(tmp_path / "outer" / "j").write(uuid, b"data")
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=100, deadline=None)
@given(uuids=st.sets(st.text(alphabet="ab.-_/\0A\u0660", min_size=1, max_size=5), max_size=8))
def test_no_two_uuids_become_one(tmp_path_factory, uuids):
    journal = EpisodeJournal(tmp_path_factory.mktemp("journal"))
    written = set()
    for uuid in uuids:
        try:
            journal.write(uuid, uuid.encode())
            written.add(uuid)
        except ValueError:
            continue
    assert journal.uuids() == written == {uuid for uuid in uuids if set(uuid) <= set("abA-")}
    assert all(journal.read(path).decode() == uuid_of(path) and path.parent == journal.directory for path in journal.pending())


def test_threads_do_not_overwrite_each_other(tmp_path):
    journal = EpisodeJournal(tmp_path)
    threads = [threading.Thread(target=journal.write, args=(f"u{i}", b"%d" % i)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {journal.read(path) for path in journal.pending()} == {b"%d" % i for i in range(24)}
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
    assert subprocess.run([sys.executable, "-c", code], timeout=300, check=False).returncode == -9
    journal = EpisodeJournal(tmp_path)
    assert [journal.read(path) for path in journal.pending()] == [b"1" * 100000, b"2"]


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
    journal = EpisodeJournal(tmp_path)
    journal.write("a", b"data")
    assert events == ["directory", "file", "rename", "directory"]  # the one above first, once
    journal.write("b", b"data")
    assert events[4:] == ["file", "rename", "directory"]


def test_the_names_of_new_directories_are_durable(tmp_path, monkeypatch):
    """The file and its directory were synced, and the directory's own name was not: a power loss could take the journal away."""
    synced = record_syncs(monkeypatch)
    journal = EpisodeJournal(tmp_path / "deep" / "j")
    path = journal.write("a", b"data")
    assert synced == [tmp_path, tmp_path / "deep", tmp_path / "deep", journal.directory]
    synced.clear()
    kept = journal.set_aside(path, "it is of no use")
    assert synced == [journal.directory, kept.parent, journal.directory]


def damaged(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = bytearray()
    elif how == "bit flipped":
        content[-3] ^= 1
    elif how == "checksum flipped":
        content[10] ^= 1
    else:
        content = bytearray(b"not ours" * 20)
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "empty", "bit flipped", "checksum flipped", "another file"])
def test_a_damaged_file_is_noticed_and_set_aside(tmp_path, caplog, how):
    journal = EpisodeJournal(tmp_path)
    journal.write("good", b"g" * 200)
    bad = journal.write("bad", b"b" * 200)
    damaged(bad, how)
    with pytest.raises(DamagedFileError, match="bad"):
        journal.read(bad)
    kept = journal.set_aside(bad, "it is damaged")
    assert kept == tmp_path / DAMAGED / bad.name
    assert kept.is_file()
    assert [journal.read(path) for path in journal.pending()] == [b"g" * 200]
    assert f"set aside as {kept}: it is damaged" in caplog.text


def test_a_full_disk_leaves_nothing_behind_and_the_next_episode_fits(tmp_path):
    """A process that may write 100 kB to a file, as a disk that is full."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from lerobot_serl.replay.journal import EpisodeJournal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "journal = EpisodeJournal(Path(sys.argv[1]))\n"
        "journal.write('small', b's' * 1000)\n"
        "try:\n"
        "    journal.write('large', b'l' * 200_000)\n"
        "except OSError as error:\n"
        "    print(type(error).__name__)\n"
        "journal.write('next', b'n' * 1000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "OSError\n"
    journal = EpisodeJournal(tmp_path)
    assert [journal.read(path) for path in journal.pending()] == [b"s" * 1000, b"n" * 1000]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [SUFFIX, SUFFIX]
