"""The robot's journal on disk: order, one process, damage, room."""

import json
import os
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from synced import record_syncs

from lerobot_serl.actor.outbox import FLOOR_BYTES, OnlineDataset, Outbox, OutboxFullError
from lerobot_serl.owned_lock import LockedError
from lerobot_serl.transport import MessageError

FIRST = "1" * 32
ONE, TWO = OnlineDataset(FIRST, "me/one"), OnlineDataset("2" * 32, "me/two")
LIMIT_BYTES = 10**9


@contextmanager
def opened(directory, limit_bytes=LIMIT_BYTES):
    outbox = Outbox(directory, limit_bytes)
    try:
        yield outbox
    finally:
        outbox.close()


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "somewhere" / "spool"


@pytest.fixture
def outbox(directory):
    with opened(directory) as found:
        yield found


def test_the_names_of_new_directories_are_durable(directory, monkeypatch):
    synced = record_syncs(monkeypatch)
    with opened(directory) as found:
        assert synced[:2] == [directory.parents[1], directory.parent]
        synced.clear()
        found.write(ONE, "a", b"1")
    own = directory / ONE.directory
    assert synced == [directory, own, directory, own]  # its own name, dataset.json, its name once more, the episode
    assert json.loads((own / "dataset.json").read_text()) == {"id": FIRST, "repo_id": "me/one"}


def contents(outbox, dataset):
    return [outbox.read(path) for path in outbox.pending(dataset)]


def test_episodes_keep_their_order_over_processes_until_they_are_acknowledged(directory):
    with opened(directory) as first:
        for number in range(12):
            first.write(ONE, f"uuid-{number}", b"episode %d" % number)
        first.acknowledge(first.pending(ONE)[0])
    with opened(directory) as second:
        second.write(ONE, "uuid-12", b"episode 12")
        assert contents(second, ONE) == [b"episode %d" % number for number in range(1, 13)]
        for path in second.pending(ONE):
            second.acknowledge(path)
        assert second.pending(ONE) == []
        assert list((directory / FIRST).iterdir()) == [directory / FIRST / "dataset.json"]


def test_a_dataset_sees_its_own_episodes_only_and_hears_of_others(outbox):
    outbox.write(ONE, "a", b"1")
    outbox.write(TWO, "b", b"2")
    outbox.write(OnlineDataset(), "c", b"3")
    assert (contents(outbox, ONE), contents(outbox, TWO), contents(outbox, OnlineDataset())) == ([b"1"], [b"2"], [b"3"])
    assert outbox.others(ONE) == {"me/two": 1, "unnamed": 1}
    assert contents(outbox, OnlineDataset(FIRST, "renamed/one")) == [b"1"]


@pytest.mark.parametrize("name", ["../../etc", "/etc", "..", ".", "a/b", "x" * 200, "a\0b", "é"])
def test_ids_from_the_network_lead_nowhere_else(outbox, directory, name):
    outbox.write(OnlineDataset(name), "a", b"1")
    (path,) = outbox.pending(OnlineDataset(name))
    assert path.parent.parent == directory
    assert len(path.parent.name) <= 64
    assert outbox.pending(OnlineDataset(name + "x")) == []


@pytest.mark.parametrize("said", ["one", {"id": "one"}, {"id": 1, "repo_id": "me/one"}, {"id": "x" * 300, "repo_id": ""}, []])
def test_a_dataset_that_is_none_is_refused(said):
    with pytest.raises(MessageError, match="names its dataset"):
        OnlineDataset.of({"dataset": said})


def test_a_learner_need_not_name_its_dataset():
    assert OnlineDataset.of({}) == OnlineDataset()
    assert OnlineDataset.of({"dataset": {"id": FIRST, "repo_id": "me/one"}}) == ONE


def test_a_second_process_learns_who_the_first_is(outbox, directory):
    with pytest.raises(
        LockedError, match=rf"outbox {directory} \(--spool_dir\) is in use by process {os.getpid()} on .*give each its own --name"
    ):
        Outbox(directory, LIMIT_BYTES)
    outbox.close()
    outbox.close()  # may be called twice
    Outbox(directory, LIMIT_BYTES).close()


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        del content[-1:]
    elif how == "empty":
        content.clear()
    elif how == "bit flipped":
        content[-3] ^= 0x10
    elif how == "checksum flipped":
        content[12] ^= 0x01
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "empty", "bit flipped", "checksum flipped"])
def test_a_damaged_file_is_set_aside_and_said(outbox, directory, caplog, how):
    for uuid in ("a", "b"):
        outbox.write(ONE, uuid, b"episode " + uuid.encode())
    path = outbox.pending(ONE)[0]
    damage(path, how)
    assert contents(outbox, ONE) == [None, b"episode b"]
    assert [other.name for other in outbox.pending(ONE)] == ["00000002-b.episode"]
    assert (directory / FIRST / "damaged" / path.name).exists()
    assert "set aside" in caplog.text


