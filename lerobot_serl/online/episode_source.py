"""Where a learner's episodes come from."""

from typing import Protocol

from lerobot.datasets import LeRobotDataset

from ..replay.episode import Episode


class EpisodeSource(Protocol):
    """Actor processes in the network (`collection.Collection`), or a world in this very process (the benchmarks)."""

    def existing(self) -> LeRobotDataset | None:
        """Episodes of earlier runs."""

    def start(self, frames: int, episodes: int, resumed: bool) -> None:
        """Begin; from now on episodes may come. Arguments as :meth:`collection.Collection.start`."""

    def arrived(self, wait_s: float) -> Episode | None:
        """The next episode; with ``wait_s`` > 0 the learner can not go on without one."""

    def ingested(self) -> None:
        """An episode entered the replay memory."""

    def after_update(self) -> None:
        """An update was made."""

    def publish(self) -> None:
        """The weights were replaced."""

    def remind(self) -> None:
        """The learner still waits."""
