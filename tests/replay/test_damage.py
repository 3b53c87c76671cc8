"""A learner's dataset that something was done to: it begins with every episode, or says what is wrong, and nothing is ever deleted."""

import shutil
from dataclasses import replace

import pytest
import torch
from broken_datasets import DATA, damage, doctor, surroundings
from journalled import journalled
from small_data import ENV_STATE, FPS, STATE, assert_same_recording, make_recording, vector_features

from lerobot_serl.replay.dataset_writer import StoreSettings, write_pending
from lerobot_serl.replay.demonstrations import EpisodeReader
from lerobot_serl.replay.store import EpisodeStore, online_features
from lerobot_serl.replay.versions import DatasetVersions

CAMERA, SIDE = "observation.images.front", 96
VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"
META = "meta/episodes/chunk-000/file-000.parquet"
MANIFEST, LATER = "meta/serl_episodes.jsonl", DATA.replace("file-000", "file-001")
HOWS = ("halved", "emptied", "garbage", "deleted")
VERSION = "00000002"


def settings_for(root, kind=""):
    camera = {CAMERA: {"dtype": kind, "shape": (SIDE, SIDE, 3), "names": ["height", "width", "channels"]}} if kind else {}
    features = online_features(vector_features() | camera, use_videos=kind == "video")
    return StoreSettings("test/online", str(root), FPS, features, kind == "video")


def recordings_for(kind=""):
    vectors = [make_recording(4, end, mark) for mark, end in enumerate(["terminated", "truncated", "terminated"], 1)]
    if not kind:
        return vectors
    images = [torch.full((4, 3, SIDE, SIDE), 60 * mark, dtype=torch.uint8) for mark in range(3)]
    return [replace(one, observation={**one.observation, CAMERA: image}) for one, image in zip(vectors, images, strict=True)]


def begin(root, kind=""):
    """What a learner does with the dataset at its start; its episodes."""
    settings = settings_for(root, kind)
    store = EpisodeStore(settings.repo_id, settings.root, settings.fps, settings.features, settings.use_videos)
    write_pending(settings)
    store.versions.identity()
    store.uuids()
    if not store.exists:
        return []
    reader = EpisodeReader(store.open(), [STATE, ENV_STATE, *([CAMERA] if kind else [])])
    return [reader.read(index) for index in range(len(reader))]