def test_a_write_that_was_killed_is_finished_if_it_can_be_and_else_set_aside(directory, caplog):
    with opened(directory) as first:
        for uuid in ("a", "b", "c"):
            first.write(ONE, uuid, b"episode " + uuid.encode())
        complete, begun, _ = first.pending(ONE)
        complete.rename(complete.with_suffix(".part"))
        damage(begun, "truncated")
        begun.rename(begun.with_suffix(".part"))
    with opened(directory) as second:
        assert contents(second, ONE) == [b"episode a", b"episode c"]
    assert (directory / FIRST / "damaged" / "00000002-b.part").exists()
    assert "was stopped before the episode was complete" in caplog.text


def test_a_refused_episode_is_kept_elsewhere(outbox, directory, caplog):
    outbox.write(ONE, "a", b"1")
    outbox.refuse(outbox.pending(ONE)[0], "the action has other entries")
    assert outbox.pending(ONE) == []
    assert (directory / FIRST / "refused" / "00000001-a.episode").exists()
    assert "the action has other entries" in caplog.text


def test_a_file_that_can_not_be_read_holds_nobody_up(outbox, caplog):
    for uuid in ("a", "b"):
        outbox.write(ONE, uuid, uuid.encode())
    unreadable = outbox.pending(ONE)[0]
    unreadable.unlink()
    unreadable.mkdir()
    assert contents(outbox, ONE) == [None, b"b"]
    assert contents(outbox, ONE) == [b"b"]
    assert "can not be read" in caplog.text


def test_room_for_the_next_episode_is_twice_the_largest_or_the_floor(outbox, monkeypatch):
    real = os.statvfs
    free = [FLOOR_BYTES, 1000]

    def statvfs(path):
        real(path)
        return SimpleNamespace(f_bavail=free[0], f_frsize=1, f_files=10, f_favail=free[1])

    monkeypatch.setattr(os, "statvfs", statvfs)
    outbox.check_room()
    free[0] -= 1
    with pytest.raises(
        OutboxFullError, match=r"has 67 MB and 1000 files left.*may take 67 MB. Free some space, or choose another --spool_dir"
    ):
        outbox.check_room()
    free[:] = FLOOR_BYTES, 0
    with pytest.raises(OutboxFullError, match="0 files left"):
        outbox.check_room()
    monkeypatch.setattr("lerobot_serl.actor.outbox.FLOOR_BYTES", 100)
    outbox.write(ONE, "a", bytes(500))
    free[:] = 999, 10
    with pytest.raises(OutboxFullError):
        outbox.check_room()
    free[0] = 1000
    outbox.check_room()


def test_the_largest_episode_of_an_earlier_process_counts(directory, monkeypatch):
    monkeypatch.setattr("lerobot_serl.actor.outbox.FLOOR_BYTES", 100)
    with opened(directory) as first:
        first.write(ONE, "a", bytes(4000))
    with opened(directory, 12_000) as second, pytest.raises(OutboxFullError, match=r"--spool_limit_gb=1.2e-05 allows no more"):
        second.check_room()
    with opened(directory, 13_000) as second:
        second.check_room()


def test_everything_in_the_outbox_counts_against_its_limit(directory):
    with opened(directory, 2 * FLOOR_BYTES) as outbox:
        outbox.check_room()
        for part in (FIRST, f"{FIRST}/refused", f"{FIRST}/damaged"):
            (directory / part).mkdir(exist_ok=True)
            with (directory / part / "x").open("wb") as handle:
                handle.truncate(FLOOR_BYTES // 2)
        with pytest.raises(OutboxFullError, match="Nothing is lost"):
            outbox.check_room()


def test_what_is_sent_while_the_room_is_counted_takes_none(directory, monkeypatch):
    """The sender deletes what the learner has, in a thread of its own; the actor process ended with "No such file"."""
    with opened(directory) as outbox:
        outbox.write(ONE, "a", bytes(4000))
        [sent] = outbox.pending(ONE)
        listed = Path.rglob

        def while_it_is_sent(self, pattern):
            found = list(listed(self, pattern))
            assert sent in found
            outbox.acknowledge(sent)
            return found

        monkeypatch.setattr(Path, "rglob", while_it_is_sent)
        outbox.check_room()
        assert not sent.exists()


def test_where_nothing_can_be_written_it_says_so_at_once(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(
            PermissionError, match=r"^The outbox .*closed/spool \(--spool_dir\) cannot be written: .*: Permission denied\.$"
        ):
            Outbox(closed / "spool", LIMIT_BYTES)
    finally:
        os.seteuid(user)
