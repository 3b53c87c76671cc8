"""Who of one run acts how well: ``python examples/benchmark/dip.py PLAN.yaml SEED STEP [STEP ...] --root=DIR [--episodes=200]``.

Trains ``serl_sac`` of the plan as a run does, and at each STEP environment steps measures, with the weights of that moment and on episodes that
nothing else uses, how often ACT succeeds, the deterministic policy, its mean edit alone, and the collecting policy with and without exploration.
The worst 50 episodes of a practice are a minimum over hundreds of windows, and the ACT beside them is 50 episodes; this is neither. Replaces this
seed and step in ``docs/results/dips/dips.csv``.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
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
from lerobot_serl.actor.session import Act, Chunk
from lerobot_serl.actor.world import Observation
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
            rows = [place | measured(name, policy, base, args.episodes) for name in POLICIES]
            replace_measured(args.results, rows, ("study", "seed", "step"))


def trained(run: Run, steps: Sequence[int]) -> Iterator[tuple[int, SerlSacPolicy]]:
    """The policy as it is after so many environment steps of practice; one run passes all of them."""
    policy = make_policy(run, {"act_path": str(run.base.act), "horizon": run.base.task.horizon})
    practice = Practice(policy.agent, policy.progress, run.base.task.env(), run.logbook)
    update = training_step(run, policy, practice)
    for step in steps:
        while policy.progress.env_steps < step or policy.progress.may_update:
            update()
        yield step, policy


def measured(name: str, policy: SerlSacPolicy, base: Base, episodes: int) -> dict[str, str]:
    """In how many episodes one of `POLICIES` succeeds, and how long they are on average."""
    world = base.world(policy.config.input_features or {}, policy.agent.action_dim, CONTROL_SEED)
    recordings = evaluate(world, POLICIES[name](policy, base), episodes)
    successes = sum(recording.success for recording in recordings)
    length = sum(map(len, recordings)) / episodes
    print(f"{name}: {successes} of {episodes}, {length:.1f} steps", flush=True)
    return {"policy": name, "successes": str(successes), "episodes": str(episodes), "length": f"{length:.1f}"}


def collecting(policy: SerlSacPolicy, explore_share: float | None = None) -> Act:
    """The collecting policy with fresh noise of its own, perhaps with another share of edits that the critics are not asked about."""
    generator, actor = torch.Generator().manual_seed(CONTROL_SEED), policy.config.actor

    def act(observation: Observation) -> Chunk:
        before = actor.explore
        try:
            actor.explore = before if explore_share is None else explore_share
            return explore(policy.agent, observation, True, generator)
        finally:
            actor.explore = before

    return act


def mean_alone(policy: SerlSacPolicy) -> Act:
    """The deterministic policy whose only candidate beside the reference is the mean edit."""
    act, agent = deterministic(policy), policy.agent

    def alone(observation: Observation) -> Chunk:
        noise = agent.fixed_noise
        try:
            agent.fixed_noise = noise[:0]
            return act(observation)
        finally:
            agent.fixed_noise = noise

    return alone


POLICIES: dict[str, Callable[[SerlSacPolicy, Base], Act]] = {
    "ACT": lambda policy, base: deterministic(frozen_policy(base.act, base.task.horizon)),
    "deterministic": lambda policy, base: deterministic(policy),
    "mean edit alone": lambda policy, base: mean_alone(policy),
    "collecting": lambda policy, base: collecting(policy),
    "collecting, explore 0": lambda policy, base: collecting(policy, 0.0),
}


if __name__ == "__main__":
    main()
