"""What a dip of practice is made of: ``python examples/benchmark/dip.py PLAN.yaml SEED STEP --root=DIR [--episodes=200]``.

Trains ``serl_sac`` of the plan as a run does, up to STEP environment steps, and then measures, with these weights and on episodes that nothing else
uses, how often ACT succeeds, the deterministic policy, and the collecting one with its exploration. The worst 50 episodes of a practice are a
minimum over hundreds of windows, and the ACT beside them is 50 episodes; this is neither. Replaces this seed and step in
``docs/results/dips/dips.csv``.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from study.base import Base, frozen_policy, load_base, make_base
from study.methods.serl import make_policy, training_step
from study.plan import load_plan
from study.practice import CONTROL_SEED, Logbook, Practice, deterministic, evaluate
from study.results import replace_measured
from study.run import REPOSITORY, Run
from study.tasks import TASKS

from lerobot_serl.actor.received_policy import explore
from lerobot_serl.actor.session import Act
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

FILE = REPOSITORY / "docs" / "results" / "dips" / "dips.csv"


def main() -> None:
    """Parse, train, measure, write."""
    parser = argparse.ArgumentParser(description="what a dip of practice is made of")
    parser.add_argument("plan", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("step", type=int)
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
        policy = trained(Run(plan, plan.variants["serl_sac"], base, Path(directory), Logbook(args.seed)), args.step)
    place = {"study": plan.name, "seed": str(args.seed), "step": str(args.step)}
    counts = dict(measured(policy, base, args.episodes))
    rows = [place | {"policy": name, "successes": str(count), "episodes": str(args.episodes)} for name, count in counts.items()]
    replace_measured(args.results, rows, ("study", "seed", "step"))


def trained(run: Run, step: int) -> SerlSacPolicy:
    """The policy as it is after so many environment steps of practice."""
    policy = make_policy(run, {"act_path": str(run.base.act), "horizon": run.base.task.horizon})
    practice = Practice(policy.agent, policy.progress, run.base.task.env(), run.logbook)
    update = training_step(run, policy, practice)
    while policy.progress.env_steps < step or policy.progress.may_update:
        update()
    return policy


def measured(policy: SerlSacPolicy, base: Base, episodes: int) -> Iterator[tuple[str, int]]:
    """Name of a policy and in how many episodes it succeeds."""
    generator = torch.Generator().manual_seed(CONTROL_SEED)
    policies: dict[str, Act] = {
        "ACT": deterministic(frozen_policy(base.act, base.task.horizon)),
        "deterministic": deterministic(policy),
        "collecting": lambda observation: explore(policy.agent, observation, True, generator),
    }
    for name, act in policies.items():
        world = base.world(policy.config.input_features or {}, policy.agent.action_dim, CONTROL_SEED)
        successes = sum(episode.success for episode in evaluate(world, act, episodes))
        print(f"{name}: {successes} of {episodes}", flush=True)
        yield name, successes


if __name__ == "__main__":
    main()
