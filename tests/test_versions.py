"""Versions of a dataset: what a reader sees when, and what a kill leaves."""

import json
import os

import pytest

from lerobot_serl.owned_lock import LockedError, OwnedLock
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
