"""lerobot-serl-doctor on datasets that were broken for real: by SIGKILL, by missing files, by flipped bits."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from broken_datasets import ACTION, CAMERA, DATA, ENCODER, FRAMES, STATE, add, doctor, frame, sound, tree
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_serl.doctor.dataset_check import examine
from lerobot_serl.scripts.lerobot_serl_doctor import main

HELPERS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
PATIENCE_S = 300
META = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Datasets whose recorder was killed."""
    directory = tmp_path_factory.mktemp("killed")
    command = [sys.executable, str(HELPERS / "broken_datasets.py"), str(directory)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    return directory


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Datasets that nothing happened to, recorded in two sessions: of three episodes, and of two."""
    directory = tmp_path_factory.mktemp("good")
    for kind in ("", "image", "video"):
        add(sound(directory / f"good_{kind}", range(3), kind), range(3, 5)).finalize()
    return directory


@pytest.fixture
def copy(tmp_path, killed, good):
    """A dataset that a test may do anything to."""

    def make(name):
        source = good if name.startswith("good") else killed
        return Path(shutil.copytree(source / name, tmp_path / name))

    return make


def assert_holds(root, marks):
    """Stock LeRobot opens it, and every frame is the one that was recorded."""
    dataset = LeRobotDataset("test/any", root=root)
    assert (dataset.num_episodes, dataset.num_frames, len(dataset.hf_dataset)) == (len(marks), FRAMES * len(marks), FRAMES * len(marks))
    camera = CAMERA if CAMERA in dataset.meta.features else ""
    for episode, mark in enumerate(marks):
        for t in range(FRAMES):
            item, expected = dataset[episode * FRAMES + t], frame(mark, t, camera)
            assert np.array_equal(item[STATE], expected[STATE])
            assert np.array_equal(item[ACTION], expected[ACTION])
            assert (int(item["episode_index"]), int(item["frame_index"]), item["task"]) == (episode, t, expected["task"])
            if camera:
                assert abs(float(item[camera].mean()) - expected[camera].mean() / 255) < 0.005
    assert set(dataset.meta.stats) >= {STATE, ACTION, *([camera] if camera else [])}


def assert_repairs(root, marks, capsys):
    """Found, repaired, the broken one kept as it was; and sound ever after."""
    before = tree(root)
    status, said = doctor(root, capsys=capsys)
    assert status == 1
    assert "--repair: " in said.out
    assert tree(root) == before
    status, said = doctor(root, "--repair", capsys=capsys)
    assert status == 0, said.out
    assert tree(root.with_name(f"{root.name}.broken-1")) == before
    assert_holds(root, marks)
    assert doctor(root, capsys=capsys)[0] == 0
    assert sorted(path.name for path in root.parent.iterdir() if path.name.startswith(root.name)) == [root.name, f"{root.name}.broken-1"]
    return said.out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", "image", "video"])
def test_a_sound_dataset(copy, kind, capsys):
    root = copy(f"good_{kind}")
    before = tree(root)
    status, said = doctor(root, "--repair", capsys=capsys)
    assert (status, said.err) == (0, "")
    assert said.out.startswith("ok      5 episodes, 30 frames: every one is there and fits its neighbours\nnote    Labels of good_")
    assert "30  30, as transitions\n" in said.out
    assert tree(root) == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", "image", "video"])
def test_killed_while_appending(copy, kind, capsys):
    """LeRobot opens nothing of it; the closed episodes come back, and recording can go on."""
    root = copy(f"appending_{kind}")
    with pytest.raises(Exception, match=r".*"):
        LeRobotDataset("test/any", root=root)
    said = assert_repairs(root, range(3), capsys)
    assert "file-001.parquet has no footer" in said
    assert "counts 5 episodes and 30 frames, the data hold 3 and 18" in said
    add(LeRobotDataset.resume("test/any", root=root, rgb_encoder=ENCODER), [3]).finalize()
    assert_holds(root, range(4))


@pytest.mark.slow
def test_the_command(copy):
    root = copy("appending_")
    command = [sys.executable, "-m", "lerobot_serl.scripts.lerobot_serl_doctor", str(root)]
    done = subprocess.run([*command, "--repair"], env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--repair: leaves the file in the broken copy" in done.stdout
    assert "ok      3 episodes, 18 frames: every one is there and fits its neighbours\n" in done.stdout.partition("Now:")[2]
    assert_holds(root, range(3))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "video"])
def test_data_closed_but_episodes_never_written(copy, kind, tmp_path, capsys):
    """What is made anew is what LeRobot would have written."""
    root = copy(f"no_episodes_{kind}")
    assert_repairs(root, range(3), capsys)
    sound(tmp_path / "wanted", range(3), kind)
    wanted, made = (LeRobotDataset("test/any", root=path) for path in (tmp_path / "wanted", root))
    assert made.meta.info == wanted.meta.info
    for one, two in zip(made.meta.episodes, wanted.meta.episodes, strict=True):
        assert one.keys() == two.keys()
        assert all(one[key] == pytest.approx(two[key]) for key in one if key != "tasks")
        assert one["tasks"] == two["tasks"]
    for key, stats in wanted.meta.stats.items():
        tolerance = 0.02 if (key, kind) == (CAMERA, "video") else 1e-6  # recorded pictures, decoded ones
        for name, value in stats.items():
            np.testing.assert_allclose(made.meta.stats[key][name], value, atol=tolerance, err_msg=f"{key} {name}")


@pytest.mark.slow
def test_episodes_behind_the_data(copy, capsys):
    """The lines that are there stay; videos of the others are found by counting frames."""
    said = assert_repairs(copy("episodes_behind"), range(4), capsys)
    assert "meta/episodes has no line for episodes 2 to 3" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["never_closed_image", "never_closed_video", "many"])
def test_nothing_closed_is_told_and_left_alone(copy, name, capsys):
    root = copy(name)
    (root / "images" / CAMERA / "episode-000003").mkdir(parents=True)
    (root / "images" / CAMERA / "episode-000003" / "frame-000000.png").write_bytes(b"a picture")
    before = tree(root)
    status, said = doctor(root, "--repair", capsys=capsys)
    assert status == 1
    assert "the numbers (actions, states, rewards) that were not closed into a file are lost" in said.out
    assert "survives: images/observation.images.front/episode-000003 (1 pictures)" in said.out
    assert (f"survives: {VIDEO}" in said.out) == name.endswith("video")
    assert tree(root) == before
    assert [path.name for path in root.parent.iterdir()] == [name]


@pytest.mark.slow
def test_recorded_into_after_a_kill(copy, capsys):
    """The episode after the lost ones gets their number, and keeps its own video."""
    root = copy("appending_video")
    add(LeRobotDataset.resume("test/any", root=root, rgb_encoder=ENCODER), [7]).finalize()
    said = assert_repairs(root, [0, 1, 2, 7], capsys)
    assert "the data do not hold episodes 3 to 4" in said


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "damage"), [("", "empty"), ("image", "truncated"), ("video", "missing")])
def test_info_is_made_anew(copy, kind, damage, capsys):
    root = copy(f"good_{kind}")
    wanted = json.loads((root / "meta/info.json").read_text())
    if damage == "missing":
        (root / "meta/info.json").unlink()
    else:
        os.truncate(root / "meta/info.json", 0 if damage == "empty" else 200)
    said = assert_repairs(root, range(5), capsys)
    assert "the names of the joints and the type of the robot are lost" in said
    made = json.loads((root / "meta/info.json").read_text())
    for key, feature in wanted["features"].items():
        assert {name: made["features"][key][name] for name in ("dtype", "shape")} == {name: feature[name] for name in ("dtype", "shape")}
    assert {key: made[key] for key in ("fps", "total_frames", "data_path")} == {
        key: wanted[key] for key in ("fps", "total_frames", "data_path")
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["meta/stats.json", "meta/tasks.parquet", META])
def test_other_meta_files_are_made_anew(copy, name, capsys):
    root = copy("good_video")
    wanted = LeRobotDataset("test/any", root=root).meta.stats[STATE]
    (root / name).write_bytes(b"")
    assert_repairs(root, range(5), capsys)
    made = LeRobotDataset("test/any", root=root).meta.stats[STATE]
    assert all(np.allclose(made[key], wanted[key]) for key in wanted)


def rewrite(path, change):
    table = change(pq.read_table(path))
    path.unlink()
    pq.write_table(table, path)


def with_action(table, row, value):
    rows = table["action"].to_pylist()
    rows[row][0] = value
    place = table.schema.get_field_index("action")
    return table.set_column(place, table.schema.field(place), pa.array(rows, table.schema.field(place).type))


@pytest.mark.slow
def test_a_number_that_changed_gives_its_episode_away(copy, capsys):
    """Parquet files have no checksum; the statistics of the episode are one. The episodes behind it move up."""
    root = copy("good_video")
    rewrite(root / DATA, lambda table: with_action(table, FRAMES + 2, 0.25))
    said = assert_repairs(root, [0, 2, 3, 4], capsys)
    assert "episode 1: its action are not the numbers that were recorded" in said


@pytest.mark.slow
def test_a_damaged_picture_costs_its_episode_only(copy, capsys):
    root = copy("good_image")

    def flip(table):
        rows = table[CAMERA].to_pylist()
        data = rows[FRAMES + 2]["bytes"]
        rows[FRAMES + 2]["bytes"] = data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
        place = table.schema.get_field_index(CAMERA)
        return table.set_column(place, table.schema.field(place), pa.array(rows, table.schema.field(place).type))

    rewrite(root / DATA, flip)
    said = assert_repairs(root, [0, 2, 3, 4], capsys)
    assert f"episode 1: its picture 2 of {CAMERA} is damaged" in said


@pytest.mark.slow
def test_flipped_bits(copy, tmp_path, capsys):
    """Wherever a byte is damaged: it is found, or it changed no number by more than the statistics can tell."""
    root = copy("good_image")
    content = (root / DATA).read_bytes()
    wanted = read_numbers(root)
    found = 0
    for offset in range(5, len(content), len(content) // 25):
        (root / DATA).write_bytes(content[:offset] + bytes([content[offset] ^ 0x41]) + content[offset + 1 :])
        if examine(root).sound:
            np.testing.assert_allclose(read_numbers(root), wanted, rtol=0.01)
        else:
            found += 1
    assert found > 12
    (root / DATA).write_bytes(content[:2000] + bytes(4) + content[2004:])
    assert_repairs(root, [3, 4], capsys)


def read_numbers(root):
    columns = [pq.read_table(path, columns=[STATE, ACTION]).to_pydict() for path in sorted((root / "data").rglob("*.parquet"))]
    return np.concatenate([np.concatenate([column[STATE], column[ACTION]], axis=1) for column in columns])


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["missing", "truncated", "too short"])
def test_episodes_without_their_video_are_left_out(copy, damage, capsys):
    root = copy("good_video")
    video = root / VIDEO.replace("file-000", "file-001")
    if damage == "missing":
        video.unlink()
    elif damage == "truncated":
        os.truncate(video, video.stat().st_size - 300)
    else:
        shutil.copy(add_short(root.with_name("short")), video)
        shutil.rmtree(root.with_name("short"))
    assert_repairs(root, range(4) if damage == "too short" else range(3), capsys)


def add_short(root):
    """A video that holds the fourth episode and no fifth."""
    sound(root, [3], "video")
    return root / VIDEO


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "said"), [(float("nan"), "nan to nan"), (1e30, "1e+30 to 1e+30"), (-3e38, "-3e+38 to -3e+38"), (1e9, "1e+09 to")]
)
def test_an_episode_of_numbers_that_make_no_sense_is_left_out(tmp_path, capsys, number, said):
    """Two such numbers made NaN of stats.json, and the episodes beside theirs were called damaged."""
    root = tmp_path / "data"
    sound(root, [1, number, 2, 3])
    status, printed = doctor(root, "--repair", capsys=capsys)
    assert status == 0
    assert f"episode 1: its {ACTION}[0] goes from {said}" in printed.out
    assert f"; its {STATE}[0] goes from {said}" in printed.out
    assert [line for line in printed.out.splitlines() if line.startswith("problem episode")] == [
        line for line in printed.out.splitlines() if line.startswith("problem episode 1:")
    ]
    assert_holds(root, [1, 2, 3])
    assert "NaN" not in (root / "meta" / "stats.json").read_text()
    assert "Infinity" not in (root / "meta" / "stats.json").read_text()


@pytest.mark.slow
def test_a_repair_that_was_killed_is_finished(copy, capsys, monkeypatch):
    """Between the two renames neither is in its place."""
    root = copy("appending_")

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("lerobot_serl.doctor.repair._put_in_place", die)
        with pytest.raises(KeyboardInterrupt):
            main([str(root), "--repair"])
    assert not root.exists()
    status, said = doctor(root, capsys=capsys)
    assert status == 1
    assert "its repair was interrupted" in said.out
    assert doctor(root, "--repair", capsys=capsys)[0] == 0
    assert_holds(root, range(3))


@pytest.mark.slow
def test_a_dataset_that_is_being_recorded_is_left_alone(copy, capsys):
    root = copy("appending_")
    holder = "import sys; handle = open(sys.argv[1], 'ab'); print('open', flush=True); sys.stdin.read()"
    path = root / "data/chunk-000/file-001.parquet"
    process = subprocess.Popen([sys.executable, "-c", holder, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "open\n"
    before = tree(root)
    status, said = doctor(root, "--repair", capsys=capsys)
    process.communicate()
    assert status == 2
    assert f"is being written by process {process.pid}" in said.err
    assert tree(root) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"codebase_version": "v2.1"}, "format 'v2.1', expected v3.0"),
        ({"codebase_version": "v9.0"}, "update lerobot"),
        ({"data_path": "../{chunk_index.__class__}"}, "names other places for its files"),
    ],
)
def test_what_it_does_not_know_it_does_not_touch(copy, change, words, capsys):
    root = copy("good_")
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | change))
    before = tree(root)
    status, said = doctor(root, "--repair", capsys=capsys)
    assert status == 2
    assert words in said.err
    assert tree(root) == before


HOSTILE = {
    "a feature's name that leads elsewhere": {"../../stolen": {"dtype": "video", "shape": [2, 2, 3], "names": None}},
    "facts that are no facts": {"camera": {"dtype": "video", "shape": [2, 2, 3], "names": None, "info": [1]}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_info(copy, name, capsys):
    root = copy("good_video")
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"features": info["features"] | HOSTILE[name]}))
    status, said = doctor(root, "--repair", capsys=capsys)
    assert status == 2
    assert "would not have written" in said.err


@pytest.mark.slow
@pytest.mark.parametrize(("column", "value"), [("episode_index", 2**62), ("task_index", 2**62), ("index", -(2**62)), ("frame_index", -1)])
def test_hostile_numbers(copy, column, value, capsys):
    """They cost neither memory nor time, and their file is not believed; the other one is."""
    root = copy("good_")
    rewrite(root / DATA, lambda table: with_counter(table, column, value))
    said = assert_repairs(root, [3, 4], capsys)
    assert "\x1b" not in said


def with_counter(table, column, value):
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(place), pa.array([value] * len(table), pa.int64()))


@pytest.mark.slow
def test_hostile_words_do_not_reach_the_terminal(copy, capsys):
    root = copy("good_")
    (root / "data/chunk-000/file-\x1b[2J.parquet").write_bytes(b"PAR1")
    status, said = doctor(root, capsys=capsys)
    assert status == 1
    assert "file-?[2J.parquet has a name that LeRobot does not give" in said.out


def test_paths_that_are_no_dataset(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "online.versions" / "00000001").mkdir(parents=True)
    words = {"nothing": "does not exist", "file": "is a file", "empty": "holds neither meta/ nor data/"}
    words["online.versions/00000001"] = f"is a version of the dataset {tmp_path / 'online'}"
    for name, word in words.items():
        status, said = doctor(tmp_path / name, capsys=capsys)
        assert status == 2
        assert word in said.err
