"""This project's own policy: as it is, on ACT, and from scratch."""

from collections.abc import Callable, Mapping
from typing import Any

import draccus
import torch
import yaml

from lerobot_serl.online.learner import Learner
from lerobot_serl.policy.base_settings import NONE
from lerobot_serl.policy.configuration_serl_sac import SerlSacConfig
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.presets import presets

from ..candidates import CANDIDATES, act_alone, best, measured
from ..practice import Practice, deterministic
from ..run import Run, policy_features


def frozen_act(run: Run) -> None:
    """ACT, evaluated again."""
    policy = make_policy(run, run.base.start)
    run.evaluate(deterministic(policy, run.maker(policy)), policy.config.input_features or {}, policy.agent.action_dim, 0)


def fine_tune(run: Run) -> None:
    """`serl_sac` on the run's ACT."""
    learn(run, make_policy(run, run.base.start))


def from_scratch(run: Run) -> None:
    """RLPD in the same code: no ACT, and one-step critics."""
    learn(run, make_policy(run, preset("rlpd")))


def preset(name: str) -> dict[str, Any]:
    """The policy's settings in a file of `configs/`."""
    (path,) = [path for path in presets("policy") if path.stem == name]
    settings: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["policy"]
    return {key: value for key, value in settings.items() if key != "type"}


def make_policy(run: Run, settings: Mapping[str, Any]) -> SerlSacPolicy:
    """The policy with the method's settings, and the variant's on top of them; without a base policy its features are the dataset's."""
    torch.manual_seed(run.seed)
    fixed = {"device": "cpu", "push_to_hub": False, "online": {"repo_id": "local/practice"}, "metrics_dir": str(run.directory)}
    config = draccus.decode(SerlSacConfig, merged(merged(fixed, settings), run.variant.policy))
    meta = run.base.meta
    if config.base == NONE:
        config.input_features, config.output_features = policy_features(meta)
    return SerlSacPolicy(config, dataset_stats=meta.stats, dataset_meta=meta)


def learn(run: Run, policy: SerlSacPolicy) -> None:
    """What `lerobot-train` does, with the world in the same process, and evaluations on the way."""
    maker = run.maker(policy)
    config, act, progress = policy.config, deterministic(policy, maker), policy.progress
    inputs, action_dim = config.input_features or {}, policy.agent.action_dim
    run.evaluate(act, inputs, action_dim, 0)
    if run.plan.control_steps:
        run.control([measured("ACT", act_alone(policy, run.base), run.base, policy, run.plan.control_episodes)], 0)
    practice = Practice(policy.agent, progress, run.base.task.env(), run.logbook, maker)
    learner, update = training_step(run, policy, practice)
    while progress.env_steps < run.plan.env_steps or progress.may_update:
        update()
        step = int(progress.env_steps)
        if run.due(step) and (step < run.plan.env_steps or not progress.may_update):
            run.evaluate(act, inputs, action_dim, step)
            if run.control_due(step):
                run.control(control_rows(run, policy, learner), step)


def control_rows(run: Run, policy: SerlSacPolicy, learner: Learner) -> list[dict[str, str]]:
    """Every way to deploy the weights as they are now, and what `checkpoints/best` would hold; where that is ACT, it was measured at step 0."""
    ways = {name: make(policy) for name, make in CANDIDATES.items()}
    best_policy = learner.best_policy
    print(f"best: {best_policy}", flush=True)
    if best_policy.edits_are_better:
        ways["best"] = best(policy, best_policy)
    return [measured(name, act, run.base, policy, run.plan.control_episodes) for name, act in ways.items()]


def training_step(run: Run, policy: SerlSacPolicy, practice: Practice | None = None) -> tuple[Learner, Callable[[], None]]:
    """A learner, and what `lerobot-train` calls for each update.

    Args:
        practice: where episodes come from; None: learn from the demonstrations alone.
    """
    torch.manual_seed(run.seed)
    learner = Learner(policy.agent, policy.config, policy.progress, run.base.meta, practice)

    def update() -> None:
        learner.step()

    return learner, update


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """``other``'s entries on top of ``one``'s, group by group."""
    result = dict(one)
    for key, value in other.items():
        result[key] = merged(result[key], value) if isinstance(value, Mapping) and isinstance(result.get(key), Mapping) else value
    return result
