"""What an agent needs to learn, and not to act: optimizers, counters, the random generator; kept in a file of a checkpoint's own."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .checkpoint_files import LEARNER_STATE, MODEL, STATE
from .network_optimizers import NetworkOptimizers
from .network_table import NetworkTable
from .progress import Progress

_GENERATOR = "generator"
_OPTIMIZER = "optimizer."


class Learning:
    """The state of learning.

    Args:
        table: of the agent's networks.
        progress: counters.
        seed: of the generator, which lives on the networks' device.
        device: of the networks.

    Attributes:
        known_steps: recorded steps that the memory holds; they weigh against the critics' prior.
        takeovers: of the robot's episodes in the memory.
        measures: an update tells more than its losses.
    """

    def __init__(self, table: NetworkTable, progress: Progress, seed: int, device: torch.device) -> None:
        self.optimizers, self.progress = NetworkOptimizers(table), progress
        self.generator = torch.Generator(device).manual_seed(seed)
        self.known_steps = self.takeovers = 0
        self.measures = True

    def save(self, checkpoint: Path) -> None:
        """Write the state into a checkpoint, beside LeRobot's own training state."""
        (checkpoint / STATE).mkdir(parents=True, exist_ok=True)
        tensors = {f"{_OPTIMIZER}{name}": value.detach().cpu() for name, value in self.optimizers.state_dict().items()}
        metadata = {"counters": json.dumps(self.progress.counters())}
        save_file({**tensors, _GENERATOR: self.generator.get_state()}, checkpoint / STATE / LEARNER_STATE, metadata=metadata)

    def load(self, checkpoint: Path) -> None:
        """Go on where a checkpoint stopped.

        Raises:
            ValueError: the file is damaged, or of other networks.
        """
        path = checkpoint / STATE / LEARNER_STATE
        model = checkpoint / MODEL
        try:
            with safe_open(path, framework="pt") as file:
                counters = _counters(json.loads(file.metadata()["counters"]), self.progress)
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
            self.generator.set_state(tensors.pop(_GENERATOR))
            self.optimizers.load_state_dict({name.removeprefix(_OPTIMIZER): value for name, value in tensors.items()})
            self.progress.restore(counters)
        except (ValueError, KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
            raise ValueError(
                f"{path} cannot be read ({error}). Resume from another checkpoint, or begin a new run from the weights: --policy.path={model}."
            ) from error


def _counters(said: Any, progress: Progress) -> dict[str, int]:
    """Counters of a file; those that it does not have, being of an earlier release, are 0."""
    if not isinstance(said, dict) or not all(type(value) is int for value in said.values()):
        raise ValueError("its counters are no whole numbers")
    known = dict.fromkeys(progress.counters(), 0)
    return {name: said.get(name, 0) for name in known}
