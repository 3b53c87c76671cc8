"""Updates per second inside stock `lerobot-train`, and bytes per step of the replay memory. Writes docs/results/speed/speed.csv.

python examples/benchmark/speed.py --act_path=ACT --dataset_root=DIR --output=docs/results/speed/speed.csv
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from lerobot_serl.replay.memory import ReplayMemory
from lerobot_serl.replay.transition import Episode
from lerobot_serl.report.metrics_files import MetricsDirectory

UPDATES = 1500
BATCH_SIZE = 256


def updates_per_s(act_path: Path, dataset_root: Path, members: int, threads: int) -> float:
    """Median over the rows of learner.csv of an offline run with actor updates on every second critic update."""
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        flags = (
            "--policy.type=serl_sac", f"--policy.act_path={act_path}", "--policy.device=cpu", "--policy.push_to_hub=false",
            "--dataset.repo_id=local/pick_cube", f"--dataset.root={dataset_root}", f"--output_dir={run}", "--batch_size=1",
            "--num_workers=0", f"--steps={UPDATES}", "--save_checkpoint=false", "--env_eval_freq=0", "--log_freq=0",
            f"--policy.critic.members={members}", f"--policy.batch_size={BATCH_SIZE}", "--policy.startup.critic_updates=0",
            "--policy.metrics_period_s=2",
        )  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        subprocess.run([sys.executable, "-m", "lerobot.scripts.lerobot_train", *flags], check=True, env=environment, capture_output=True)
        rates = [float(rate) for rate in MetricsDirectory(run).load().learner["updates_per_s"]]
    return sorted(rates)[len(rates) // 2]


def bytes_per_step() -> int:
    """Of a memory that keeps two 128x128 cameras beside features (18 + 3), ACT's chunk (10 x 4) and action."""
    frames = 10
    images = {f"observation.images.{name}": torch.zeros(frames, 3, 128, 128, dtype=torch.uint8) for name in ("front", "wrist")}
    columns = {"features": torch.zeros(frames, 21), "base": torch.zeros(frames, 10, 4), **images}
    flags = torch.zeros(frames, dtype=torch.bool)
    memory = ReplayMemory(frames, horizon=10, discount=0.97)
    memory.add(Episode(columns, torch.zeros(frames, 4), torch.zeros(frames), flags, terminated=False, truncated=True))
    return memory.bytes_per_frame


def main() -> None:
    """Measure and write."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--act_path", type=Path, required=True)
    command.add_argument("--dataset_root", type=Path, required=True)
    command.add_argument("--output", type=Path, default=Path("docs/results/speed/speed.csv"))
    settings = command.parse_args()
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    with settings.output.open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(("quantity", "critics", "threads", "value", "unit"))
        for members in (2, 4, 10):
            for threads in (1, 2):
                rate = updates_per_s(settings.act_path, settings.dataset_root, members, threads)
                print(f"{members} critics, {threads} threads: {rate:.0f} updates/s", flush=True)
                table.writerow(("updates inside lerobot-train", members, threads, round(rate, 1), "1/s"))
        table.writerow(("replay memory with two 128x128 cameras", "", "", bytes_per_step(), "bytes per step"))
    about = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
    settings.output.with_name("meta.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