def assert_episodes(found, numbers, kind=""):
    assert len(found) == len(numbers)
    for one, number in zip(found, numbers, strict=True):
        wanted = recordings_for(kind)[number]
        if kind == "video":  # not to the bit
            one, wanted = (replace(which, observation={STATE: which.observation[STATE]}) for which in (one, wanted))
        assert_same_recording(wanted, one, words=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Datasets of three episodes, made in two runs: two files of each kind."""
    made = {}
    for kind in ("", "image", "video"):
        made[kind] = tmp_path_factory.mktemp("whole") / "data" / "online"
        for first, last in ((0, 2), (2, 3)):
            journalled(made[kind], recordings_for(kind)[first:last], first)
            write_pending(settings_for(made[kind], kind))
        DatasetVersions(made[kind]).identity()
        assert made[kind].resolve().name == VERSION
    return made


@pytest.fixture
def copy(tmp_path, whole):
    """A dataset that a test may do anything to."""

    def make(kind=""):
        shutil.copytree(whole[kind].parent, tmp_path / "data", symlinks=True)
        return tmp_path / "data" / "online"

    return make


def assert_refused(root, words, kind=""):
    """In words, with the doctor's command; nothing was changed. Returns the sentence."""
    before = surroundings(root)
    with pytest.raises((ValueError, OSError)) as caught:
        begin(root, kind)
    for word in (words, "lerobot-serl-doctor "):
        assert word in str(caught.value)
    assert surroundings(root) == before
    return str(caught.value)


def assert_begins(root, numbers=(0, 1, 2), kind=""):
    """With these episodes, and every file that was there still is, apart from the notes beside the versions that are written anew."""
    before = surroundings(root)
    assert_episodes(begin(root, kind), numbers, kind)
    after = surroundings(root)
    gone = {name for name, content in before.items() if after.get(name) != content and not content.startswith("->")}
    assert not gone


def assert_repairs(root, numbers, capsys, kind=""):
    """The doctor announces it; afterwards everything that it did not write anew is still there, and the learner begins."""
    before = surroundings(root)
    status, said = doctor(root, capsys=capsys)
    assert status == 1
    assert "--repair: " in said.out
    assert surroundings(root) == before
    doctor(root, "--repair", capsys=capsys)
    assert_begins(root, numbers, kind)
    status, said = doctor(root, capsys=capsys)
    assert status == 0, said.out
    return before


def assert_kept(root, before):
    """All of the damaged version, somewhere."""
    left = set(surroundings(root).values())
    assert {content for name, content in before.items() if f"/{VERSION}/" in name} <= left


# Inside the version: what a repair brings back.
FILES = {
    "meta/info.json": (0, 1, 2),
    "meta/stats.json": (0, 1, 2),
    "meta/tasks.parquet": (0, 1, 2),
    META: (0, 1, 2),
    META.replace("file-000", "file-001"): (0, 1, 2),
    DATA: (2,),
    LATER: (0, 1),
    MANIFEST: (0, 1, 2),
}


# Each file with one harm in the fast set, and each harm with two of them.
DAMAGES = [
    pytest.param(name, how, marks=() if (index + step) % 4 == 0 else pytest.mark.slow, id=f"{name}-{how}")
    for index, name in enumerate(FILES)
    for step, how in enumerate(HOWS)
]


@pytest.mark.parametrize(("name", "how"), DAMAGES)
def test_a_damaged_file_is_named_and_repaired(copy, name, how, capsys):
    root = copy()
    damage(root / name, how)
    # A table of the episodes that is not there is told by the number of lines.
    assert_refused(root, "meta/episodes" if (name.startswith("meta/episodes"), how) == (True, "deleted") else name)
    before = assert_repairs(root, FILES[name], capsys)
    if name != MANIFEST or how not in ("emptied", "deleted"):
        assert_kept(root, before)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", ["identity.json", "committed.json"])
def test_damaged_notes_beside_the_versions(copy, name, how, capsys):
    root = copy()
    path = DatasetVersions(root).directory / name
    damage(path, how)
    if how == "deleted":  # as after earlier releases; for the identity the doctor tells what that means
        assert f"{name} is not there" in doctor(root, capsys=capsys)[1].out
        assert_begins(root)
        assert path.is_file()
        return
    assert_refused(root, name)
    before = assert_repairs(root, (0, 1, 2), capsys)
    assert before[f"online.versions/{name}"] in surroundings(root).values()
    assert path.is_file()


def test_a_damaged_identity_says_what_deleting_it_means(copy):
    root = copy()
    damage(DatasetVersions(root).directory / "identity.json", "emptied")
    said = assert_refused(root, "identity.json is empty")
    assert "episodes that are still in outboxes then wait there for the old one" in said


@pytest.mark.parametrize("how", HOWS)
def test_a_damaged_video_is_named(copy, how, capsys):
    root = copy("video")
    damage(root / VIDEO, how)
    assert_refused(root, VIDEO, "video")
    assert_kept(root, assert_repairs(root, (2,), capsys, "video"))


def test_a_damaged_picture_is_named(copy, capsys):
    """Inside a data file that can be read: LeRobot's message was PIL's."""
    root = copy("image")
    content = (root / DATA).read_bytes()
    place = content.index(b"\x89PNG") + 20
    (root / DATA).write_bytes(content[:place] + bytes(12) + content[place + 12 :])
    assert_refused(root, DATA, "image")


def link(root):
    root.unlink()


def mark(root):
    (root.with_name("online.versions") / f"{VERSION}.finished").unlink()


def committed(root):
    (root.with_name("online.versions") / "committed.json").unlink()


def version(root):
    shutil.rmtree(root.with_name("online.versions") / VERSION)


def versions(root):
    root.with_name("online.versions").rename(root.with_name("elsewhere"))


def empty_directory(root):
    root.mkdir()


def other_dataset(root):
    shutil.copytree(root.with_name("online.versions") / VERSION, root)


def other_link(root):
    root.symlink_to("nowhere")


BEGINS = {
    "link gone": [link],
    "mark gone": [mark],
    "link and mark gone": [link, mark],
    "link and note gone": [link, committed],
    "mark and note gone": [mark, committed],
    "an empty directory in the link's place": [link, empty_directory],
    "a link to nothing in its place": [link, other_link],
}


@pytest.mark.parametrize("name", BEGINS)
def test_what_can_be_told_is_put_right(copy, name):
    root = copy()
    for step in BEGINS[name]:
        step(root)
    assert_begins(root)
    assert root.resolve().name == VERSION
    assert_begins(root)


# What was done, what is named, whether a repair brings all episodes back.
REFUSED = {
    "link, mark and note gone": ([link, mark, committed], VERSION, True),
    "an empty directory, mark and note gone": ([link, mark, committed, empty_directory], VERSION, True),
    "version gone": ([version], VERSION, False),
    "version and link gone": ([version, link], VERSION, False),
    "version and mark gone": ([version, mark], VERSION, False),
    "version, link and note gone": ([version, link, committed], VERSION, False),
    "version, mark and note gone": ([version, mark, committed], f"online.versions/{VERSION}", False),
    "versions renamed": ([versions], f"online.versions/{VERSION}", False),
    "another dataset in the link's place": ([link, other_dataset], "online.versions", False),
    "another one, mark and note gone": ([link, other_dataset, mark, committed], "online.versions", False),
    "another one, version gone": ([link, other_dataset, version], VERSION, False),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_gone_is_refused_and_nothing_begins_anew(copy, name, capsys):
    steps, words, comes_back = REFUSED[name]
    root = copy()
    for step in steps:
        step(root)
    assert "0 acknowledged episodes wait in" in assert_refused(root, words)
    if comes_back:
        assert_repairs(root, (0, 1, 2), capsys)
        return
    before = surroundings(root)
    status, said = doctor(root, "--repair", capsys=capsys)
    assert status == 1
    assert words in said.out
    assert surroundings(root) == before


def test_a_link_that_was_renamed_is_no_new_dataset(copy):
    root = copy()
    renamed = root.rename(root.with_name("renamed"))
    assert_refused(renamed, f"is a link to version {VERSION} of the dataset {root}")


def test_a_dataset_that_was_renamed_as_a_whole_is_found(copy):
    root = copy()
    for name in ("online", "online.versions", "online.journal"):
        root.with_name(name).rename(root.with_name(name.replace("online", "moved")))
    assert_episodes(begin(root.with_name("moved")), (0, 1, 2))


def test_a_refusal_tells_what_the_journal_holds(copy):
    root = copy()
    journalled(root, recordings_for()[:2], 7)
    version(root)
    said = assert_refused(root, f"version {VERSION} of {root}, with 3 episodes, is gone")
    assert f"2 acknowledged episodes wait in {root}.journal" in said
    for word in ("Restore it from a copy", "To begin anew on purpose, name another dataset, or move"):
        assert word in said


def test_to_begin_anew_on_purpose(copy):
    """As the message says."""
    root = copy()
    version(root)
    for name in ("online", "online.versions"):
        root.with_name(name).rename(root.with_name(f"away-{name}"))
    assert begin(root) == []


def test_a_lost_ledger_says_that_episodes_may_come_twice(copy, capsys):
    """They are acknowledged, and sent again only where the acknowledgement was lost."""
    root = copy()
    (root / MANIFEST).unlink()
    assert "Episodes that are then sent again may be added twice" in assert_refused(root, "has 0 lines, and 3 were committed")
    status, said = doctor(root, "--repair", capsys=capsys)
    assert status == 0
    assert "episodes that are sent again may be added twice" in said.out
    assert root.resolve().name == "00000003"


def test_what_one_of_several_losses_leaves(copy, capsys):
    """The newest version is gone, and an older one is there: only the doctor goes on with it, and says so."""
    root = copy()
    old, new = (root.with_name("online.versions") / name for name in (VERSION, "00000005"))
    shutil.copytree(old, new)
    DatasetVersions(root).become(new)
    shutil.rmtree(new)
    assert_refused(root, "version 00000005")
    status, said = doctor(root, "--repair", capsys=capsys)
    assert status == 0, said.out
    assert "version 00000002 before it holds 3 episodes" in said.out
    assert_begins(root)


def test_only_the_newest_sound_version_is_put_back(copy, capsys):
    """A newer one that is half is kept beside it."""
    root = copy()
    for step in (link, mark, committed):
        step(root)
    directory = root.with_name("online.versions")
    shutil.copytree(directory / VERSION, directory / "00000003")
    damage(directory / "00000003" / LATER, "halved")
    half = surroundings(root)[f"online.versions/00000003/{LATER}"]
    assert_refused(root, "00000003 holds 3 episodes")
    assert_repairs(root, (0, 1, 2), capsys)
    assert root.resolve().name == VERSION
    assert surroundings(root)[f"online.broken-1/{LATER}"] == half


def test_half_a_version_that_claims_to_be_finished_does_not_replace_a_sound_one(copy, capsys):
    root = copy()
    directory = root.with_name("online.versions")
    shutil.copytree(directory / VERSION, directory / "00000003")
    damage(directory / "00000003" / DATA, "emptied")
    (directory / "00000003.finished").touch()
    assert_refused(root, DATA)
    assert_repairs(root, (0, 1, 2), capsys)
    assert root.resolve().name == VERSION


def test_a_missing_file_is_not_looked_for_on_the_hub(copy, monkeypatch):
    """LeRobot does, and puts what it finds in its place: an older state of the dataset."""
    root, asked = copy(), []
    monkeypatch.setattr("lerobot.datasets.dataset_metadata.get_safe_version", lambda *args: asked.append(args))
    (root / "meta/tasks.parquet").unlink()
    assert_refused(root, "meta/tasks.parquet is missing")
    assert asked == []
