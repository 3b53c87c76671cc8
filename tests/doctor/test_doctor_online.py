"""lerobot-serl-doctor on the dataset of a learner: its link, versions, locks and journal."""

import os
import shutil

import pytest
from broken_datasets import DATA, doctor, tree
from journalled import assert_dataset_holds, journalled, settings_for
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from small_data import assert_same_recording, make_recording

from lerobot_serl.owned_lock import OwnedLock
from lerobot_serl.replay.dataset_writer import write_pending
from lerobot_serl.replay.demonstrations import EpisodeReader
from lerobot_serl.replay.journal import journal_of
from lerobot_serl.replay.manifest import known_uuids
from lerobot_serl.replay.versions import DatasetVersions

RECORDINGS = [make_recording(4, end, mark) for mark, end in enumerate(["terminated", "truncated", "terminated", "terminated"], 1)]


def online(root, recordings=RECORDINGS[:3]):
    """A learner's dataset, as the learner makes it; the second part came in a later run."""
    for start in (0, 2):
        journalled(root, recordings[start : start + 2], start)
        write_pending(settings_for(root))
    return root


def test_a_learners_dataset_is_sound(tmp_path, capsys):
    root = online(tmp_path / "online")
    DatasetVersions(root).identity()
    status, said = doctor(root, capsys=capsys)
    assert status == 0, said.out
    assert "is version 00000002 of a learner's dataset" in said.out


def test_a_missing_link_is_put_back(tmp_path, capsys):
    root = online(tmp_path / "online")
    DatasetVersions(root).identity()
    root.unlink()
    status, said = doctor(root, capsys=capsys)
    assert status == 1
    assert "is missing" in said.out
    assert not root.is_symlink()
    assert doctor(root, "--repair", capsys=capsys)[0] == 0
    assert_dataset_holds(root, RECORDINGS[:3])


def test_a_damaged_version_is_followed_by_a_repaired_one(tmp_path, capsys):
    """What it held is kept beside it; the lost episodes leave the manifest, so that they are taken if they are sent again."""
    root = online(tmp_path / "online")
    identity = DatasetVersions(root).identity()
    path = root / DATA
    os.truncate(path, path.stat().st_size - 10)
    before = tree(root.resolve())
    assert doctor(root, "--repair", capsys=capsys)[0] == 0
    assert tree(root.with_name("online.broken-1")) == before
    assert root.is_symlink()
    assert root.resolve().name == "00000003"
    assert DatasetVersions(root).identity() == identity
    (left,) = [EpisodeReader(LeRobotDataset("test/any", root=root), list(RECORDINGS[2].observation)).read(0)]
    assert_same_recording(RECORDINGS[2], left, words=False)
    assert known_uuids(root) == {"episode-2"}
    journalled(root, RECORDINGS[:1])
    assert write_pending(settings_for(root)) == 1
    assert_dataset_holds(root, [RECORDINGS[2], RECORDINGS[0]])


@pytest.mark.parametrize("name", ["learner.lock", "writer.lock"])
def test_a_dataset_in_use_is_left_alone(tmp_path, capsys, name):
    root = online(tmp_path / "online")
    os.truncate(root / DATA, 5)
    with OwnedLock(DatasetVersions(root).directory / name, "It", "Wait."):
        status, said = doctor(root, "--repair", capsys=capsys)
    assert status == 2
    assert f"is in use by process {os.getpid()} on " in said.err
    assert (root / DATA).stat().st_size == 5


def test_a_directory_in_the_links_place(tmp_path, capsys):
    root = online(tmp_path / "online")
    shutil.copytree(online(tmp_path / "other", RECORDINGS[:2]), tmp_path / "plain")
    root.unlink()
    (tmp_path / "plain").rename(root)
    status, said = doctor(root, "--repair", capsys=capsys)
    assert status == 1
    assert f"{root} holds 2 episodes, 8 frames" in said.out
    assert "online.versions/00000002 holds 3 episodes, 12 frames" in said.out
    assert not root.is_symlink()


def test_the_journal_is_completed(tmp_path, capsys):
    """A waiting episode, a damaged one, one of which only the name was missing, and half of one."""
    root = online(tmp_path / "online")
    DatasetVersions(root).identity()
    journal = journalled(root, RECORDINGS[3:], 3)
    whole = journal.pending()[0].read_bytes()
    (journal.directory / "00000007-damaged.episode").write_bytes(whole[:-1] + b"?")
    (journal.directory / "00000008-renamed.part").write_bytes(whole)
    (journal.directory / "00000009-half.part").write_bytes(whole[:100])
    status, said = doctor(root, capsys=capsys)
    assert status == 1
    assert "1 episodes wait in" in said.out
    assert "00000007-damaged.episode does not have the checksum" in said.out
    assert "2 files in" in said.out
    assert doctor(root, "--repair", capsys=capsys)[0] == 0
    assert_dataset_holds(root, [*RECORDINGS, RECORDINGS[3]])
    assert sorted(path.name for path in (journal.directory / "damaged").iterdir()) == ["00000007-damaged.episode", "00000009-half.part"]
    assert journal.pending() == []


def test_a_journal_without_a_dataset_needs_the_learner(tmp_path, capsys):
    root = tmp_path / "online"
    journalled(root, RECORDINGS[:2])
    status, said = doctor(root, "--repair", capsys=capsys)
    assert status == 1
    assert f"Start the learner with --policy.online.root={root}" in said.out
    assert len(journal_of(root).pending()) == 2
