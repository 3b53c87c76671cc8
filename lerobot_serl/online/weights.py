"""What actor processes receive: the whole policy once, then the trainable tensors, newest only."""

import threading
import uuid
from dataclasses import dataclass
from typing import Any

import draccus
from lerobot.configs import PreTrainedConfig
from torch import Tensor

from ..policy.agent import Agent
from ..policy.configuration_serl_sac import SerlSacConfig
from ..replay.demonstration_stats import DemonstrationStats
from ..transport import POLICY, WEIGHTS, encode


@dataclass(frozen=True)
class Snapshot:
    """One published state: ``version`` counts up from 1; ``header`` and ``tensors`` make the message."""

    version: int
    header: dict[str, Any]
    tensors: dict[str, Tensor]


class WeightPublisher:
    """Holds the newest weights; server threads wait here for a version newer than theirs.

    Args:
        agent: the networks.
        config: sent along, so that the robot side needs no configuration of its own.
        fps: control rate of the demonstrations.
        dataset: name and identifier of the online dataset; an actor process that was away keeps episodes for the one it collected for.
        most_frames: of an episode that is accepted; None: those that the replay memory holds.
        demo_stats: of the demonstrations; sent with the whole policy.
    """

    def __init__(
        self,
        agent: Agent,
        config: SerlSacConfig,
        fps: int,
        dataset: tuple[str, str] = ("", ""),
        most_frames: int | None = None,
        demo_stats: DemonstrationStats | None = None,
    ) -> None:
        self._agent = agent
        self._config = config
        self._fps = fps
        self._dataset = dataset
        self._demo_stats = demo_stats
        self._most_frames = config.buffer_capacity if most_frames is None else most_frames
        self._changed = threading.Condition()
        self._newest: Snapshot | None = None
        self.run = uuid.uuid4().hex

    @property
    def phase(self) -> str | None:
        """Phase of the newest snapshot."""
        return self._newest.header["phase"] if self._newest else None

    def publish(self, phase: str, updates: int, env_steps: int) -> None:
        """Copy the trained tensors out of the networks and wake who waits."""
        tensors = {name: value.detach().cpu().clone() for name, value in self._agent.networks.published().items()}
        with self._changed:
            version = 1 if self._newest is None else self._newest.version + 1
            header = {"run": self.run, "version": version, "phase": phase, "updates": updates, "env_steps": env_steps}
            self._newest = Snapshot(version, header, tensors)
            self._changed.notify_all()

    def wait_for_newer(self, version: int, timeout_s: float) -> Snapshot | None:
        """The newest snapshot if it is newer than ``version``; waits up to ``timeout_s``."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None and self._newest.version > version, timeout_s)
            return self._newest if self._newest is not None and self._newest.version > version else None

    def message(self, snapshot: Snapshot, whole_policy: bool) -> bytes:
        """The bytes of a snapshot; with ``whole_policy`` everything an actor process needs to act."""
        if not whole_policy:
            return encode({"kind": WEIGHTS, **snapshot.header}, snapshot.tensors)
        everything = self._agent.networks.on_robot()
        header = {
            "kind": POLICY,
            **snapshot.header,
            "fps": self._fps,
            "most_frames": self._most_frames,
            "dataset": {"repo_id": self._dataset[0], "id": self._dataset[1]},
            "demonstrations": None if self._demo_stats is None else self._demo_stats.to_json(),
            "config": draccus.encode(self._config, PreTrainedConfig),
        }
        return encode(header, {**everything, **snapshot.tensors})
