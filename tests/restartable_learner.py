"""A learner's server around a small policy: in this process, or as one that can be killed and started again."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature
from small_data import FPS
from small_policy import small_config
from small_robots import KEYS
from so101_bus import SO101_KEYS

from lerobot_serl.online.arriving_parts import ArrivingParts
from lerobot_serl.online.limits import ServerLimits
from lerobot_serl.online.server import EpisodeReceipt, LearnerServer
from lerobot_serl.online.weights import WeightPublisher
from lerobot_serl.policy.agent import Agent
from lerobot_serl.replay.demonstration_stats import DemonstrationStats
from lerobot_serl.replay.episode_message import decode_episode
from lerobot_serl.replay.journal import EpisodeJournal


def robot_policy(size: int) -> dict[str, Any]:
    """The policy of a robot with so many joints. That of small_policy.py is enough where nobody acts."""
    return {
        "input_features": {
            "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(size,)),
            "observation.images.front": PolicyFeature(type=FeatureType.VISUAL, shape=(3, 6, 5)),
        },
        "output_features": {"action": PolicyFeature(type=FeatureType.ACTION, shape=(size,))},
    }


def demo_stats(keys: tuple[str, ...]) -> DemonstrationStats:
    """What its demonstrations say."""
    size = len(keys)
    return DemonstrationStats(
        action_names=keys, state_names=keys, action_low=(-1.0,) * size, action_high=(1.0,) * size, action_step=(None,) * size,
        start=(None,) * size, median_length=5, longest=6,
    )  # fmt: skip


ROBOT, DEMO_STATS = robot_policy(len(KEYS)), demo_stats(KEYS)
# Keys of the robots of small_robots.py and so101_bus.py.
ARMS = {"two_arms": KEYS, "so101": SO101_KEYS}


LIMITS = ServerLimits(session_s=0.5)  # after which a killed process's name is free


class RestartableLearner:
    """Keeps the UUID of every episode in ``directory``, each once and before its acknowledgement, as the learner does.

    While ``directory/hold`` exists, episodes wait in front of the disk. ``failures`` are raised, one for each call, instead of keeping.
    Acknowledgements name ``acknowledged(uuid)``.
    """

    def __init__(self, directory: Path, port: int = 0, dataset: str = "one", **changes):
        self.directory, self.failures, self.calls, self._keeping = directory, [], [], threading.Lock()
        self.acknowledged, self.parts = str, ArrivingParts(EpisodeJournal(directory / "parts"), 1000)
        directory.mkdir(parents=True, exist_ok=True)
        self.config = small_config(**changes)
        self.agent = Agent(self.config)
        ones = torch.ones(self.agent.action_dim)
        self.agent.box.set_from_range(-ones, ones, 0.2, 0.02)
        keys = next((keys for keys in ARMS.values() if len(keys) == self.agent.action_dim), None)
        known = demo_stats(keys) if keys and changes.get("output_features") else None
        self.publisher = WeightPublisher(self.agent, self.config, FPS, (f"test/{dataset}", dataset), demo_stats=known)
        self.publisher.publish("collect", 0, 0)
        self.server = LearnerServer("127.0.0.1", port, self.publisher, self._receive, lambda: None, limits=LIMITS)
        self.server.start()
        self.port = int(self.server.address.rpartition(":")[2])

    def _receive(self, data):
        if (receipt := self.parts.take(data, self.config.input_features)) is not None:
            return receipt
        uuid, recording = decode_episode(data, self.config.input_features, self.agent.action_dim, self.parts.find)
        self.calls.append(uuid)
        (self.directory / "came").write_text(uuid)
        while (self.directory / "hold").exists():
            time.sleep(0.01)
        if self.failures:
            raise self.failures.pop(0)
        with self._keeping:
            is_new = uuid not in uuids(self.directory)
            if is_new:
                with (self.directory / "received").open("a") as handle:
                    handle.write(f"{uuid}\n")
                    handle.flush()
                    os.fsync(handle.fileno())
        if is_new:
            self.server.progressed(False)  # there is no training thread that could lag behind
        return EpisodeReceipt(self.acknowledged(uuid), len(recording), is_new)


def uuids(directory: Path) -> list[str]:
    """What a learner with this directory has, in the order in which it came."""
    file = directory / "received"
    return file.read_text().split() if file.exists() else []


def serve(directory: str, port: int, dataset: str, horizon: int, arm: str = "two_arms") -> None:
    """Until it is killed."""
    learner = RestartableLearner(Path(directory), port, dataset, horizon=horizon, **robot_policy(len(ARMS[arm])))
    said = learner.directory / "port"
    said.with_suffix(".new").write_text(str(learner.port))
    said.with_suffix(".new").replace(said)
    threading.Event().wait()
