"""Damage of a LeRobotDataset in words; the files of a learner's dataset are in test_damage.py."""

import json
import shutil

import pytest
from broken_datasets import DATA, damage
from small_data import ENV_STATE, STATE

from lerobot_serl.replay.demonstrations import EpisodeReader
from lerobot_serl.replay.opening import DamagedDatasetError, explained, first_flaw, open_dataset


@pytest.fixture
def root(tmp_path, demonstrations):
    return shutil.copytree(demonstrations.root, tmp_path / "demonstrations")


@pytest.mark.parametrize("how", ["halved", "emptied", "garbage"])
@pytest.mark.parametrize("name", ["meta/info.json", "meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet", DATA])
def test_damaged_demonstrations_are_told_by_file(root, name, how):
    damage(root / name, how)
    with pytest.raises(DamagedDatasetError, match=rf"in {root} cannot be read: {name} .*lerobot-serl-doctor {root} .*--repair"):
        EpisodeReader(open_dataset("test/tiny", root), [STATE, ENV_STATE])


def test_damaged_contents_behind_a_good_footer(root):
    content = bytearray((root / DATA).read_bytes())
    content[4:400] = bytes(396)
    (root / DATA).write_bytes(content)
    assert first_flaw(root) is None
    assert first_flaw(root, thorough=True).startswith(f"{DATA} has damaged contents")


def test_a_format_that_is_not_ours_is_told_by_lerobot(root):
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v2.1"}))
    (root / "meta/tasks.parquet").unlink()  # of v3.0 only
    with pytest.raises(DamagedDatasetError, match=r"v2\.1"):
        open_dataset("test/tiny", root)


def test_what_is_not_damaged_is_told_in_the_words_of_whoever_failed(root):
    with pytest.raises(DamagedDatasetError, match=rf"cannot be read: no memory \({DATA}\)"), explained(root, [root / DATA]):
        raise MemoryError("no memory")


def test_a_version_goes_by_the_name_of_its_dataset(root, tmp_path):
    version = tmp_path / "online.versions" / "00000003"
    version.parent.mkdir()
    root.rename(version)
    damage(version / "meta/stats.json", "emptied")
    assert first_flaw(version) == "meta/stats.json is empty"
    said = str(DamagedDatasetError(version, "meta/stats.json is empty"))
    assert f"The dataset in {tmp_path / 'online'} cannot" in said
    assert str(version) not in said
