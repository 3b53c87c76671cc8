"""A 60 s episode of two 640x480 cameras at 30 Hz, collected in real time, acknowledged, learnt from by `lerobot-train` and stored: memory and time.

Writes one row for each process: largest resident memory; and for the robot's side what the images take on disk.

python examples/benchmark/long_episode.py
"""

import argparse
import csv
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from control_loop import CAMERAS, FPS, HEIGHT, KEYS, WIDTH, Arm, Stopwatch, scenes
from kills import command
from lerobot.configs import FeatureType, PolicyFeature

HORIZON, DEMONSTRATION_FRAMES, DEMONSTRATIONS = 10, 8, 2
REPO_ID = "local/long"
COLUMNS = ("process", "seconds", "peak_memory_mb", "images_mb")
READY_S = 3600.0
NAMES = {"lerobot_train": "learner", "replay.dataset_writer": "completion of the dataset"}


def record(root: Path) -> None:
    """Demonstrations of the arm, with noise in their pictures."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    image = {"dtype": "image", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    vector = {"dtype": "float32", "shape": (len(KEYS),), "names": list(KEYS)}
    features = {"observation.state": vector, "action": vector, **{f"observation.images.{name}": image for name in CAMERAS}}
    features["next.reward"] = {"dtype": "float32", "shape": (1,), "names": None}
    dataset = LeRobotDataset.create("local/demos", fps=FPS, features=features, root=root, use_videos=False)
    rng, pictures = np.random.default_rng(0), scenes()
    for _ in range(DEMONSTRATIONS):
        for t in range(DEMONSTRATION_FRAMES):
            place = rng.uniform(-1, 1, len(KEYS)).astype(np.float32)
            reward = np.array([t == DEMONSTRATION_FRAMES - 1], np.float32)
            frame = {f"observation.images.{name}": pictures[(t + i) % len(pictures)] for i, name in enumerate(CAMERAS)}
            dataset.add_frame({**frame, "observation.state": place, "action": place, "next.reward": reward, "task": "wave"})
        dataset.save_episode()
    dataset.finalize()


def act_as_robot(root: Path, address: str, seconds: float) -> None:
    """Collect one episode in real time, and wait until it is acknowledged."""
    from lerobot_serl.actor.chunk import Chunk
    from lerobot_serl.actor.client import LearnerClient
    from lerobot_serl.actor.film import Film
    from lerobot_serl.actor.outbox import Outbox
    from lerobot_serl.actor.pace import Pace
    from lerobot_serl.actor.received_policy import ReceivedPolicy
    from lerobot_serl.actor.robot_io import RobotIo
    from lerobot_serl.actor.robot_world import RobotWorld
    from lerobot_serl.actor.rollout import Rollout
    from lerobot_serl.actor.safety import Limiter
    from lerobot_serl.actor.sender import Sender
    from lerobot_serl.replay.episode_message import encode_episode
    from lerobot_serl.replay.part_message import image_shapes

    torch.set_num_threads(1)
    client = LearnerClient(address, patience_s=READY_S, name="arm")
    policy = ReceivedPolicy(*client.connect(), "cpu", 0)
    outbox = Outbox(root / "spool", 10**10)
    arm, rng = Arm(Stopwatch()), np.random.default_rng(1)
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (len(KEYS),))}
    inputs |= {f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, HEIGHT, WIDTH)) for name in CAMERAS}
    io = RobotIo("arm", arm.observation_features, arm.action_features, inputs, len(KEYS))
    world = RobotWorld(arm, io, Limiter(None), [], Pace(FPS), round(seconds * FPS), 5.0, "wave")
    film = Film("long", outbox.new_parts(client.dataset, "long"), image_shapes(inputs), may_wait=False)

    def act(observation):  # type: ignore[no-untyped-def]
        policy.practice.act(observation)  # its cost; where it would go is of no interest
        return Chunk(rng.uniform(-1, 1, (HORIZON, len(KEYS))).astype(np.float32), 0, 0.0)

    recording = Rollout(world, act, film=lambda: film).run_episode()
    assert recording is not None
    sender = Sender(outbox, client)
    sender.start()
    started_s = time.monotonic()
    sender.keep(client.dataset, "long", encode_episode(recording, "long"), film.parts)
    assert sender.wait_for("long", lambda: time.monotonic() - started_s < READY_S)
    (root / "acknowledged").write_text(f"{time.monotonic() - started_s} {film.parts.n_bytes}")
    client.close()
    sender.finish(0.0, 0.0)
    outbox.close()


class Peaks(threading.Thread):
    """Largest resident memory of every process of this run, by what it does."""

    def __init__(self, root: Path) -> None:
        super().__init__(daemon=True)
        self._root, self.mb, self.ended = str(root), dict[str, float](), threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    words = (process / "cmdline").read_bytes().decode(errors="replace")
                    if self._root not in words or process.name == str(os.getpid()):
                        continue
                    name = next((name for part, name in NAMES.items() if part in words), "robot's side" if "--robot" in words else "")
                    status = (process / "status").read_text()
                except OSError:  # it has ended
                    continue
                if name and "VmHWM" in status:
                    self.mb[name] = max(self.mb.get(name, 0.0), int(status.split("VmHWM:")[1].split()[0]) / 1000)


def measure(root: Path, seconds: float, port: int) -> list[tuple[str, str, str, str]]:
    """Rows of the table."""
    record(root / "demos")
    data = ("--dataset.repo_id=local/demos", f"--dataset.root={root / 'demos'}", "--num_workers=0", "--env_eval_freq=0", "--log_freq=0")
    device = ("--policy.device=cpu", "--policy.push_to_hub=false")
    command(root, "lerobot.scripts.lerobot_train", "--policy.type=act", *device, "--policy.pretrained_backbone_weights=null",
            f"--policy.chunk_size={HORIZON}", f"--policy.n_action_steps={HORIZON}", "--policy.dim_model=64", "--policy.n_heads=2",
            "--policy.dim_feedforward=64", "--policy.n_encoder_layers=1", *data, "--batch_size=1", "--steps=1",
            f"--output_dir={root / 'act'}")  # fmt: skip
    peaks = Peaks(root)
    peaks.start()
    started_s = time.monotonic()
    with (root / "learner.log").open("wb") as log:
        learner = subprocess.Popen(
            [sys.executable, "-m", "lerobot.scripts.lerobot_train", "--policy.type=serl_sac", *device, *data, "--batch_size=1", "--steps=20",
             f"--policy.act_path={root / 'act' / 'checkpoints' / 'last' / 'pretrained_model'}", f"--output_dir={root / 'run'}",
             f"--policy.startup.collect_steps={round(seconds * FPS) - 1}", f"--policy.online.repo_id={REPO_ID}",
             f"--policy.online.root={root / 'online'}",
             f"--policy.online.port={port}"],
            stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    try:
        subprocess.run([sys.executable, __file__, f"--root={root}", f"--robot=127.0.0.1:{port}", f"--seconds={seconds}"], check=True)
        if learner.wait(READY_S) != 0:
            raise RuntimeError(f"The learner failed; see {root / 'learner.log'}")
    finally:
        learner.kill()
        peaks.ended.set()
    acknowledged_s, n_bytes = (root / "acknowledged").read_text().split()
    rows = [(name, f"{time.monotonic() - started_s:.0f}", f"{mb:.0f}", "") for name, mb in sorted(peaks.mb.items())]
    return [(name, f"{float(acknowledged_s):.1f}" if name == "robot's side" else spent_s, mb,
             f"{int(n_bytes) / 1e6:.0f}" if name == "robot's side" else "") for name, spent_s, mb, _ in rows]  # fmt: skip


def main() -> int:
    """Measure and write, or be the robot side."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", type=Path, default=Path("outputs/long_episode"))
    arguments.add_argument("--seconds", type=float, default=60.0)
    arguments.add_argument("--port", type=int, default=50171)
    arguments.add_argument("--output", type=Path, default=Path("docs/results/long_episode/long_episode.csv"))
    arguments.add_argument("--robot", metavar="HOST:PORT", help=argparse.SUPPRESS)
    known = arguments.parse_args()
    if known.robot:
        act_as_robot(known.root, known.robot, known.seconds)
        return 0
    rows = measure(known.root, known.seconds, known.port)
    known.output.parent.mkdir(parents=True, exist_ok=True)
    with known.output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    print(known.output.read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
