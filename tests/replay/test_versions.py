"""Versions of a dataset: what a reader sees when, and what a kill leaves."""

import json
import os

import pytest
from synced import record_syncs

import lerobot_serl.replay.versions as module
from lerobot_serl.owned_lock import LockedError, OwnedLock
from lerobot_serl.replay.committed import Committed
from lerobot_serl.replay.inventory import FORMAT
from lerobot_serl.replay.versions import DatasetVersions

ONE, TWO = '{"total_episodes": 1, "total_frames": 5}', '{"total_episodes": 2, "total_frames": 10}'


def content(root):
    """Text of every file of a dataset, by name."""
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()} if root.exists() else None


def write(root, **files):
    for name, text in {"meta/info.json": ONE, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def first_version(root):
    versions = DatasetVersions(root)
    path = versions.prepare()
    write(path, **{"data/chunk-000/file-000.parquet": "frames"})
    versions.commit(path)
    return versions


def test_a_version_becomes_the_dataset_when_it_is_committed(tmp_path):
    root = tmp_path / "online"
    versions = DatasetVersions(root)
    assert versions.current is None
    path = versions.prepare()
    assert not path.exists()
    write(path)
    assert not root.exists()
    versions.commit(path)
    assert root.is_symlink()
    assert versions.current == path.resolve()
    assert content(root) == {"meta/info.json": ONE}


def test_the_present_version_does_not_change_while_the_next_is_made(tmp_path):
    """Files that LeRobot writes anew are copies, the others links; the old version goes when the new one is there."""
    root = tmp_path / "online"
    versions = first_version(root)
    before, old = content(root), versions.current
    path = versions.prepare()
    assert os.stat(path / "data/chunk-000/file-000.parquet").st_ino == os.stat(old / "data/chunk-000/file-000.parquet").st_ino
    with (path / "meta/info.json").open("w") as handle:  # in place, as LeRobot does
        handle.write(TWO)
    write(path, **{"meta/info.json": TWO, "data/chunk-000/file-001.parquet": "more"})
    assert content(root) == before
    versions.commit(path)
    assert content(root) == {"data/chunk-000/file-000.parquet": "frames", "data/chunk-000/file-001.parquet": "more", "meta/info.json": TWO}
    assert not old.exists()


def test_the_link_is_relative_so_that_the_folder_can_be_moved(tmp_path):
    first_version(tmp_path / "here" / "online")
    (tmp_path / "here").rename(tmp_path / "there")
    assert content(tmp_path / "there" / "online") is not None


def test_recovery_drops_an_unfinished_version(tmp_path):
    root = tmp_path / "online"
    versions = first_version(root)
    unfinished = versions.prepare()
    write(unfinished, **{"meta/info.json": "half"})
    DatasetVersions(root).recover()
    assert not unfinished.exists()
    assert content(root)["meta/info.json"] == ONE


def test_recovery_puts_a_missing_link_back(tmp_path, caplog):
    root = tmp_path / "online"
    versions = first_version(root)
    before = content(root)
    root.unlink()
    versions.recover()
    assert content(root) == before
    assert "was put back" in caplog.text


@pytest.mark.parametrize("killed", [False, True])
def test_a_plain_directory_is_adopted(tmp_path, monkeypatch, killed):
    root = tmp_path / "online"
    write(root)
    versions = DatasetVersions(root)
    if killed:  # between moving the directory and making the link

        def die(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(DatasetVersions, "point_to", die)
            with pytest.raises(KeyboardInterrupt):
                versions.recover()
        assert not root.exists()
    versions.recover()
    assert root.is_symlink()
    assert content(root) == {"meta/info.json": ONE}
    versions.recover()
    assert content(root) == {"meta/info.json": ONE}


def test_a_directory_that_took_the_links_place_is_refused_and_both_are_kept(tmp_path):
    root = tmp_path / "online"
    versions = first_version(root)
    kept = versions.current
    root.unlink()
    write(root, **{"meta/info.json": "someone else's"})
    with pytest.raises(ValueError, match="already holds versions"):
        versions.recover()
    assert content(root) == {"meta/info.json": "someone else's"}
    assert content(kept)["meta/info.json"] == ONE


def test_without_hard_links_files_are_copied(tmp_path, monkeypatch):
    root = tmp_path / "online"
    versions = first_version(root)

    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    path = versions.prepare()
    write(path, **{"meta/info.json": TWO})
    versions.commit(path)
    assert content(root) == {"data/chunk-000/file-000.parquet": "frames", "meta/info.json": TWO}


def test_the_identity_is_kept_and_a_newer_format_is_refused(tmp_path):
    versions = DatasetVersions(tmp_path / "online")
    identity = versions.identity()
    assert len(identity) == 32
    assert DatasetVersions(tmp_path / "online").identity() == identity != DatasetVersions(tmp_path / "other").identity()
    (versions.directory / "identity.json").write_text(json.dumps({"format": FORMAT + 1, "id": identity}))
    with pytest.raises(ValueError, match=f"newer lerobot_serl.*format {FORMAT + 1}.*update it"):
        DatasetVersions(tmp_path / "online")


def test_one_writer_at_a_time(tmp_path):
    versions = first_version(tmp_path / "online")
    with versions.writing():
        lock = OwnedLock(versions.directory / "writer.lock", "The dataset", "Wait.")
        with pytest.raises(LockedError, match=f"The dataset is in use by process {os.getpid()} on "):
            lock.acquire()
    with versions.writing():
        pass


# What a kill leaves: the call that is never made -> whether the new version is the dataset then.
WINDOWS = {
    "sync": False,  # the version is not durable yet, and not marked
    "mark": False,
    "note": True,  # marked; committed.json still names the one before
    "point_to": True,  # noted; the link still names the one before
    "_drop_others": True,
}


class KilledError(BaseException):
    """Nothing of ours catches it."""


def kill_at(patched, window):
    def die(*_):
        raise KilledError

    owner, name = {
        "sync": (module, "sync"),
        "mark": (module, "mark_of"),
        "note": (Committed, "write"),
        "point_to": (DatasetVersions, "point_to"),
        "_drop_others": (DatasetVersions, "_drop_others"),
    }[window]
    patched.setattr(owner, name, die)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
def test_a_commit_that_is_killed_is_finished_or_undone(tmp_path, monkeypatch, caplog, window, first):
    root = tmp_path / "online"
    versions = DatasetVersions(root) if first else first_version(root)
    before = content(root)
    path = versions.prepare()
    write(path, **{"meta/info.json": TWO})
    after = content(path)
    with monkeypatch.context() as patched:
        kill_at(patched, window)
        with pytest.raises(KilledError):
            versions.commit(path)
    assert content(root) == (after if window == "_drop_others" else before)  # a reader sees one or the other
    DatasetVersions(root).recover()
    assert content(root) == (after if WINDOWS[window] else before)
    left = sorted(path.name for path in versions.directory.iterdir() if path.name != "writer.lock")
    assert left == ([] if content(root) is None else [root.resolve().name, f"{root.resolve().name}.finished", "committed.json"])
    if content(root) is not None:
        assert json.loads((versions.directory / "committed.json").read_text())["version"] == root.resolve().name
    DatasetVersions(root).check()


def test_a_finished_version_is_not_dropped_when_its_commit_fails(tmp_path, monkeypatch):
    """A full disk at the last step: what is marked is whole, and the next recovery finishes it."""
    root = tmp_path / "online"
    versions = first_version(root)
    path = versions.prepare()
    write(path, **{"meta/info.json": TWO})

    def full(*_):
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(DatasetVersions, "point_to", full)
        with pytest.raises(OSError, match="No space"):
            versions.commit(path)
    versions.discard(path)
    versions.recover()
    assert content(root)["meta/info.json"] == TWO


def test_a_discarded_version_leaves_nothing(tmp_path):
    versions = first_version(tmp_path / "online")
    before = sorted(versions.directory.iterdir())
    path = versions.prepare()
    versions.discard(path)
    assert sorted(versions.directory.iterdir()) == before


def test_a_number_is_never_given_twice(tmp_path):
    """Beside the mark of a version that is gone, one that is being made would look finished."""
    versions = first_version(tmp_path / "online")
    (versions.directory / "00000002.finished").touch()
    assert versions.prepare().name == "00000003"


def test_versions_of_earlier_releases_open_and_are_noted(tmp_path):
    """They have no committed.json, and nothing beside a version that is being made."""
    root = tmp_path / "online"
    versions = first_version(root)
    (versions.directory / "committed.json").unlink()
    write(versions.directory / "00000002", **{"meta/info.json": "half"})
    before = content(root)
    versions.recover()
    assert content(root) == before
    assert json.loads((versions.directory / "committed.json").read_text()) == {"version": "00000001", "episodes": 1, "ledger": 0}
    assert [path.name for path in versions.all] == ["00000001"]


def test_nothing_is_deleted_where_nothing_tells_what_is_whole(tmp_path):
    """Link and mark gone: recovery once took the only version for an unfinished one, and deleted it."""
    root = tmp_path / "online"
    versions = first_version(root)
    for path in (root, versions.directory / "00000001.finished", versions.directory / "committed.json"):
        path.unlink()
    kept = content(versions.directory)
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"00000001 holds 1 episodes, 5 frames\. lerobot-serl-doctor {root} examines them"):
            DatasetVersions(root).recover()
        assert content(versions.directory) == kept


def test_a_persons_own_link_is_followed_until_the_first_commit(tmp_path):
    root, place = tmp_path / "online", tmp_path / "large disk" / "dataset"
    write(place)
    root.symlink_to(place)
    versions = DatasetVersions(root)
    versions.recover()
    assert (root.resolve(), content(root)) == (place, {"meta/info.json": ONE})
    versions.commit(versions.prepare())
    assert root.resolve() == versions.linked
    assert content(place) == content(root) == {"meta/info.json": ONE}
    root.unlink()
    root.symlink_to(place)  # versions that nobody looks at any more were once deleted
    with pytest.raises(ValueError, match="already holds versions"):
        versions.recover()
    assert len(versions.all) == 1


def test_a_damaged_note_does_not_stop_a_reader(tmp_path):
    root = tmp_path / "online"
    versions = first_version(root)
    (versions.directory / "committed.json").write_text('{"version": "../..", "episodes": 1, "ledger": 0}')
    assert versions.committed is None
    assert list(versions.flaws) == ["committed.json"]
    with pytest.raises(ValueError, match=r"committed\.json holds .*expected 'version', 'episodes' and 'ledger'.*lerobot-serl-doctor"):
        versions.check()


def test_the_names_of_new_directories_are_durable(tmp_path, monkeypatch):
    synced = record_syncs(monkeypatch)
    versions = DatasetVersions(tmp_path / "deep" / "online")
    versions.writing()
    assert synced == [tmp_path, tmp_path / "deep"]
