"""The table of networks: what learns, how fast, what the robot needs, and what a rollback restores. One line for each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


class LearningSettings(Protocol):
    """What a group of settings says of a network that learns."""

    @property
    def lr(self) -> float:
        """Learning rate."""

    @property
    def weight_decay(self) -> float:
        """Decoupled, as in AdamW."""

    @property
    def grad_clip_norm(self) -> float:
        """Largest gradient norm; 0: any."""


@dataclass(frozen=True)
class Network:
    """One line of the table.

    Attributes:
        parts: the agent's attributes, modules or tensors, that learn together under one gradient limit; their names begin those of the
            tensors.
        settings: learning rate, weight decay and gradient limit; None for what no loss moves.
        on_robot: acting needs it, so that newer weights are sent to the robot.
        restored: a rollback sets it back.
    """

    parts: tuple[str, ...]
    settings: LearningSettings | None = None
    on_robot: bool = True
    restored: bool = True


class NetworkTable:
    """Lines by name, over the tensors of one agent. What is in no line never changes; the robot gets it once.

    Args:
        agent: whose tensors they are.
        networks: name -> line.
    """

    def __init__(self, agent: nn.Module, networks: Mapping[str, Network]) -> None:
        self._agent, self._networks = agent, dict(networks)

    @property
    def learning(self) -> dict[str, LearningSettings]:
        """Name -> settings of the networks that learn."""
        return {name: network.settings for name, network in self._networks.items() if network.settings is not None}

    def parameters(self, name: str) -> list[nn.Parameter]:
        """Of one network, in a fixed order."""
        found = []
        for part in self._networks[name].parts:
            value = getattr(self._agent, part)
            found += [value] if isinstance(value, nn.Parameter) else list(value.parameters())
        return found

    def published(self) -> dict[str, Tensor]:
        """What newer weights for the robot consist of."""
        return dict(self._tensors(network for network in self._networks.values() if network.on_robot))

    def restored(self) -> dict[str, Tensor]:
        """What a copy of the weights consists of, to which learning may go back."""
        return dict(self._tensors(network for network in self._networks.values() if network.restored))

    def on_robot(self) -> dict[str, Tensor]:
        """All that acting needs, also what never changes."""
        learner_only = dict(self._tensors(network for network in self._networks.values() if not network.on_robot))
        return {name: tensor for name, tensor in self._agent.state_dict().items() if name not in learner_only}

    def name_of(self, tensor: str) -> str:
        """The network that a tensor belongs to; ``fixed`` for what never changes."""
        return next((name for name, network in self._networks.items() if _is_of(tensor, network)), "fixed")

    def _tensors(self, networks: Iterator[Network]) -> Iterator[tuple[str, Tensor]]:
        wanted = list(networks)
        for name, tensor in self._agent.state_dict().items():
            if any(_is_of(name, network) for network in wanted):
                yield name, tensor


def _is_of(tensor: str, network: Network) -> bool:
    return tensor.partition(".")[0] in network.parts
