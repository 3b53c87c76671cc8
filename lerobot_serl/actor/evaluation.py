"""Counting how often a policy succeeds, on a robot or in an environment, under the conditions of practice: nothing is learnt or sent."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from ..replay.demonstration_stats_file import RatedStats
from .attempts import Attempts, describe
from .deferred_signals import INTERRUPTS, deferred_signals, is_interrupt
from .demonstrated import find_stats, nothing_known
from .deployed_policy import DeployedPolicy, load_deployed
from .evaluation_file import EvaluationFile
from .leaving import close_all
from .robot_setup import PolicyNeeds
from .settings import DemonstrationsConfig, DeployedPolicyConfig
from .workplace import Workplace, WorkplaceSettings


@dataclass(kw_only=True)
class EvaluationSettings(WorkplaceSettings):
    """Settings of an actor process that evaluates; meanings as the flags of ``lerobot-serl-actor``, but ``results``, the file to write."""

    policy: DeployedPolicyConfig
    dataset: DemonstrationsConfig = field(default_factory=DemonstrationsConfig)
    n_episodes: int
    results: Path


def evaluate(settings: EvaluationSettings) -> tuple[int, int]:
    """Run episodes until ``n_episodes`` are done, or Ctrl-C or q; successes and episodes. Each is in the file when the next begins.

    Raises:
        StillPowered: motors may still be under torque; what else went wrong is its context.
        RuntimeError: the robot can not go on.
        OSError: the results cannot be written, or no such checkpoint.
        ValueError: robot or environment do not fit the policy; or nothing says what the demonstrations were like.
    """
    place = Workplace(settings)
    about = {"policy": str(settings.policy.path), "place": _place_in_words(settings), "wanted_episodes": settings.n_episodes}
    results = EvaluationFile(settings.results, about)
    policy: DeployedPolicy | None = None
    try:
        place.display.start()
        policy = load_deployed(settings.policy, settings.robot.device)
        needs = _needs(settings, policy)
        policy.plan_with(settings.planning, needs.fps, place.prepare(needs).simulated)
        logging.info(
            f"{settings.policy.path} acts {'as ACT' if policy.acts_as.value == 'ACT' else 'as deployed'}, {settings.n_episodes} times."
        )
        _run(place, policy, needs.fps, settings.n_episodes, results)
    except INTERRUPTS as error:
        if not is_interrupt(error):
            raise
        logging.info("Interrupted; the unfinished episode is dropped.")
    finally:
        close_all([*place.closers, *([] if policy is None else [policy.close])])
    return results.counts


def _run(place: Workplace, policy: DeployedPolicy, fps: int, n_episodes: int, results: EvaluationFile) -> None:
    attempts = Attempts(place, fps)

    def tick(steps: int, intervening: bool) -> None:
        if intervening:
            policy.moved()
        attempts.tick(steps, None if intervening else policy.acts_as)

    rollout = attempts.rollout(policy.act, begin_episode=policy.begin, tick=tick, see=policy.see, report=policy.report)
    while attempts.done < n_episodes and attempts.goes_on:
        episode = attempts.run(rollout)
        if episode is None:
            continue
        with deferred_signals():
            results.add(episode)
        successes, trials = results.counts
        logging.info(f"Episode {attempts.done} of {n_episodes}: {describe(episode)}; {successes} of {trials} succeed")


def _needs(settings: EvaluationSettings, policy: DeployedPolicy) -> PolicyNeeds:
    """What a robot or an environment has to give.

    Raises:
        ValueError: nothing says what the demonstrations were like, or they are of another robot.
    """
    rated = find_stats(policy.files, settings.dataset)
    if rated is not None and len(rated.stats.action_low) != policy.action_dim:
        raise ValueError(
            f"--policy.path={settings.policy.path}: its actions have {policy.action_dim} numbers, those of the demonstrations "
            f"{len(rated.stats.action_low)}. Name the dataset that it was trained on, with --dataset.repo_id."
        )
    if settings.env is not None:
        return PolicyNeeds(policy.inputs, policy.action_dim, settings.env.fps, None if rated is None else rated.stats)
    rated = rated or _without_demonstrations(settings, policy.action_dim)
    return PolicyNeeds(policy.inputs, policy.action_dim, rated.fps, rated.stats)


def _without_demonstrations(settings: EvaluationSettings, action_dim: int) -> RatedStats:
    robot, words = (
        settings.robot,
        f"--policy.path={settings.policy.path}: neither the checkpoint nor a flag says what its demonstrations were like",
    )
    if robot.safety.enabled:
        raise ValueError(
            f"{words}, so there are no limits. Name them: --dataset.repo_id=YOU/TASK (and --dataset.root=DIR), or switch the limits off: "
            "--safety.enabled=false."
        )
    if robot.fps is None or robot.episode_time_s is None:
        raise ValueError(f"{words}. Then give --fps, the rate of the control loop, and --episode_time_s, how long an attempt may last.")
    return nothing_known(action_dim, robot.fps, max(1, round(robot.fps * robot.episode_time_s)))


def _place_in_words(settings: EvaluationSettings) -> str:
    if settings.robot_config is not None:
        return f"--robot.type={settings.robot_config.type}"
    assert settings.env is not None
    return f"--env.type={settings.env.type}"
