"""The workflow of a real arm, on the simulated one, with cameras: record, train ACT, fine-tune on the robot, roll out.

Every step is a command that a robot owner types; only `--robot.type=franka_sim` and the scripted expert as teleoperator would change.
Each command is printed before it runs; its output goes to a log file beside the results.
"""

import argparse
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lerobot_serl.report.interval import wilson_interval
from lerobot_serl.report.metrics_files import MetricsDirectory

BIN = Path(sys.executable).parent
TASK = "Pick up the cube and lift it."
ATTEMPT = re.compile(r"Attempt (\d+), .*: (lifted|not lifted);")
EVALUATION_SEED = 100_000
ATTEMPT_S = 6


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    demonstrations: int
    image_px: int
    act_steps: int
    act_batch: int
    updates: int
    attempts: int
    rollouts: int
    learner_flags: tuple[str, ...] = ()
    actor_flags: tuple[str, ...] = ()


FULL = Size(demonstrations=60, image_px=64, act_steps=1500, act_batch=16, updates=12_000, attempts=100, rollouts=5)
SMALL = Size(
    demonstrations=2, image_px=32, act_steps=4, act_batch=4, updates=60, attempts=2, rollouts=1,
    learner_flags=(
        "--policy.batch_size=16", "--policy.startup.collect_steps=40", "--policy.startup.critic_updates=10",
        "--policy.startup.ramp_updates=10", "--policy.metrics_period_s=1",
    ),
    actor_flags=("--teleop.type=franka_sim_expert", "--teleop.takeover_share=1", "--teleop.takeover_after_s=2"),
)  # fmt: skip


