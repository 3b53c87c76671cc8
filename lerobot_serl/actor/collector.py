"""The actor process's main loop: connect, act, send, until the learner has finished."""

import logging
from collections import deque
from dataclasses import dataclass, replace

import torch
from lerobot.envs import EnvConfig

from ..replay.recording import Recording
from .client import LearnerClient, LearnerRefused, describe
from .received_policy import ReceivedPolicy
from .session import Session
from .world import EnvWorld, World

RECENT_EPISODES = 50


@dataclass(frozen=True)
class CollectorSettings:
    """Settings of an actor process; meanings as the flags of ``lerobot-serl-actor``."""

    learner: str
    n_episodes: int | None
    seed: int
    name: str
    reward: str
    device: str
    patience_s: float


def collect(env: EnvConfig, settings: CollectorSettings) -> int:
    """Run episodes until the learner has finished, ``n_episodes`` are done, or Ctrl-C; returns their number.

    Raises:
        ConnectionError: no learner.
        RuntimeError: the learner refused.
        ValueError: the environment does not fit the policy.
    """
    torch.set_num_threads(1)  # acting on one observation at a time gains nothing from more, and the learner needs the cores
    client = LearnerClient(settings.learner, settings.patience_s)
    world: World | None = None
    try:
        header, tensors = client.connect()
        policy = ReceivedPolicy(header, tensors, settings.device, settings.seed)
        logging.info(f"Connected to the learner at {settings.learner}: {describe(header)}, {policy.config.horizon} steps a chunk.")
        world = EnvWorld(env, policy.inputs, policy.action_dim, settings.seed, settings.reward)
        return _episodes(client, policy, world, settings)
    except KeyboardInterrupt:
        logging.info("Interrupted; the unfinished episode is dropped.")
        return 0
    finally:
        client.close()
        if world is not None:
            world.close()


def _episodes(client: LearnerClient, policy: ReceivedPolicy, world: World, settings: CollectorSettings) -> int:
    def refresh() -> None:
        newer = client.newer_weights()
        if newer is not None:
            policy.load(*newer)

    session = Session(world, policy.act, refresh)
    recent: deque[bool] = deque(maxlen=RECENT_EPISODES)
    done = 0
    while not client.finished.is_set() and done != settings.n_episodes:
        recording = session.run_episode()
        if len(recording) == 1 and not recording.terminated:
            continue  # holds no transition
        try:
            client.send(_signed(recording, policy, settings.name), wait_for_learner=world.simulated)
        except (LearnerRefused, ConnectionError):
            if client.finished.wait(2.0):
                break
            raise
        done += 1
        recent.append(recording.success)
        outcome = "success" if recording.success else "time limit" if recording.truncated else "failure"
        logging.info(
            f"Episode {done}: {outcome} after {len(recording)} steps; last {len(recent)}: {100 * sum(recent) / len(recent):.0f} % success; "
            f"phase {policy.phase}, weights {policy.version}"
        )
    return done


def _signed(recording: Recording, policy: ReceivedPolicy, name: str) -> Recording:
    return replace(recording, info={**recording.info, "actor": name, "policy_version": policy.version})
