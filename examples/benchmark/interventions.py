"""Do a person's corrections help? The quickstart's task with and without a scripted person who takes over, from the same weak ACT.

ACT has seen three demonstrations, and an attempt ends after 3.5 seconds, which is time for one approach. In the arm "takeovers" the scripted
expert takes half of the attempts over when they begin; the other arms say what happens when it waits. The policy is evaluated without help, on the
same 100 seeds for all arms, while it learns. Finished parts are not repeated.

python examples/benchmark/interventions.py --root=outputs/interventions
"""

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from quickstart import EPISODES, Quickstart

PERSON = ("--actor.teleop.type=franka_sim_expert",)
ARMS: dict[str, tuple[str, ...]] = {
    "none": (),
    "takeovers": (*PERSON, "--actor.teleop.takeover_share=0.5", "--actor.teleop.takeover_after_s=0"),
    "takeovers_after_half_a_second": (*PERSON, "--actor.teleop.takeover_share=0.5", "--actor.teleop.takeover_after_s=0.5"),
    "takeovers_about_to_miss": (
        *PERSON, "--actor.teleop.takeover_share=1.0", "--actor.teleop.takeover_after_s=0.5", "--actor.teleop.takeover_beside_m=0.025",
    ),
}  # fmt: skip
# A weak ACT, as a person would help it.
DEMONSTRATIONS, ACT_STEPS = 3, 300
EPISODE_STEPS = 35
COLUMNS = ("arm", "seed", "updates", "successes", "trials", "env_steps", "intervened_steps")


def measure(root: Path, seed: int, arms: list[str], steps: int, every: int, table: Path) -> None:
    """The arms of one seed; appends rows to the table."""
    quickstart = Quickstart(root / f"seed{seed}", seed, steps, [], DEMONSTRATIONS, EPISODE_STEPS)
    act_file = quickstart.root / "act.csv"
    if act_file.is_file():
        path, _, successes = act_file.read_text(encoding="utf-8").strip().rpartition(",")
        act, act_successes = Path(path), int(successes)
    else:
        act, act_successes = quickstart.prepare((ACT_STEPS,), (0.0, 1.0))
        act_file.write_text(f"{act},{act_successes}\n", encoding="utf-8")
    for arm in arms:
        if _has(table, arm, seed):
            continue
        run = quickstart.root / arm / f"{arm}_run"
        run.parent.mkdir(exist_ok=True)
        quickstart.fine_tune(act, run, f"--train.save_freq={every}", *ARMS[arm])
        rows = [(arm, seed, 0, act_successes, EPISODES, 0, 0)]
        for updates in range(every, steps + 1, every):
            checkpoint = run / "checkpoints" / f"{updates:06d}" / "pretrained_model"
            successes = quickstart.evaluate(f"{arm}_{updates}", checkpoint)
            rows.append((arm, seed, updates, successes, EPISODES, *_experience(run, updates)))
            print(f"    {arm}, seed {seed}, {updates} updates: {successes} of {EPISODES}", flush=True)
        _append(table, rows)


def _experience(run: Path, updates: int) -> tuple[int, int]:
    """Environment steps when the learner had made so many updates, and how many of them a person drove."""
    with (run / "metrics" / "learner.csv").open(encoding="utf-8") as file:
        steps = max((int(row["env_steps"]) for row in csv.DictReader(file) if int(row["step"]) <= updates), default=0)
    with (run / "metrics" / "episodes.csv").open(encoding="utf-8") as file:
        by_hand = sum(int(row["interventions"]) for row in csv.DictReader(file) if int(row["env_steps"]) <= steps)
    return steps, by_hand


def _has(table: Path, arm: str, seed: int) -> bool:
    if not table.is_file():
        return False
    with table.open(encoding="utf-8") as file:
        return any(row["arm"] == arm and int(row["seed"]) == seed for row in csv.DictReader(file))


def _append(table: Path, rows: list[tuple[object, ...]]) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    is_new = not table.is_file()
    with table.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        writer.writerows(rows)


def main() -> int:
    """Every seed, every arm."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--root", type=Path, default=Path("outputs/interventions"))
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    command.add_argument("--arms", nargs="+", choices=sorted(ARMS), default=["none", "takeovers"])
    command.add_argument("--steps", type=int, default=8000, help="critic updates")
    command.add_argument("--every", type=int, default=2000, help="updates between two evaluations")
    command.add_argument("--table", type=Path, default=Path("docs/results/interventions/interventions.csv"))
    known = command.parse_args()
    for seed in known.seeds:
        measure(known.root, seed, known.arms, known.steps, known.every, known.table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