class Workflow:
    """One run in ``root``; steps that an earlier run has finished are not repeated.

    Args:
        root: results and logs.
        size: how much of everything.
        seed: of ACT and of the fine-tuning.
    """

    def __init__(self, root: Path, size: Size, seed: int) -> None:
        self.root, self.size, self.seed = root, size, seed
        self.demonstrations, self.act, self.serl = root / "demonstrations", root / "act", root / "serl_sac"
        self.robot = (
            "--robot.type=franka_sim", "--robot.fps=10", "--robot.control_mode=ee_delta", "--robot.cameras=true",
            f"--robot.image_height_px={size.image_px}", f"--robot.image_width_px={size.image_px}",
        )  # fmt: skip
        self._started = time.monotonic()

    def run(self) -> int:
        """All steps; returns the exit code."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._record()
        self._train_act()
        before = self._evaluate("act", self.act)
        self._fine_tune()
        after = self._evaluate("fine_tuned", self.serl)
        self._roll_out()
        self._summary(before, after)
        return 0

    def _record(self) -> None:
        if (self.demonstrations / "meta" / "info.json").is_file():
            return
        self._say(f"1/5 Record {self.size.demonstrations} demonstrations")
        self._command(
            "record", "lerobot-record", *self.robot, "--teleop.type=franka_sim_expert", "--teleop.noise_std=0.2",
            "--dataset.repo_id=local/pick_cube_robot", f"--dataset.root={self.demonstrations}", "--dataset.no_stamp=true",
            f"--dataset.single_task={TASK}", "--dataset.fps=10", f"--dataset.num_episodes={self.size.demonstrations}",
            "--dataset.episode_time_s=3.6", "--dataset.reset_time_s=0", "--dataset.video=false", "--dataset.push_to_hub=false",
            "--play_sounds=false",
        )  # fmt: skip

    def _train_act(self) -> None:
        if (self.act / "checkpoints" / "last").exists():
            return
        self._say("2/5 Train ACT")
        self._command(
            "train_act", "lerobot-train", "--policy.type=act", "--policy.device=cpu", "--policy.push_to_hub=false",
            "--policy.pretrained_backbone_weights=null", "--policy.chunk_size=10", "--policy.n_action_steps=10",
            "--policy.dim_model=128", "--policy.n_heads=4", "--policy.dim_feedforward=512", "--policy.n_encoder_layers=1",
            "--policy.n_decoder_layers=1", "--policy.use_vae=false", "--policy.optimizer_lr=3e-4",
            "--policy.optimizer_lr_backbone=1e-4", "--dataset.repo_id=local/pick_cube_robot",
            f"--dataset.root={self.demonstrations}", f"--batch_size={self.size.act_batch}", "--num_workers=0",
            f"--steps={self.size.act_steps}", f"--save_freq={self.size.act_steps}", "--log_freq=100", "--env_eval_freq=0",
            f"--output_dir={self.act}", f"--seed={self.seed}",
        )  # fmt: skip

    def _fine_tune(self) -> None:
        if (self.serl / "checkpoints" / "last").exists():
            return
        self._say("4/5 Fine-tune on the robot")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        learner = self._start(
            "learner", "lerobot-train", "--policy.type=serl_sac", f"--policy.act_path={self.act}", "--policy.device=cpu",
            "--policy.push_to_hub=false", "--policy.online.repo_id=local/pick_cube_online",
            f"--policy.online.root={self.root / 'online'}", f"--policy.online.port={port}",
            "--dataset.repo_id=local/pick_cube_robot", f"--dataset.root={self.demonstrations}", "--batch_size=1", "--num_workers=0",
            f"--steps={self.size.updates}", f"--save_freq={self.size.updates}", "--log_freq=500", "--env_eval_freq=0",
            f"--output_dir={self.serl}", f"--seed={self.seed}", *self.size.learner_flags,
        )  # fmt: skip
        actor = self._start(
            "actor", "lerobot-serl-actor", f"--learner=127.0.0.1:{port}", *self.robot, "--robot.reset_with_episodes=false",
            f"--episode_time_s={ATTEMPT_S}", f"--task={TASK}", f"--seed={self.seed}", "--patience_s=600",
            *self.size.actor_flags,
        )  # fmt: skip
        try:
            while learner.poll() is None:
                if actor.poll() not in (None, 0):
                    learner.terminate()
                    raise SystemExit(f"The actor stopped with exit code {actor.returncode}; see {self.root / 'actor.log'}.")
                time.sleep(1.0)
        finally:
            for process in (actor, learner):
                if process.poll() is None:
                    process.terminate()
                process.wait()
        if learner.returncode != 0:
            raise SystemExit(f"The learner stopped with exit code {learner.returncode}; see {self.root / 'learner.log'}.")

    def _evaluate(self, name: str, run: Path) -> int:
        """How many attempts lift the cube, at places that nothing was trained on, the same ones for each policy.

        In the environment of the same physics, because lerobot-rollout counts nothing, and its base strategy does not tell the policy that an
        attempt is over: what is left of a chunk would be carried out in the next attempt.
        """
        output = self.root / "evaluations" / name
        if not (output / "eval_info.json").is_file():
            self._say(f"{'3/5 Evaluate ACT' if name == 'act' else '5/5 Evaluate the fine-tuned policy'}: {self.size.attempts} attempts")
            self._command(
                f"evaluate_{name}", "lerobot-eval", f"--policy.path={run / 'checkpoints' / 'last' / 'pretrained_model'}",
                "--policy.device=cpu", "--env.type=franka_sim", "--env.obs_type=pixels", "--env.control_mode=ee_delta",
                f"--env.observation_height={self.size.image_px}", f"--env.observation_width={self.size.image_px}",
                f"--eval.n_episodes={self.size.attempts}", f"--eval.batch_size={min(10, self.size.attempts)}",
                "--eval.use_async_envs=false", f"--seed={EVALUATION_SEED}", f"--output_dir={output}",
            )  # fmt: skip
        overall = json.loads((output / "eval_info.json").read_text(encoding="utf-8"))["overall"]
        lifted = round(overall["pc_success"] * self.size.attempts / 100)
        self._say(f"    {name}: {lifted} of {self.size.attempts} lifted")
        return lifted

    def _roll_out(self) -> None:
        """The fine-tuned policy at work on the robot, as it would be deployed."""
        dataset = self.root / "rollout"
        if dataset.exists():
            return
        self._say(f"    Roll it out on the robot, {self.size.rollouts} times")
        self._command(
            "rollout", "lerobot-rollout", "--strategy.type=episodic", "--strategy.reset_to_initial_position=false",
            f"--policy.path={self.serl / 'checkpoints' / 'last' / 'pretrained_model'}", "--policy.device=cpu", *self.robot,
            f"--robot.seed={EVALUATION_SEED}", f"--task={TASK}", "--fps=10", "--return_to_initial_position=false",
            "--play_sounds=false", "--dataset.repo_id=local/rollout_pick_cube", f"--dataset.root={dataset}", "--dataset.no_stamp=true",
            f"--dataset.single_task={TASK}", "--dataset.fps=10", f"--dataset.num_episodes={self.size.rollouts}",
            f"--dataset.episode_time_s={ATTEMPT_S}", "--dataset.reset_time_s=0", "--dataset.video=false", "--dataset.push_to_hub=false",
        )  # fmt: skip
        for attempt in ATTEMPT.findall((self.root / "rollout.log").read_text(encoding="utf-8", errors="replace")):
            self._say(f"    attempt {attempt[0]}: {attempt[1]}")

    def _summary(self, before: int, after: int) -> None:
        trials, episodes = self.size.attempts, len(MetricsDirectory(self.serl).load().episodes["episode"])
        for name, successes in (("ACT", before), ("Fine-tuned", after)):
            low, high = wilson_interval(successes, trials)
            print(f"{name + ':':12}{successes} of {trials} attempts succeed (95 % interval {low:.0%} to {high:.0%})")
        print(f"{episodes} episodes on the robot; {(time.monotonic() - self._started) / 60:.0f} minutes in this run", flush=True)
        rows = [f"act,{before},{trials},0", f"fine_tuned,{after},{trials},{episodes}"]
        (self.root / "robot_workflow.csv").write_text("name,successes,trials,episodes\n" + "\n".join(rows) + "\n", encoding="utf-8")

    def _command(self, name: str, command: str, *flags: str) -> None:
        code = self._start(name, command, *flags).wait()
        if code != 0:
            raise SystemExit(f"{command} failed with exit code {code}; the full output is in {self.root / f'{name}.log'}.")

    def _start(self, name: str, command: str, *flags: str) -> "subprocess.Popen[bytes]":
        print(f"    $ {command} {_shown(flags)}", flush=True)
        with (self.root / f"{name}.log").open("wb") as log:
            return subprocess.Popen([str(BIN / command), *flags], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def _say(self, text: str) -> None:
        print(f"[{(time.monotonic() - self._started) / 60:4.1f} min] {text}", flush=True)


def _shown(flags: Sequence[str]) -> str:
    return " ".join(f"'{flag}'" if " " in flag else flag for flag in flags)


def main() -> int:
    """Parse and run."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--root", type=Path, default=Path("outputs/robot_workflow"))
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--small", action="store_true", help="a few minutes, and nothing learnt: to see that everything runs")
    known = command.parse_args()
    return Workflow(known.root, SMALL if known.small else FULL, known.seed).run()


if __name__ == "__main__":
    sys.exit(main())
