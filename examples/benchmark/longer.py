"""Whether filtered cloning was trained for long enough: ``python examples/benchmark/longer.py PLAN.yaml SEED STEPS [STEPS ...] --root=DIR``.

Trains ACT on the demonstrations alone, and on what the last round of this seed's ``filtered_bc`` trained it on (the run has to be under --root),
and measures both after each of STEPS, on episodes that nothing else uses. Replaces this seed in ``docs/results/longer/longer.csv``.
"""

import argparse
import math
import shutil
import sys
from pathlib import Path

import torch
from study.base import Base, frozen_policy, load_base, train_act
from study.plan import Plan, load_plan
from study.practice import CONTROL_SEED, deterministic, evaluate
from study.results import replace_measured
from study.run import REPOSITORY
from study.tasks import TASKS

FILE = REPOSITORY / "docs" / "results" / "longer" / "longer.csv"


def main() -> int:
    """Parse, train, measure, write."""
    parser = argparse.ArgumentParser(description="whether filtered cloning was trained for long enough")
    parser.add_argument("plan", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("steps", type=int, nargs="+", help="training steps of ACT")
    parser.add_argument("--root", type=Path, required=True, help="where learn.py ran filtered_bc of this seed")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--results", type=Path, default=FILE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    plan = load_plan(args.plan)
    base, last_round = load_base(plan.base_root(args.root, args.seed), TASKS[plan.task]), last_dataset(plan, args.root, args.seed)
    if base is None or last_round is None:
        print(f"{args.root} has no run of filtered_bc with seed {args.seed} of {plan.name}; learn.py makes it.", file=sys.stderr)
        return 1
    rows = []
    for name, dataset in (("demonstrations", base.demonstrations), ("last round", last_round)):
        run = args.root / "longer" / plan.name / f"seed{args.seed}" / name.replace(" ", "_")
        for steps, successes in trained_on(dataset, run, base, args.seed, args.steps, args.episodes).items():
            print(f"{name}, {steps} steps: {successes} of {args.episodes}", flush=True)
            place = {"study": plan.name, "seed": str(args.seed), "dataset": name, "training_steps": str(steps)}
            rows.append(place | {"successes": str(successes), "episodes": str(args.episodes)})
    replace_measured(args.results, rows, ("study", "seed"))
    return 0


def last_dataset(plan: Plan, root: Path, seed: int) -> Path | None:
    """Of the last round of filtered cloning; None: there has been none."""
    rounds = (root / plan.name / "filtered_bc" / f"seed{seed}").glob("round*/dataset")
    return max(rounds, key=lambda dataset: int(dataset.parent.name.removeprefix("round")), default=None)


def trained_on(dataset: Path, run: Path, base: Base, seed: int, steps: list[int], episodes: int) -> dict[int, int]:
    """Successes by training steps; a training that has come to its end in `run` is not repeated."""
    checkpoints = [run / "checkpoints" / f"{count:06d}" / "pretrained_model" for count in steps]
    if not all(checkpoint.is_dir() for checkpoint in checkpoints):
        shutil.rmtree(run, ignore_errors=True)
        run.parent.mkdir(parents=True, exist_ok=True)
        train_act(dataset, run, base.task, max(steps), seed, run.with_name(f"{run.name}.log"), save_freq=math.gcd(*steps))
    found = {}
    for count, checkpoint in zip(steps, checkpoints, strict=True):
        policy = frozen_policy(checkpoint, base.task.horizon)
        world = base.world(policy.config.input_features or {}, policy.agent.action_dim, CONTROL_SEED)
        found[count] = sum(episode.success for episode in evaluate(world, deterministic(policy), episodes))
    return found


if __name__ == "__main__":
    sys.exit(main())
