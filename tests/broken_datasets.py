"""Record LeRobotDatasets with LeRobot and die by SIGKILL in the middle: ``python broken_datasets.py DIRECTORY``.

Several datasets are open at once, so that one death breaks them all, each at another stage.
"""

import hashlib
import os
import signal
import sys
from pathlib import Path

import datasets
import numpy as np
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset

FPS, FRAMES, SIDE = 10, 6, 32
STATE, ACTION, CAMERA = "observation.state", "action", "observation.images.front"
FEATURES = {
    STATE: {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
    ACTION: {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
    "next.success": {"dtype": "bool", "shape": (1,), "names": None},
}
# LeRobot's own codec takes seconds for an episode, and dies of pictures as small as these.
ENCODER = RGBEncoderConfig(vcodec="h264", preset="ultrafast")
DATA = "data/chunk-000/file-000.parquet"
AXES = ["height", "width", "channels"]


def frame(mark, t, camera=""):
    """Numbers name episode and frame, so that a mix-up shows."""
    values = {
        STATE: np.array([mark, t, mark + t / 10], np.float32),
        ACTION: np.array([mark - t, 0.1 * t], np.float32),
        "next.success": np.array([t == FRAMES - 1]),
        "task": f"task {mark % 2}",
    }
    return values | ({camera: np.full((SIDE, SIDE, 3), 20 * mark + 3 * t, np.uint8)} if camera else {})


def create(root, kind=""):
    camera = {CAMERA: {"dtype": kind, "shape": (SIDE, SIDE, 3), "names": AXES}} if kind else {}
    features = FEATURES | camera
    return LeRobotDataset.create("test/broken", FPS, features, root=root, use_videos=kind == "video", rgb_encoder=ENCODER)


def add(dataset, marks):
    camera = CAMERA if CAMERA in dataset.meta.features else ""
    for mark in marks:
        for t in range(FRAMES):
            dataset.add_frame(frame(mark, t, camera))
        dataset.save_episode(parallel_encoding=False)
    return dataset


def sound(root, marks, kind=""):
    add(create(root, kind), marks).finalize()
    return LeRobotDataset.resume("test/broken", root=root, rgb_encoder=ENCODER)


def tree(root):
    """Every file below a directory, by its contents."""
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def doctor(root, *flags, capsys):
    """The command in this process: its status, and what it printed."""
    from lerobot_serl.scripts.lerobot_serl_doctor import main

    status = main([str(root), *flags])
    return status, capsys.readouterr()


def surroundings(root):
    """Everything of a learner's dataset, link, versions and journal, apart from locks: files by their contents, links by their targets."""
    found = {}
    for path in sorted(root.parent.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root.parent))] = f"-> {os.readlink(path)}"
        elif path.is_file() and path.suffix != ".lock":
            found[str(path.relative_to(root.parent))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def damage(path, how):
    """What a power loss, a bad disk or a mistake does to a file."""
    size = path.stat().st_size
    if how == "halved":
        os.truncate(path, size // 2)
    elif how == "emptied":
        os.truncate(path, 0)
    elif how == "garbage":
        path.write_bytes(np.random.default_rng(0).bytes(max(size, 64)))
    else:
        path.unlink()


def record(directory):
    """Everything that breaks; the names say how."""
    directory = Path(directory)
    kept = []
    for kind in ("", "image", "video"):
        kept.append(add(sound(directory / f"appending_{kind}", range(3), kind), range(3, 5)))
    for kind in ("image", "video"):
        kept.append(add(create(directory / f"never_closed_{kind}", kind), range(3)))
        kept.append(closed := add(create(directory / f"no_episodes_{kind}", kind), range(3)))
        closed.writer.close_writer()  # what an uncaught exception at module level leaves: data closed, meta/episodes never written
    kept.append(behind := add(sound(directory / "episodes_behind", range(2), "video"), range(2, 4)))
    behind.writer.close_writer()
    kept.append(add(create(directory / "many"), range(12)))
    twice = add(sound(directory / "twice", range(3), "video"), range(3, 5))
    kept.append(twice)
    return kept


if __name__ == "__main__":
    datasets.disable_progress_bars()
    kept = record(sys.argv[1])
    os.kill(os.getpid(), signal.SIGKILL)
