"""How far a target jumps where one plan of ACT follows another, beside the control loop and in it.

    python examples/benchmark/seams.py outputs/benchmark/bases/pick_cube_ee_plans_30hz/seed0 pick_cube_ee_plans_30hz

Writes docs/results/seams/<task>.csv with ``--write``. Jumps are of the plans' actions from one step to the next, in action units, the largest entry.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from study.base import Base, frozen_policy, load_base
from study.practice import CONTROL_SEED, deterministic, evaluate
from study.tasks import TASKS

from lerobot_serl.actor.planning import BESIDE, IN_LOOP, Planning
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.replay.episode import Episode

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "seams"
DELAYS_S = (0.05, 0.1, 0.2, 0.4)
COLUMNS = ("planning", "delay_s", "episodes", "successes", "held_steps", "within_p99", "within_largest", "seams_p99", "seams_largest")


def jumps(policy: SerlSacPolicy, episode: Episode) -> tuple[np.ndarray, np.ndarray]:
    """Within plans, and where one follows or fades into another: largest entry of each step's change, action units."""
    planned, age = policy.agent.box.normalize(episode.plan_action), episode.plan_age
    change = planned.diff(dim=0).abs().amax(-1)
    goes_on = (age[1:] == age[:-1] + 1) & (age[:-1] >= 0)
    has_plan = (age[1:] >= 0) & (age[:-1] >= 0)
    begins = has_plan & ~goes_on
    since = torch.full_like(age[1:], 10**6)
    for index in begins.nonzero()[:, 0].tolist():
        stop = index + policy.config.horizon + 1
        since[index:stop] = torch.arange(len(since[index:stop]))
    seam = has_plan & (since < 10**6)
    return change[has_plan & ~seam].numpy(), change[seam].numpy()


def measure(base: Base, planning: Planning, episodes: int) -> dict[str, object]:
    """A row."""
    policy = frozen_policy(base.act, base.task.horizon, base.task.path_setting)
    inputs = policy.config.input_features or {}
    fps = base.task.env().fps
    act = deterministic(policy, planning.maker(policy.config.execution, fps, True, inputs))
    seen = evaluate(base.world(inputs, policy.agent.action_dim, CONTROL_SEED), act, episodes)
    within, seams = (np.concatenate(parts) for parts in zip(*(jumps(policy, episode) for episode in seen), strict=True))
    held = sum(int(episode.info.get("held_steps", 0)) for episode in seen)
    return {
        "planning": planning.place, "delay_s": planning.delay_s, "episodes": episodes, "successes": sum(episode.success for episode in seen),
        "held_steps": held, **{f"within_{name}": f"{value:.3f}" for name, value in _summary(within).items()},
        **{f"seams_{name}": f"{value:.3f}" for name, value in _summary(seams).items()},
    }  # fmt: skip


def _summary(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    return {"p99": float(np.quantile(values, 0.99)), "largest": float(np.max(values))} if len(values) else {"p99": 0.0, "largest": 0.0}


def main() -> None:
    """Parse, measure, print, write."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("base", type=Path, help="directory of demonstrations and ACT, made by learn.py")
    command.add_argument("task", choices=sorted(TASKS))
    command.add_argument("--episodes", type=int, default=50)
    command.add_argument("--write", action="store_true", help="the result file")
    settings = command.parse_args()
    torch.set_num_threads(1)
    base = load_base(settings.base, TASKS[settings.task])
    if base is None:
        command.error(f"{settings.base} holds no finished base: run learn.py with a plan of this task first")
    ways = [Planning(IN_LOOP), *(Planning(place, delay_s) for delay_s in DELAYS_S for place in (IN_LOOP, BESIDE))]
    rows = []
    for planning in ways:
        rows.append(measure(base, planning, settings.episodes))
        print(", ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    if settings.write:
        RESULTS.mkdir(parents=True, exist_ok=True)
        with (RESULTS / f"{settings.task}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
