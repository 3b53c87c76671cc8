"""The whole way on a simulated arm, with the commands a user types: demonstrations, ACT, fine-tuning, evaluation, report.

Run by `make quickstart`. Every command is printed before it runs; its output goes to a log file beside the results.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lerobot_serl.report.csv_appender import CsvAppender
from lerobot_serl.report.interval import wilson_interval
from lerobot_serl.report.metrics_files import EVALUATION_COLUMNS, MetricsDirectory

BIN = Path(sys.executable).parent
EPISODES = 100
EVALUATION_SEED = 10_000
# ACT is trained briefly, so that there is something left to learn; the first of these checkpoints within the range is taken.
ACT_STEPS = (300, 200, 400, 100, 500)
ACT_RANGE = (0.40, 0.70)
ACT_FLAGS = (
    "--policy.type=act", "--policy.device=cpu", "--policy.push_to_hub=false", "--policy.pretrained_backbone_weights=null",
    "--policy.chunk_size=10", "--policy.n_action_steps=10", "--policy.dim_model=64", "--policy.n_heads=4",
    "--policy.dim_feedforward=256", "--policy.n_encoder_layers=1", "--policy.n_decoder_layers=1",
    "--policy.n_vae_encoder_layers=1", "--policy.latent_dim=8", "--policy.optimizer_lr=1e-3",
    '--policy.normalization_mapping={"VISUAL":"MEAN_STD","STATE":"MEAN_STD","ENV":"MEAN_STD","ACTION":"MEAN_STD"}',
    "--batch_size=32", "--num_workers=0", "--save_freq=100", "--log_freq=100", "--env_eval_freq=0",
)  # fmt: skip


class Quickstart:
    """One run of the quickstart in ``root``.

    Args:
        root: results and logs.
        seed: of demonstrations, ACT and fine-tuning.
        steps: critic updates of the fine-tuning.
        overrides: flags of the fine-tuning.
        demonstrations: how many are recorded.
        episode_steps: after which an attempt has failed.
    """

    def __init__(self, root: Path, seed: int, steps: int, overrides: list[str], demonstrations: int = 20, episode_steps: int = 60) -> None:
        self.root, self.seed, self.steps, self.overrides = root, seed, steps, overrides
        self._n_demonstrations, self._episode_length = demonstrations, f"env.episode_length={episode_steps}"
        self.demonstrations = root / "demonstrations"
        self.started = time.monotonic()

    def run(self) -> int:
        """All steps; returns the exit code."""
        serl_run = self.root / "serl_sac"
        act, act_successes = self.prepare()
        self._say("3/5 Fine-tune it online")
        self.fine_tune(act, serl_run, *self.overrides)
        self._say("4/5 Evaluate on the same seeds")
        successes = self.evaluate("fine_tuned", serl_run / "checkpoints" / "best" / "pretrained_model")
        self._write_evaluations(serl_run, act_successes, successes)
        self._say("5/5 Compare the two, and write the report")
        evaluations = [str(self.root / "evaluations" / name) for name in (f"act_{act.parent.name.lstrip('0')}", "fine_tuned")]
        page = f"--output_dir={serl_run / 'compare_with_act'}"
        self._command("compare", "lerobot-serl-report", "--compare", *evaluations, "--same_starts", page, show=True)
        self._command("report", "lerobot-serl-report", str(serl_run), show=True)
        return self._summary(act_successes, successes, serl_run)

    def prepare(self, act_steps: Sequence[int] = ACT_STEPS, act_range: tuple[float, float] = ACT_RANGE) -> tuple[Path, int]:
        """Demonstrations and ACT; returns its checkpoint, and how many of `EPISODES` it solves.

        Args:
            act_steps: numbers of training steps, in the order in which they are tried.
            act_range: share of solved episodes that is wanted.
        """
        act_run = self.root / "act_run"
        self.root.mkdir(parents=True)
        self._say(f"1/5 Record {self._n_demonstrations} demonstrations with the scripted expert")
        self._command(
            "record", "lerobot-serl-record", "--env.type=franka_sim", "--env.task=pick_cube", "--repo_id=local/pick_cube",
            f"--root={self.demonstrations}", f"--n_episodes={self._n_demonstrations}", f"--seed={self.seed}",
        )  # fmt: skip
        self._say("2/5 Train ACT with stock LeRobot, and evaluate it")
        self._command(
            "train_act", "lerobot-train", *ACT_FLAGS, "--dataset.repo_id=local/pick_cube", f"--dataset.root={self.demonstrations}",
            f"--output_dir={act_run}", f"--steps={max(act_steps)}", f"--seed={1000 + self.seed}",
        )  # fmt: skip
        return self._choose_act(act_run, act_steps, act_range)

    def fine_tune(self, act: Path, serl_run: Path, *overrides: str) -> None:
        """Fine-tune ACT in the run directory ``serl_run``; the online dataset lies in ``online`` beside it."""
        self._command(
            f"fine_tune_{serl_run.name}", "lerobot-serl-run", "--config_path=configs/franka_sim_pick_cube.yaml", f"--output_dir={serl_run}",
            f"--train.dataset.root={self.demonstrations}", f"--train.policy.act_path={act}",
            f"--train.policy.online.root={serl_run.parent / 'online'}", f"--train.steps={self.steps}", f"--train.seed={self.seed}",
            f"--actor.seed={1_000_000 * (self.seed + 1)}", f"--actor.{self._episode_length}", *overrides, show=True,
        )  # fmt: skip

    def _choose_act(self, act_run: Path, act_steps: Sequence[int], act_range: tuple[float, float]) -> tuple[Path, int]:
        for steps in act_steps:
            checkpoint = act_run / "checkpoints" / f"{steps:06d}" / "pretrained_model"
            successes = self.evaluate(f"act_{steps}", checkpoint)
            self._say(f"    ACT after {steps} steps: {successes} of {EPISODES}")
            if act_range[0] <= successes / EPISODES <= act_range[1]:
                return checkpoint, successes
        raise SystemExit(f"No ACT checkpoint succeeds in {act_range[0]:.0%} to {act_range[1]:.0%} of the episodes; see {self.root}.")

    def evaluate(self, name: str, checkpoint: Path) -> int:
        """How many of `EPISODES` a checkpoint solves, always on the same seeds."""
        output = self.root / "evaluations" / name
        self._command(
            f"evaluate_{name}", "lerobot-eval", f"--policy.path={checkpoint}", "--policy.device=cpu", "--env.type=franka_sim",
            "--env.task=pick_cube", f"--{self._episode_length}", f"--eval.n_episodes={EPISODES}", "--eval.batch_size=10",
            "--eval.use_async_envs=false", f"--seed={EVALUATION_SEED}", f"--output_dir={output}",
        )  # fmt: skip
        overall = json.loads((output / "eval_info.json").read_text())["overall"]
        return round(overall["pc_success"] * EPISODES / 100)

    def _write_evaluations(self, run: Path, act: int, fine_tuned: int) -> None:
        files = MetricsDirectory(run)
        steps = files.load().episodes["env_steps"][-1]
        with CsvAppender(files.evaluations, EVALUATION_COLUMNS) as table:
            for name, at, step, successes in (("act", 0, 0, act), ("fine_tuned", steps, self.steps, fine_tuned)):
                table.append({"env_steps": at, "step": step, "name": name, "successes": successes, "trials": EPISODES})

    def _summary(self, act: int, fine_tuned: int, run: Path) -> int:
        act_low, act_high = wilson_interval(act, EPISODES)
        low, high = wilson_interval(fine_tuned, EPISODES)
        minutes = (time.monotonic() - self.started) / 60
        print(
            f"\nACT:        {act} of {EPISODES} episodes succeed (95 % interval {act_low:.0%} to {act_high:.0%})\n"
            f"Fine-tuned: {fine_tuned} of {EPISODES} on the same seeds (95 % interval {low:.0%} to {high:.0%})\n"
            f"Took {minutes:.0f} minutes; report: {run / 'report' / 'index.html'}",
            flush=True,
        )
        return 0 if low > act_high else 1

    def _command(self, log_name: str, command: str, *flags: str, show: bool = False) -> None:
        print(f"    $ {command} {' '.join(flags)}", flush=True)
        log = self.root / f"{log_name}.log"
        with log.open("wb") as handle:
            output = None if show else handle
            code = subprocess.run([str(BIN / command), *flags], stdout=output, stderr=subprocess.STDOUT if not show else None).returncode
        if code != 0:
            tail = log.read_text(errors="replace").replace("\r", "\n").splitlines()[-20:]
            raise SystemExit("\n".join([*tail, f"{command} failed with exit code {code}; the full output is in {log}."]))

    def _say(self, text: str) -> None:
        print(f"[{(time.monotonic() - self.started) / 60:4.1f} min] {text}", flush=True)


def main() -> int:
    """Parse and run."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--root", type=Path, default=Path("outputs/quickstart"))
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--steps", type=int, default=18_500, help="critic updates of the fine-tuning")
    known, overrides = command.parse_known_args()
    if known.root.exists():
        print(
            f"{known.root} exists already: the quickstart ran here before. Look at its report, or remove it (make clean).", file=sys.stderr
        )
        return 1
    return Quickstart(known.root, known.seed, known.steps, overrides).run()


if __name__ == "__main__":
    sys.exit(main())
