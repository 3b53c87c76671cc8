"""SIGKILL at random instants: a learner in `lerobot-train`, a robot side that stores and sends, and the process that completes the dataset.

Each round starts what is not running, waits a random time, and kills one of them, or two at once. After every kill stock LeRobot opens the
online dataset. In the end everything is started once more and stopped cleanly. Writes one row for each kind of kill: how many, how often the
dataset did not open, and over all kills the episodes that were acknowledged, lost, and doubled (all three last columns have to be 0).

python examples/benchmark/kills.py --kills 200
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

KINDS = ("learner", "actor", "both", "completion", "checkpoint")
COLUMNS = ("killed", "kills", "episodes_acknowledged", "episodes_lost", "episodes_doubled", "failed_to_open")
REPO_ID, SPOOL, ROBOT = "local/kills", "spool", "arm"
# Which waiting times, in seconds after both run, find a process at work.
LONGEST_WAIT_S = 3.0
READY_S = 300.0
# Between two episodes: a learner reads all of them at each start.
PAUSE_S = 0.2


def act_as_robot(root: Path, address: str, frames: int, name: str, first: int) -> None:
    """Store and send episodes without end, numbered from ``first``; `begun` and `acknowledged` get a line for each, before and after."""
    from lerobot_serl.actor.client import LearnerClient
    from lerobot_serl.actor.outbox import Outbox
    from lerobot_serl.actor.sender import Sender
    from lerobot_serl.replay.episode import Episode
    from lerobot_serl.replay.episode_message import encode_episode

    client = LearnerClient(address, patience_s=READY_S, name=name)
    client.connect()
    sender = Sender(Outbox(root / name / SPOOL, 1_000_000_000), client)
    sender.start()
    number = first + len(lines(root / name / "begun"))
    while not client.finished.is_set():
        client.newer_weights()
        uuid = f"episode-{number}"
        _append(root / name / "begun", uuid)
        reward = torch.zeros(frames)
        reward[-1] = 1.0
        recording = Episode(
            observation={"observation.state": torch.full((frames, 18), 0.1), "observation.environment_state": torch.full((frames, 3), 0.1)},
            action=torch.full((frames, 4), number / 1e6),
            reward=reward, intervention=torch.zeros(frames, dtype=torch.bool), terminated=True, truncated=False,
        )  # fmt: skip
        sender.keep(client.dataset, uuid, encode_episode(recording, uuid))
        if sender.wait_for(uuid, lambda: not client.finished.is_set()):
            _append(root / name / "acknowledged", uuid)
        number += 1
        time.sleep(PAUSE_S)


def start_robot(root: Path, port: int, frames: int, name: str = ROBOT, first: int = 0) -> "subprocess.Popen[bytes]":
    """`act_as_robot` as a process."""
    (root / name).mkdir(exist_ok=True)
    with (root / name / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, __file__, f"--root={root}", f"--robot=127.0.0.1:{port}", f"--frames={frames}", f"--name={name}", f"--first={first}"],
            stdin=subprocess.DEVNULL, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip


class Ground:
    """Learner and robot side, started, killed and started again.

    Attributes:
        port: where the learner listens.
        robots_port: where the robot side looks for it.
        frames: of an episode.
    """

    def __init__(
        self, root: Path, seed: int = 0, frames: int = 4, learner_flags: tuple[str, ...] = ("--save_freq=150",), pixels: bool = False
    ) -> None:
        self.root, self.random, self.frames, self._flags = root, random.Random(seed), frames, learner_flags
        self._observations = "pixels" if pixels else "state"
        self.online = root / "online"
        self.port = self.robots_port = _free_port()
        (root / ROBOT).mkdir(parents=True, exist_ok=True)
        self._learner: subprocess.Popen[bytes] | None = None
        self._actor: subprocess.Popen[bytes] | None = None
        self._run = 0

    def prepare(self) -> None:
        """Three demonstrations and an ACT of two training steps."""
        command(self.root, "lerobot_serl.scripts.lerobot_serl_record", "--env.type=franka_sim", f"--env.obs_type={self._observations}",
                 "--repo_id=local/demos", f"--root={self.root / 'demos'}", "--n_episodes=3")  # fmt: skip
        command(self.root, "lerobot.scripts.lerobot_train", "--policy.type=act", "--policy.device=cpu", "--policy.push_to_hub=false",
                 "--policy.pretrained_backbone_weights=null", "--policy.chunk_size=10", "--policy.n_action_steps=10", "--policy.dim_model=32",
                 "--policy.n_heads=2", "--policy.dim_feedforward=32", "--policy.n_encoder_layers=1", "--dataset.repo_id=local/demos",
                 f"--dataset.root={self.root / 'demos'}", "--batch_size=2", "--num_workers=0", "--steps=2", "--env_eval_freq=0",
                 f"--output_dir={self.root / 'act'}")  # fmt: skip

    def start_learner(self) -> "subprocess.Popen[bytes]":
        """From its newest whole checkpoint, if there is one; does nothing if it runs."""
        if self._learner is None:
            self._learner = _process(self.root / "learner.log", "lerobot.scripts.lerobot_train", *self.learner_flags())
        return self._learner

    def start(self) -> None:
        """Whatever does not run."""
        self.start_learner()
        if self._actor is None:
            self._actor = start_robot(self.root, self.robots_port, self.frames)

    @property
    def n_acknowledged(self) -> int:
        """Episodes so far."""
        return len(lines(self.root / ROBOT / "acknowledged"))

    def wait_for_episodes(self, count: int) -> None:
        """Until so many more were acknowledged."""
        wanted, until_s = self.n_acknowledged + count, time.monotonic() + READY_S
        while self.n_acknowledged < wanted:
            for name, process in (("learner", self._learner), ("actor", self._actor)):
                if process is not None and process.poll() is not None:
                    raise RuntimeError(f"The {name} ended by itself with {process.returncode}; see the logs in {self.root}")
            if time.monotonic() > until_s:
                raise RuntimeError(f"No episode was acknowledged within {READY_S:.0f} s; see the logs in {self.root}")
            time.sleep(0.05)

    def kill(self, kind: str) -> None:
        """SIGKILL at a random instant."""
        self.start()
        if self.random.random() < 0.7:  # otherwise some of them are killed while they start
            self.wait_for_episodes(1)
        time.sleep(self.random.random() * LONGEST_WAIT_S)
        if kind == "completion":
            for process in self.processes("lerobot_serl.replay.dataset_writer"):
                _signal(process, signal.SIGKILL)
        if kind == "checkpoint":
            self._wait_for_a_checkpoint_in_progress()
        if kind in ("learner", "checkpoint", "both"):
            _kill(self._learner)
            self._learner = None
        if kind in ("actor", "both"):
            _kill(self._actor)
            self._actor = None

    def kill_all(self) -> None:
        """Whatever still runs, so that nothing is left behind where a measurement failed."""
        for process in (self._learner, self._actor):
            if process is not None:
                _kill(process)
        for number in self.processes("lerobot_serl.replay.dataset_writer"):
            _signal(number, signal.SIGKILL)

    def opens(self) -> bool:
        """Whether stock LeRobot opens the online dataset, if there is one yet, and it is consistent."""
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        still = self.processes(str(self.root))
        for process in still:  # the instant is looked at, not what comes while LeRobot reads
            _signal(process, signal.SIGSTOP)
        try:
            if not self.online.exists():
                return True
            dataset = LeRobotDataset(REPO_ID, root=self.online)
            rows = dataset.hf_dataset.with_format(None)["episode_index"]
            return len(rows) == dataset.num_frames == self.frames * dataset.num_episodes and len(set(rows)) == dataset.num_episodes
        except Exception as error:
            print(f"The dataset does not open: {type(error).__name__}: {error}", file=sys.stderr)
            return False
        finally:
            for process in still:
                _signal(process, signal.SIGCONT)

    def finish(self) -> tuple[int, int, int]:
        """Everything delivered, the learner stopped with SIGTERM: episodes acknowledged, lost, doubled."""
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        self.start()
        self.wait_for_episodes(3)
        assert self._learner is not None
        assert self._actor is not None
        self._learner.send_signal(signal.SIGTERM)
        self._learner.wait(READY_S)
        self._actor.kill()
        self._actor.wait()
        kept = [json.loads(line)["uuid"] for line in (self.online / "meta" / "serl_episodes.jsonl").read_text().splitlines()]
        actions = LeRobotDataset(REPO_ID, root=self.online).hf_dataset.with_format("numpy")["action"]
        numbers = np.round(np.asarray(actions)[:: self.frames, 0] * 1e6).astype(int).tolist()
        if [f"episode-{number}" for number in numbers] != kept:
            raise RuntimeError("The frames of the dataset are not those of the episodes that it says it holds.")
        acknowledged = set(lines(self.root / ROBOT / "acknowledged"))
        return len(acknowledged), len(acknowledged - set(kept)), sum(count - 1 for count in Counter(kept).values())

    def learner_flags(self) -> list[str]:
        """Of `lerobot-train`."""
        from lerobot_serl.policy.checkpoint_files import newest_whole

        checkpoints = self.root / f"run{self._run}" / "checkpoints"
        whole = newest_whole(checkpoints) if checkpoints.is_dir() else None
        if whole is not None:
            return ["--resume=true", f"--config_path={whole / 'pretrained_model' / 'train_config.json'}"]
        self._run += 1
        return [
            "--policy.type=serl_sac", f"--policy.act_path={self.root / 'act' / 'checkpoints' / 'last' / 'pretrained_model'}",
            "--policy.device=cpu", "--policy.push_to_hub=false", "--policy.batch_size=8", "--policy.critic.members=2",
            "--policy.critic.hidden_sizes=[16]", "--policy.actor.hidden_sizes=[16]", "--policy.corrector.hidden_sizes=[16]",
            "--policy.startup.collect_steps=8",
            "--policy.startup.critic_updates=10", "--policy.online.repo_id=local/kills", f"--policy.online.root={self.online}",
            f"--policy.online.port={self.port}", "--dataset.repo_id=local/demos", f"--dataset.root={self.root / 'demos'}", "--batch_size=1",
            "--num_workers=0", "--env_eval_freq=0", "--log_freq=0", "--steps=100000000", f"--output_dir={self.root / f'run{self._run}'}",
            *self._flags,
        ]  # fmt: skip

    def processes(self, words: str) -> list[int]:
        """Processes of this ground, other than this one, with these words in their command."""
        found = []
        for process in Path("/proc").iterdir():
            try:
                command = (process / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # no process, or it has ended
                continue
            if words in command and str(self.root) in command and process.name not in (str(os.getpid()), "self", "thread-self"):
                found.append(int(process.name))
        return found

    def _wait_for_a_checkpoint_in_progress(self) -> None:
        from lerobot_serl.policy.checkpoint_files import first_flaw

        until_s = time.monotonic() + READY_S
        while time.monotonic() < until_s:
            checkpoints = sorted(self.root.glob(f"run{self._run}/checkpoints/[0-9]*"), key=lambda path: int(path.name))
            if checkpoints and first_flaw(checkpoints[-1]) is not None:
                return
            for old in checkpoints[:-2]:
                shutil.rmtree(old, ignore_errors=True)  # or the disk fills up


def _signal(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _kill(process: "subprocess.Popen[bytes] | None") -> None:
    assert process is not None
    process.kill()
    process.wait()


def _process(log: Path, module: str, *flags: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("ab") as handle:
        return subprocess.Popen(
            [sys.executable, "-m", module, *flags], stdin=subprocess.DEVNULL, stdout=handle, stderr=handle, env=environment
        )


def command(root: Path, module: str, *flags: str) -> None:
    log = root / "prepare.log"
    if _process(log, module, *flags).wait() != 0:
        raise RuntimeError(f"{module} failed; see {log}")


def _append(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(root: Path, kills: int, seed: int, output: Path) -> bool:
    """All kills, or until Ctrl-C; whether nothing was lost or doubled and the dataset always opened."""
    ground, counts, failures = Ground(root, seed), Counter[str](), Counter[str]()
    ground.prepare()
    try:
        with suppress(KeyboardInterrupt):  # Ctrl-C: count what has been done
            for number in tqdm(range(kills), desc="Kills", unit="kill"):
                kind = KINDS[number % len(KINDS)]
                ground.kill(kind)
                counts[kind] += 1
                failures[kind] += not ground.opens()
        acknowledged, lost, doubled = ground.finish()
    finally:
        ground.kill_all()
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((kind, counts[kind], "", "", "", failures[kind]) for kind in KINDS)
        writer.writerow(("all", sum(counts.values()), acknowledged, lost, doubled, sum(failures.values())))
    print(f"{sum(counts.values())} kills: {acknowledged} episodes acknowledged, {lost} lost, {doubled} doubled, "
          f"{sum(failures.values())} times the dataset did not open")  # fmt: skip
    return lost == doubled == sum(failures.values()) == 0


def main() -> int:
    """Measure and write, or be the robot side."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--root", type=Path, default=Path("outputs/kills"))
    command.add_argument("--kills", type=int, default=200)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--output", type=Path, default=Path("docs/results/durability/kills.csv"))
    command.add_argument("--robot", metavar="HOST:PORT", help=argparse.SUPPRESS)
    for flag, kind in (("--frames", int), ("--name", str), ("--first", int)):
        command.add_argument(flag, type=kind, help=argparse.SUPPRESS)
    known = command.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if known.robot:
        act_as_robot(known.root, known.robot, known.frames, known.name, known.first)
        return 0
    return 0 if measure(known.root, known.kills, known.seed, known.output) else 1


if __name__ == "__main__":
    sys.exit(main())
