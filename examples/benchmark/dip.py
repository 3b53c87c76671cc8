"""Who of one run acts how well: ``python examples/benchmark/dip.py PLAN.yaml SEED STEP [STEP ...] --root=DIR [--episodes=200]``.

Trains ``serl_sac`` of the plan as a run does, and at each STEP environment steps measures, with the weights of that moment and on episodes that
nothing else uses, how often ACT succeeds, the collecting policy, and every way to deploy the weights.
The worst 50 episodes of a practice are a minimum over hundreds of windows, and the ACT beside them is 50 episodes; this is neither. Replaces this
seed and step in ``docs/results/dips/dips.csv``.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from study.base import load_base, make_base
from study.candidates import CANDIDATES, act_alone, collecting, measured
from study.methods.serl import make_policy, training_step
from study.plan import load_plan
from study.practice import Logbook, Practice
from study.results import replace_measured
from study.run import REPOSITORY, Run
from study.tasks import TASKS

from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

FILE = REPOSITORY / "docs" / "results" / "dips" / "dips.csv"


def main() -> None:
    """Parse, train, measure, write."""
    parser = argparse.ArgumentParser(description="who of one run acts how well")
    parser.add_argument("plan", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("steps", type=int, nargs="+")
    parser.add_argument("--root", type=Path, required=True, help="where learn.py keeps demonstrations and ACT; made there, if they are not")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--results", type=Path, default=FILE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    plan = load_plan(args.plan, quick=False)
    task, base_root = TASKS[plan.task], plan.base_root(args.root, args.seed)
    base_root.mkdir(parents=True, exist_ok=True)
    base = load_base(base_root, task) or make_base(base_root, task, args.seed)
    with tempfile.TemporaryDirectory() as directory:
        run = Run(plan, plan.variants["serl_sac"], base, Path(directory), Logbook(args.seed))
        for step, policy in trained(run, sorted(args.steps)):
            place = {"study": plan.name, "seed": str(args.seed), "step": str(step)}
            ways = {
                "ACT": act_alone(policy, base),
                "collecting": collecting(policy),
                **{name: make(policy) for name, make in CANDIDATES.items()},
            }
            rows = [place | measured(name, act, base, policy, args.episodes) for name, act in ways.items()]
            replace_measured(args.results, rows, ("study", "seed", "step"))


def trained(run: Run, steps: Sequence[int]) -> Iterator[tuple[int, SerlSacPolicy]]:
    """The policy as it is after so many environment steps of practice; one run passes all of them."""
    policy = make_policy(run, {"act_path": str(run.base.act), "horizon": run.base.task.horizon})
    practice = Practice(policy.agent, policy.progress, run.base.task.env(), run.logbook)
    _, update = training_step(run, policy, practice)
    for step in steps:
        while policy.progress.env_steps < step or policy.progress.may_update:
            update()
        yield step, policy


if __name__ == "__main__":
    main()
