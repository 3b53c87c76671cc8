"""`lerobot-serl-actor --learner=HOST:PORT --env.type=...`: collect episodes with the learner's newest policy."""

import logging
import sys
from dataclasses import dataclass

from lerobot.configs import parser
from lerobot.envs import EnvConfig
from lerobot.utils.import_utils import register_third_party_plugins
from lerobot.utils.utils import init_logging

import lerobot_serl  # noqa: F401
from lerobot_serl.actor.collector import CollectorSettings, collect
from lerobot_serl.transport import MessageError


@dataclass
class ActorProcessConfig:
    """Flags of `lerobot-serl-actor`. Everything else (policy, processors, weights) comes from the learner.

    Attributes:
        learner: where the learner listens, HOST:PORT.
        env: LeRobot environment to act in.
        n_episodes: stop after so many episodes; empty: until the learner has finished.
        seed: of the first episode and of the exploration; every further episode adds one to the environment's seed.
        name: of this actor process, in the metrics.
        reward: "success", 1 at success and 0 elsewhere; "environment", the environment's own reward.
        device: to run the policy on.
        patience_s: how long to try to reach the learner before giving up, in seconds.
    """

    learner: str
    env: EnvConfig
    n_episodes: int | None = None
    seed: int = 1_000_000
    name: str = "actor"
    reward: str = "success"
    device: str = "cpu"
    patience_s: float = 60.0


@parser.wrap()
def run(config: ActorProcessConfig) -> int:
    """Collect until the learner has finished; the exit code."""
    init_logging()
    settings = CollectorSettings(
        config.learner, config.n_episodes, config.seed, config.name, config.reward, config.device, config.patience_s
    )
    try:
        episodes = collect(config.env, settings)
    except (ConnectionError, RuntimeError, MessageError, ValueError) as error:
        logging.error(error)
        return 1
    logging.info(f"Stopped after {episodes} episodes.")
    return 0


def main() -> None:
    """Entry point."""
    register_third_party_plugins()
    sys.exit(run())


if __name__ == "__main__":
    main()
