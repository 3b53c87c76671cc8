"""What it costs to keep an episode, against the size of the dataset, with two 128x128 cameras.

For each size: the time until an episode of 100 steps is durable and can be acknowledged (the journal), and the time that the process beside
the learner takes to put 10 such episodes into the LeRobotDataset.

python examples/benchmark/append.py --sizes 1000 10000 100000
"""

import argparse
import csv
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from lerobot_serl.replay.dataset_writer import StoreSettings, write_pending
from lerobot_serl.replay.episode import Episode
from lerobot_serl.replay.episode_message import encode_episode
from lerobot_serl.replay.journal import journal_of
from lerobot_serl.replay.store import online_features

STEPS, FPS, SIDE = 100, 10, 128
CAMERAS = ("observation.images.front", "observation.images.wrist")
APPENDED = 10
COLUMNS = ("steps_before", "journal_median_ms", "journal_max_ms", "completion_s_per_1000_steps")


def recording(generator: torch.Generator) -> Episode:
    """A success after 100 steps; its pictures are smooth, as a camera's are."""

    def video() -> torch.Tensor:
        coarse = torch.randint(0, 256, (STEPS, 3, 8, 8), generator=generator, dtype=torch.uint8)
        return coarse.repeat_interleave(SIDE // 8, 2).repeat_interleave(SIDE // 8, 3)

    reward = torch.zeros(STEPS)
    reward[-1] = 1.0
    return Episode(
        observation={"observation.state": torch.rand(STEPS, 18, generator=generator), **{camera: video() for camera in CAMERAS}},
        action=torch.rand(STEPS, 4, generator=generator),
        reward=reward,
        intervention=torch.zeros(STEPS, dtype=torch.bool),
        terminated=True,
        truncated=False,
        task="pick up the cube",
    )


def features() -> dict[str, dict[str, object]]:
    """Of the online dataset."""
    vectors = {key: {"dtype": "float32", "shape": (size,), "names": None} for key, size in (("observation.state", 18), ("action", 4))}
    image = {"dtype": "image", "shape": (SIDE, SIDE, 3), "names": ["height", "width", "channels"]}
    return online_features({**vectors, **dict.fromkeys(CAMERAS, image)}, use_videos=False)


class OnlineDataset:
    """A dataset that grows as in a run."""

    def __init__(self, root: Path) -> None:
        self.settings = StoreSettings("local/append", str(root), FPS, features(), use_videos=False)
        self.journal = journal_of(root)
        self.steps = 0
        self._generator = torch.Generator().manual_seed(0)

    def grow(self, steps: int) -> None:
        """Until it has so many steps."""
        for _ in tqdm(range(self.steps, steps, STEPS * APPENDED), desc=f"Growing to {steps} steps"):
            self.append()

    def append(self) -> tuple[list[float], float]:
        """Ten episodes; how long the journal took for each, and completion for all, in seconds."""
        journal_s = []
        for index in range(APPENDED):
            data = encode_episode(recording(self._generator), f"{self.steps}-{index}")
            started = time.perf_counter()
            self.journal.write(f"{self.steps}-{index}", data)
            journal_s.append(time.perf_counter() - started)
        started = time.perf_counter()
        write_pending(self.settings)
        self.steps += STEPS * APPENDED
        return journal_s, time.perf_counter() - started


def main() -> int:
    """Measure and write."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], help="steps in the dataset before")
    command.add_argument("--output", type=Path, default=Path("docs/results/durability/append.csv"))
    known = command.parse_args()
    known.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        dataset = OnlineDataset(Path(directory) / "online")
        with known.output.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for size in known.sizes:
                dataset.grow(size)
                before = dataset.steps
                measured = [dataset.append() for _ in range(3)]
                journal_ms = [1000 * seconds for each, _ in measured for seconds in each]
                completion_s = statistics.median(1000 * seconds / (STEPS * APPENDED) for _, seconds in measured)
                row = (before, statistics.median(journal_ms), max(journal_ms), completion_s)
                writer.writerow([before, *(float(np.round(value, 2)) for value in row[1:])])
                file.flush()
                print(dict(zip(COLUMNS, row, strict=True)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
