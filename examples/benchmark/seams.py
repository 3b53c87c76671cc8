"""How far a target jumps where one plan of ACT follows another, beside the control loop and in it.

    python examples/benchmark/seams.py outputs/benchmark/bases/pick_cube_ee_plans_30hz/seed0 pick_cube_ee_plans_30hz

Writes docs/results/seams/<task>.csv with ``--write``. Jumps are of the plans' actions from one step to the next, in action units.
"""

import argparse
import csv
from pathlib import Path

import torch
from study.base import Base, frozen_policy, load_base
from study.practice import CONTROL_SEED, deterministic, evaluate
from study.tasks import TASKS
from torch import Tensor

from lerobot_serl.actor.planning import BESIDE, IN_LOOP, Planning
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.replay.episode import Episode

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "seams"
DELAYS_S = (0.05, 0.1, 0.2, 0.4)
COLUMNS = ("planning", "delay_s", "episodes", "successes", "held_steps", "largest_within", "largest_at_seams", "worst_ratio")


def jumps(policy: SerlSacPolicy, episode: Episode) -> tuple[Tensor, Tensor]:
    """Changes ``(n, D)`` within plans, and where one follows or fades into another."""
    planned, age = policy.agent.box.normalize(episode.plan_action), episode.plan_age
    change = planned.diff(dim=0).abs()
    has_plan = (age[1:] >= 0) & (age[:-1] >= 0)
    fading = torch.zeros_like(has_plan)
    for index in (has_plan & (age[1:] != age[:-1] + 1)).nonzero()[:, 0].tolist():
        fading[index : index + policy.config.horizon + 1] = True
    return change[has_plan & ~fading], change[has_plan & fading]


def measure(base: Base, planning: Planning, episodes: int, own: Tensor | None) -> tuple[dict[str, object], Tensor]:
    """A row, and the largest changes ``(D,)`` within plans; ``own``: of ACT as its owner runs it, to compare entry by entry."""
    policy = frozen_policy(base.act, base.task.horizon, base.task.path_setting)
    inputs = policy.config.input_features or {}
    act = deterministic(policy, planning.maker(policy.config.execution, base.task.env().fps, True, inputs))
    seen = evaluate(base.world(inputs, policy.agent.action_dim, CONTROL_SEED), act, episodes)
    within, seams = (torch.cat(parts) for parts in zip(*(jumps(policy, episode) for episode in seen), strict=True))
    largest, at_seams = (values.amax(0) if len(values) else torch.zeros(policy.agent.action_dim) for values in (within, seams))
    own = largest if own is None else own
    row = {
        "planning": planning.place, "delay_s": planning.delay_s, "episodes": episodes, "successes": sum(episode.success for episode in seen),
        "held_steps": sum(int(episode.info.get("held_steps", 0)) for episode in seen), "largest_within": f"{float(largest.max()):.3f}",
        "largest_at_seams": f"{float(at_seams.max()):.3f}", "worst_ratio": f"{float((at_seams / own).max()):.2f}",
    }  # fmt: skip
    return row, own


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
    rows, own = list[dict[str, object]](), None
    for planning in ways:
        row, own = measure(base, planning, settings.episodes, own)
        rows.append(row)
        print(", ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    if settings.write:
        RESULTS.mkdir(parents=True, exist_ok=True)
        with (RESULTS / f"{settings.task}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
