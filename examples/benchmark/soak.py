"""A day with four robots in compressed time: does anything grow that should not?

A learner in `lerobot-train`, three robot sides that store and send an episode every quarter of a second, which stands for 15 seconds with its
reset, and one `lerobot-serl-actor` in the simulation. Every few seconds the resident memory, threads and open files of each process are written
down, and the files that wait on disk. In the end everything is killed, dataset and journal are compared with what was acknowledged, and the curves
are drawn.

python examples/benchmark/soak.py --hours 24
"""

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent))

from kills import READY_S, REPO_ID, Ground, lines, start_robot

ROBOTS, FRAMES, EPISODE_S = ("left", "middle", "right"), 10, 15.0
FIRST_OF_NEXT = 100_000  # robots number their episodes from a multiple of this
LOOK_EVERY_S = 10.0
PAGE_MB = 4096 / 1e6
COLUMNS = ("wall_s", "episodes", "process", "resident_mb", "threads", "open_files")
SUMMARY_COLUMNS = (
    "hours", "episodes", "lost", "doubled", "process", "resident_mb_at_half", "resident_mb_at_end", "threads_at_half", "threads_at_end",
    "open_files_at_half", "open_files_at_end",
)  # fmt: skip
# The memory is full, and goes round, long before half of the day is over.
LEARNER_FLAGS = ("--save_freq=20000", "--policy.buffer_capacity=20000", "--policy.online.max_lead_steps=1000000000")
Row = tuple[float, int, str, float, int, int]


