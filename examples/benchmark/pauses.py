"""What holds the gradient steps up, against the size of the replay memory, with two 128x128 cameras; beside LeRobot's replay buffer.

A real `lerobot-train` collects online from a robot side that sends 100-step episodes with pictures. Its memory holds so many steps from the
start. Measured: the time until an episode is acknowledged; the longest gradient step with and without an episode coming in, and the longest slice
of the work on one; the pause for a checkpoint. LeRobot's learner writes its whole buffer instead (`to_lerobot_dataset`), at each checkpoint.

python examples/benchmark/pauses.py --sizes 1000 10000 100000
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

from append import CAMERAS, FPS, STEPS, recording
from kills import READY_S, Ground

FLAGS = ("--save_freq=500", "--policy.online.max_lead_steps=1000000000", "--policy.utd=1000", "--policy.buffer_capacity=120000")
TRAINING_STEPS, WARM_UP_STEPS = 2500, 200
PAUSE_S = 10.0  # 100 steps at 10 Hz
# LeRobot's buffer keeps pictures as float32: 100,000 steps would take 39 GB.
LEROBOT_LIMIT_STEPS = 15_000
COLUMNS = (
    "steps_held", "acknowledged_median_ms", "acknowledged_max_ms", "intake_slice_max_ms", "step_median_ms", "step_max_alone_ms",
    "step_max_with_intake_ms", "checkpoint_ms", "lerobot_checkpoint_ms",
)  # fmt: skip


def act_as_robot(address: str, output: Path) -> None:
    """Send episodes, one after the other, until the learner has finished; writes how long each took to be acknowledged, in seconds."""
    from lerobot_serl.actor.client import LearnerClient
    from lerobot_serl.actor.rpc_errors import LearnerAway, LearnerRefused
    from lerobot_serl.replay.episode_message import encode_episode

    client = LearnerClient(address, patience_s=READY_S, name="pauses")
    client.connect()
    generator = torch.Generator().manual_seed(0)
    took_s: list[float] = []
    while not client.finished.is_set():
        uuid = f"episode-{len(took_s)}"
        data = encode_episode(recording(generator), uuid)
        started_s = time.perf_counter()
        try:
            client.send(uuid, data, False)
        except (LearnerAway, LearnerRefused):
            break
        took_s.append(time.perf_counter() - started_s)
        output.write_text(json.dumps(took_s), encoding="utf-8")
        time.sleep(PAUSE_S)
    client.close()


def act_as_learner(held: int, output: Path, flags: list[str]) -> None:
    """`lerobot-train` with a memory of so many steps; writes how long each step, slice and checkpoint took, in seconds."""
    from lerobot.scripts import lerobot_train

    from lerobot_serl.online.feature_cache import FeatureCacheWorker
    from lerobot_serl.online.learner import Learner

    times: dict[str, list[float]] = {"slices": [], "checkpoints": [], "alone": [], "with_intake": []}
    loss, remember, advance, save = Learner.loss, Learner.remember, FeatureCacheWorker.advance, lerobot_train.save_checkpoint
    last: tuple[float, int, int] | None = None

    def timed_loss(self: Any) -> Any:
        """A gradient step lies between two calls; one with a checkpoint in it does not count."""
        nonlocal last
        now = (time.perf_counter(), len(times["slices"]), len(times["checkpoints"]))
        if last is not None and last[2] == now[2] and self.progress.updates > WARM_UP_STEPS:
            times["alone" if last[1] == now[1] else "with_intake"].append(now[0] - last[0])
        last = now
        return loss(self)

    def fill_and_remember(self: Any, episode: Any) -> None:
        """The first episode fills the memory."""
        nonlocal last
        for _ in range(held // len(episode) if len(self.online) == 0 else 0):
            self.online.add(episode)
            last = None
        remember(self, episode)

    def timed_advance(self: Any) -> Any:
        return advance(self) if self.is_idle else _timed(lambda: advance(self), times["slices"])

    replaced = ((Learner, "loss", timed_loss), (Learner, "remember", fill_and_remember), (FeatureCacheWorker, "advance", timed_advance))
    for owner, name, function in replaced:
        setattr(owner, name, function)
    lerobot_train.save_checkpoint = lambda *given, **named: _timed(lambda: save(*given, **named), times["checkpoints"])
    sys.argv[1:] = flags
    try:
        lerobot_train.main()
    finally:
        output.write_text(json.dumps(times), encoding="utf-8")


def _timed(function: Callable[[], Any], into: list[float]) -> Any:
    started_s = time.perf_counter()
    result = function()
    into.append(time.perf_counter() - started_s)
    return result


def measure(root: Path, held: int) -> dict[str, float]:
    """One size of the memory."""
    ground = Ground(root / f"{held}", learner_flags=FLAGS, pixels=True)
    ground.prepare()
    times, acknowledged = ground.root / "times.json", ground.root / "acknowledged.json"
    flags = [flag for flag in ground.learner_flags() if not flag.startswith("--steps=")] + [f"--steps={TRAINING_STEPS}"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    own = [sys.executable, __file__, f"--root={root}"]
    with (ground.root / "log").open("wb") as log:
        learner = subprocess.Popen([*own, f"--held={held}", f"--result={times}", *flags], stdout=log, stderr=log, env=environment)
        robot = subprocess.Popen(
            [*own, f"--robot=127.0.0.1:{ground.port}", f"--result={acknowledged}"], stdout=log, stderr=log, env=environment
        )
        code = learner.wait()
        robot.wait()
    if code != 0:
        raise RuntimeError(f"The learner ended with {code}; see {ground.root / 'log'}")
    learnt, sent_ms = json.loads(times.read_text()), [1000 * each for each in json.loads(acknowledged.read_text())]
    return {
        "acknowledged_median_ms": statistics.median(sent_ms), "acknowledged_max_ms": max(sent_ms[1:]),
        "intake_slice_max_ms": 1000 * max(learnt["slices"][1:]), "step_median_ms": 1000 * statistics.median(learnt["alone"]),
        "step_max_alone_ms": 1000 * max(learnt["alone"]), "step_max_with_intake_ms": 1000 * max(learnt["with_intake"]),
        "checkpoint_ms": 1000 * statistics.median(learnt["checkpoints"]),
    }  # fmt: skip


def lerobot_checkpoint_ms(root: Path, steps: int) -> float | None:
    """How long LeRobot's replay buffer takes to write so many steps; None where they would not fit."""
    from lerobot.rl.buffer import ReplayBuffer

    if steps > LEROBOT_LIMIT_STEPS:
        return None
    buffer = ReplayBuffer(
        steps, device="cpu", storage_device="cpu", state_keys=["observation.state", *CAMERAS], optimize_memory=True, use_drq=False
    )
    episode = recording(torch.Generator().manual_seed(0))
    for step in range(steps):
        frame = step % STEPS
        state = {"observation.state": episode.observation["observation.state"][frame].unsqueeze(0)}
        state |= {camera: (episode.observation[camera][frame].float() / 255).unsqueeze(0) for camera in CAMERAS}
        last = frame == STEPS - 1
        buffer.add(state, episode.action[frame].unsqueeze(0), float(last), state, done=last, truncated=False)
    started_s = time.perf_counter()
    buffer.to_lerobot_dataset("local/lerobot", fps=FPS, root=str(root / f"lerobot{steps}"))
    return 1000 * (time.perf_counter() - started_s)


def main() -> int:
    """Measure and write, or be one of the processes."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--root", type=Path, default=Path("outputs/pauses"))
    command.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], help="steps in the memory")
    command.add_argument("--output", type=Path, default=Path("docs/results/durability/pauses.csv"))
    for flag, kind in (("--robot", str), ("--held", int), ("--result", Path)):
        command.add_argument(flag, type=kind, help=argparse.SUPPRESS)
    known, flags = command.parse_known_args()
    if known.robot:
        act_as_robot(known.robot, known.result)
        return 0
    if known.held is not None:
        act_as_learner(known.held, known.result, flags)
        return 0
    known.output.parent.mkdir(parents=True, exist_ok=True)
    with known.output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for size in known.sizes:
            row = measure(known.root, size) | {"lerobot_checkpoint_ms": lerobot_checkpoint_ms(known.root, size)}
            writer.writerow({"steps_held": size, **{name: None if value is None else round(value, 1) for name, value in row.items()}})
            file.flush()
            print(size, row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
