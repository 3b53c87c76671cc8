"""Episodes in a LeRobotDataset: written, opened with stock LeRobot, read back to the bit."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from small_data import ACTION, ENV_STATE, FPS, STATE, assert_same_recording, make_recording, vector_features

from lerobot_serl.replay import store as store_module
from lerobot_serl.replay.demonstrations import EpisodeReader
from lerobot_serl.replay.episode import Decider
from lerobot_serl.replay.store import EpisodeStore, decide_videos, most_frames, online_features

CAMERA = "observation.images.front"
FEATURES = online_features(vector_features(), use_videos=False)
KEYS = [STATE, ENV_STATE]


def store_in(root, features=None, fps=FPS):
    return EpisodeStore("test/online", str(root), fps, FEATURES if features is None else features, use_videos=False)


def named(*recordings):
    return [(f"{recording.info.get('actor', '')}{id(recording)}", recording) for recording in recordings]


def read_all(root, keys=KEYS):
    reader = EpisodeReader(LeRobotDataset("test/online", root=root), keys)
    assert (reader.rule.ends, reader.rule.reward) == ("terminated", "recorded")
    return [reader.read(index) for index in range(len(reader))]


def test_features_of_the_online_dataset():
    demonstrations = {
        **vector_features(),
        CAMERA: {"dtype": "video", "shape": (8, 8, 3), "names": ["height", "width", "channels"], "info": {"video.fps": 10}},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
        "timestamp": {"dtype": "float32", "shape": (1,), "names": None},
        "complementary_info": {"dtype": "float32", "shape": (2,), "names": None},
    }
    features = online_features(demonstrations, use_videos=False)
    labels = {"next.reward", "next.success", "next.done", "next.terminated", "next.truncated", "next.decided_by", "is_intervention"}
    assert set(features) == {*vector_features(), CAMERA, *labels, "plan.action", "plan.age"}
    assert features["plan.action"] == {"dtype": "float32", "shape": features[ACTION]["shape"], "names": None}
    assert features["plan.age"] == {"dtype": "int64", "shape": (1,), "names": None}
    assert features[CAMERA] == {"dtype": "image", "shape": (8, 8, 3), "names": ["height", "width", "channels"]}
    assert features[STATE] == demonstrations[STATE]
    assert features["next.decided_by"] == {"dtype": "int64", "shape": (1,), "names": None}
    assert online_features(demonstrations, use_videos=True)[CAMERA]["dtype"] == "video"


def test_every_end_and_every_flag_comes_back(tmp_path):
    recordings = [
        make_recording(4, "terminated", 1),
        make_recording(3, "terminated", 2, success=False),
        make_recording(5, "truncated", 3),
        make_recording(2, "data end", 4),
        make_recording(3, "truncated", 5, reward=torch.tensor([0.1, -2.0, 1e-7]), intervention=torch.ones(3, dtype=torch.bool)),
    ]
    store = store_in(tmp_path / "online")
    assert not store.exists
    store.append(named(*recordings[:2]))
    assert store.exists
    store.append(named(*recordings[2:4]))
    store_in(tmp_path / "online").append(named(*recordings[4:]))  # a later run
    back = read_all(tmp_path / "online")
    assert len(back) == len(recordings)
    for one, two in zip(recordings, back, strict=True):
        assert_same_recording(one, two, words=False)


def test_columns_that_other_tools_read(tmp_path):
    store = store_in(tmp_path / "online")
    store.append(named(make_recording(3, "terminated"), make_recording(3, "truncated"), make_recording(3, "data end", task="")))
    dataset = store.open()
    assert (dataset.num_episodes, dataset.num_frames, dataset.fps) == (3, 9, FPS)
    columns = {key: [bool(value) for value in dataset.hf_dataset[key]] for key in ("next.success", "next.done", "next.truncated")}
    last = [False, False, True]
    never = [False] * 3
    assert columns == {"next.success": last + never + never, "next.done": last + last + never, "next.truncated": never + last + never}
    assert [dataset[i]["task"] for i in (0, 8)] == ["touch the dot", "no task given"]


def test_who_decided_is_stored_at_the_last_frame(tmp_path):
    said = [decider.value for decider in Decider]
    store = store_in(tmp_path / "online")
    store.append(named(*(make_recording(2, info={"decided_by": who}) for who in [*said, "the dog", 3]), make_recording(2, info={})))
    numbers = [int(value) for value in store.open().hf_dataset["next.decided_by"]]
    assert numbers[0::2] == [0] * 10
    assert numbers[1::2] == [0, 1, 2, 3, 4, 5, 6, 0, 0, 0]


def test_numbers_of_deciders_in_stored_datasets_never_change():
    assert {decider.value: decider.number for decider in Decider} == {
        "nobody": 0, "environment": 1, "robot": 2, "person": 3, "reward model": 4, "function": 5, "time limit": 6,
    }  # fmt: skip


def test_images_come_back_exactly(tmp_path):
    camera = {CAMERA: {"dtype": "image", "shape": (8, 6, 3), "names": ["height", "width", "channels"]}}
    recording = make_recording(3)
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 8, 6), dtype=np.uint8))
    recording = replace(recording, observation={**recording.observation, CAMERA: image})
    store = store_in(tmp_path / "online", online_features(vector_features() | camera, use_videos=False))
    store.append(named(recording))
    (back,) = read_all(tmp_path / "online", [*KEYS, CAMERA])
    assert_same_recording(recording, back, words=False)


@pytest.fixture(scope="module")
def existing(tmp_path_factory):
    root = tmp_path_factory.mktemp("store") / "online"
    store_in(root).append(named(make_recording(3)))
    return root


def with_changes(**changes):
    return {key: value for key, value in (FEATURES | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("features", "fps", "named"),
    [
        ({STATE: FEATURES[STATE] | {"shape": (6,)}}, FPS, r"'observation.state' is float32\(4,\), expected float32\(6,\)"),
        ({STATE: FEATURES[STATE] | {"dtype": "float64"}}, FPS, "'observation.state' is float32.*expected float64"),
        ({"observation.force": FEATURES[STATE]}, FPS, "'observation.force' is missing, expected float32"),
        ({ENV_STATE: None}, FPS, r"'observation.environment_state' is float32\(3,\), expected missing"),
        ({}, 30, "fps is 10, expected 30"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused_by_name(existing, features, fps, named):
    with pytest.raises(ValueError, match=named) as caught:
        store_in(existing, with_changes(**features), fps)
    assert "policy.online.repo_id='test/online'" in str(caught.value)
    assert str(existing) in str(caught.value)


def test_all_differences_are_named_at_once(existing):
    with pytest.raises(ValueError, match=r"'observation\.force' is missing.*fps is 10, expected 5"):
        store_in(existing, with_changes(**{"observation.force": FEATURES[STATE]}), 5)


def test_a_directory_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("two years of work")
    with pytest.raises(ValueError, match=r"is not empty and holds no LeRobotDataset. Name an empty or new directory."):
        store_in(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "two years of work"


def test_an_empty_directory_is_used(tmp_path):
    store = store_in(tmp_path)
    store.append(named(make_recording(2)))
    assert len(read_all(tmp_path)) == 1


def test_a_version_that_was_replaced_just_now_is_no_damage(existing, tmp_path, monkeypatch):
    """Another process commits between two looks: the files of the version before are gone."""
    root = shutil.copytree(existing, tmp_path / "copy" / "online")
    store_in(root).versions.recover()
    other, whole, seen = store_in(root), store_module.require_whole, []

    def look(path):
        seen.append(path)
        if len(seen) == 1:
            other.append(named(make_recording(2)))
        whole(path)

    monkeypatch.setattr(store_module, "require_whole", look)
    assert len(store_in(root).open()) == 5
    assert [path.name for path in seen[:2]] == ["00000001", "00000002"]


def test_pictures_bound_an_episode_and_videos_do_not():
    cameras = {f"observation.images.{name}": {"dtype": "video", "shape": (480, 640, 3), "names": None} for name in "ab"}
    features = {**cameras, "action": {"dtype": "float32", "shape": (2,), "names": None}}
    assert most_frames(online_features(features, use_videos=True)) is None
    assert most_frames(online_features(features, use_videos=False)) == 2**31 // (2 * 921_600)
    assert most_frames(online_features({"action": features["action"]}, use_videos=False)) is None


def cameras_of(height, width, n=2):
    cameras = {f"observation.images.{name}": {"dtype": "image", "shape": (height, width, 3), "names": None} for name in "abc"[:n]}
    return vector_features() | cameras


@pytest.mark.parametrize(("features", "fps", "videos"), [
    (cameras_of(480, 640), 30, True), (cameras_of(480, 640, 1), 10, False), (cameras_of(128, 128, 3), 50, False), (vector_features(), 100, False),
])  # fmt: skip
def test_large_cameras_become_videos(tmp_path, features, fps, videos):
    assert decide_videos(features, fps, tmp_path / "none") is videos


@pytest.mark.parametrize("kind", ["image", "video"])
def test_a_dataset_that_is_there_stays_as_it_is(tmp_path, kind):
    large, small = cameras_of(480, 640), cameras_of(8, 8)
    (tmp_path / "meta").mkdir()
    there = {key: {**feature, "dtype": kind if feature["dtype"] == "image" else feature["dtype"]} for key, feature in small.items()}
    (tmp_path / "meta" / "info.json").write_text(json.dumps({"features": there}))
    assert decide_videos(large, 30, tmp_path) is (kind == "video")
    for damaged in ("", "[]", '{"features": 3}', '{"features": {"a": null}}'):
        (tmp_path / "meta" / "info.json").write_text(damaged)
        assert decide_videos(large, 30, tmp_path) is True