class Day:
    """Learner and robots, and what they use.

    Args:
        root: of everything.
    """

    def __init__(self, root: Path) -> None:
        self.ground = Ground(root, frames=FRAMES, learner_flags=LEARNER_FLAGS)
        self.root = root
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Everything."""
        self.ground.prepare()
        port = self.ground.port
        self.processes["learner"] = self.ground.start_learner()
        for index, name in enumerate(ROBOTS):
            self.processes[name] = start_robot(self.root, port, FRAMES, name, index * FIRST_OF_NEXT)
        command = [
            sys.executable, "-m", "lerobot_serl.scripts.lerobot_serl_actor", f"--learner=127.0.0.1:{port}", "--env.type=franka_sim",
            "--name=simulated", f"--spool_dir={self.root / 'simulated'}", f"--patience_s={READY_S:.0f}",
        ]  # fmt: skip
        with (self.root / "simulated.log").open("ab") as log:
            self.processes["simulated"] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def n_episodes(self) -> int:
        """Acknowledged episodes of the robots that send without a simulation."""
        return sum(len(lines(self.root / name / "acknowledged")) for name in ROBOTS)

    def look(self) -> Iterator[tuple[str, float, int, int]]:
        """Process, resident memory in MB, threads, open files; "completion" is the process beside the learner, "disk" the files that wait."""
        numbers = {name: process.pid for name, process in self.processes.items()}
        numbers["completion"] = next(iter(self.ground.processes("lerobot_serl.replay.dataset_writer")), 0)
        for name, number in numbers.items():
            directory = Path(f"/proc/{number}")
            try:
                resident_mb = round(int((directory / "statm").read_text().split()[1]) * PAGE_MB, 1)
                threads = int((directory / "stat").read_text().rpartition(")")[2].split()[17])
                yield name, resident_mb, threads, len(list((directory / "fd").iterdir()))
            except OSError:
                if name != "completion":  # which ends and is started again
                    raise
        places = ("*/spool", "simulated", "online.journal")
        waiting = [size for name in places for path in self.root.glob(f"{name}/**/*.episode") if (size := _size(path)) is not None]
        yield "disk", sum(waiting) / 1e6, 0, len(waiting)

    def end(self) -> tuple[int, int, int]:
        """Everything killed: episodes in dataset and journal, acknowledged ones that are in neither, doubled ones."""
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        from lerobot_serl.replay.journal import journal_of

        for process in self.processes.values():
            process.kill()
            process.wait()
        for number in self.ground.processes("lerobot_serl.replay.dataset_writer"):
            os.kill(number, signal.SIGKILL)
        ledger = (self.ground.online / "meta" / "serl_episodes.jsonl").read_text().splitlines()
        counts = Counter(json.loads(line)["uuid"] for line in ledger)
        n_episodes = LeRobotDataset(REPO_ID, root=self.ground.online).num_episodes
        if n_episodes != len(ledger):
            raise RuntimeError(f"The dataset has {n_episodes} episodes, its ledger {len(ledger)}")
        kept = counts.keys() | journal_of(self.ground.online).uuids()
        acknowledged = {uuid for name in ROBOTS for uuid in lines(self.root / name / "acknowledged")}
        return len(kept), len(acknowledged - kept), sum(count - 1 for count in counts.values())


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # delivered in the meantime
        return None


def measure(root: Path, hours: float, output: Path) -> bool:
    """The day, or until Ctrl-C; whether nothing was lost and nothing grew. Writes the tables and the picture."""
    wanted = round(hours * 3600 / EPISODE_S * len(ROBOTS))
    output.parent.mkdir(parents=True, exist_ok=True)
    day = Day(root)
    rows: list[Row] = []
    day.start()
    started_s = None
    try:
        with tqdm(total=wanted, desc="Episodes", unit="episode") as bar:
            while (n_episodes := day.n_episodes) < wanted:
                for name, process in day.processes.items():
                    if process.poll() is not None:
                        raise RuntimeError(f"{name} ended by itself with {process.returncode}; see the logs in {root}")
                if n_episodes:
                    started_s = started_s or time.monotonic()
                    rows += [(round(time.monotonic() - started_s, 1), n_episodes, *seen) for seen in day.look()]
                    _write(output, COLUMNS, rows)
                bar.update(n_episodes - bar.n)
                time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        wanted = day.n_episodes
    episodes, lost, doubled = day.end()
    draw(output)
    hours = wanted * EPISODE_S / 3600 / len(ROBOTS)
    summary = [(round(hours, 2), episodes, lost, doubled, *each) for each in _growth(rows)]
    _write(output.with_name(output.stem + "_summary.csv"), SUMMARY_COLUMNS, summary)
    print(f"{hours:.1f} hours, {episodes} episodes, {lost} lost, {doubled} doubled")
    for each in summary:
        print(dict(zip(SUMMARY_COLUMNS[4:], each[4:], strict=True)))
    return lost == doubled == 0


def _growth(rows: list[Row]) -> Iterator[tuple[object, ...]]:
    """Process; median around the half of the day, and in its last fifth, of each figure."""
    end_s = rows[-1][0]
    for name in dict.fromkeys(row[2] for row in rows):
        half, last = ([row for row in rows if row[2] == name and low <= row[0] / end_s <= high] for low, high in ((0.4, 0.6), (0.8, 1.0)))
        if half and last:
            figures = [[(row[3], row[4], row[5]) for row in part] for part in (half, last)]
            yield name, *(round(statistics.median(each[index] for each in part), 1) for index in range(3) for part in figures)


def draw(table: Path) -> None:
    """The curves of a table, beside it as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for axis, column, title in zip(axes, COLUMNS[3:], ("Resident memory (MB)", "Threads", "Open files"), strict=True):
        for name in dict.fromkeys(row["process"] for row in rows if row["process"] != "disk"):
            own = [row for row in rows if row["process"] == name]
            hours = [int(row["episodes"]) * EPISODE_S / 3600 / len(ROBOTS) for row in own]
            axis.plot(hours, [float(row[column]) for row in own], label=name, linewidth=1.2)
        axis.set(title=title, xlabel="Hours (compressed)", ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(table.with_suffix(".png"), dpi=110)


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def main() -> int:
    """Measure and write."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--root", type=Path, default=Path("outputs/soak"))
    command.add_argument("--hours", type=float, default=24.0)
    command.add_argument("--output", type=Path, default=Path("docs/results/durability/soak.csv"))
    known = command.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return 0 if measure(known.root, known.hours, known.output) else 1


if __name__ == "__main__":
    sys.exit(main())
