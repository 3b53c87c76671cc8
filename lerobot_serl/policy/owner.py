"""ACT as its owner runs it: LeRobot's policy class, loaded by LeRobot, between the processors that were saved with it."""

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from torch import Tensor

from ..checkpoint.files import CONFIG
from ..checkpoint.processor_files import DEVICE
from .act_checkpoint import ActCheckpoint

_NAMES_DIFFER = ("Missing key(s)", "Unexpected key(s)")


class Owner:
    """Only for checkpoints that :func:`.load_act_checkpoint` has read: LeRobot's loader runs what their files name.

    Args:
        checkpoint: where ACT is.
        device: to run on.
        overrides: flags of ACT's configuration, such as ``--n_action_steps=1``.

    Attributes:
        policy: LeRobot's.
        inputs: features that it needs, by the robot's names.

    Raises:
        ValueError, OSError, RuntimeError: LeRobot does not load it.
    """

    def __init__(self, checkpoint: ActCheckpoint, device: str, overrides: Sequence[str] = ()) -> None:
        place = str(checkpoint.files.require(CONFIG).parent)  # of the Hub's files those that were looked at, in its cache
        with _quietly():
            config = PreTrainedConfig.from_pretrained(place, cli_overrides=[f"--device={device}", *overrides])
            if type(config) is not ACTConfig:
                raise ValueError(f"LeRobot reads {place} as {type(config).__name__}")
            config.pretrained_backbone_weights = None  # the checkpoint has the backbone's weights
            self.policy = ACTPolicy.from_pretrained(place, config=config).eval()
            # LeRobot leaves random what it does not find under its own names.
            if other := [name for name, tensor in self.policy.state_dict().items() if not _same(tensor, checkpoint.weights.get(name))]:
                raise ValueError(f"it finds no tensors for {len(other)} of its own, the first of them {other[0]}")
            here = {DEVICE: {"device": device}}
            self.before, self.after = make_pre_post_processors(
                config,
                pretrained_path=place,
                preprocessor_overrides=here if DEVICE in checkpoint.processors.before else {},
                postprocessor_overrides={DEVICE: {"device": "cpu"}} if DEVICE in checkpoint.processors.after else {},
            )

        self._names = {inner: outer for outer, inner in checkpoint.processors.renames.items()}
        self.inputs = {self._names.get(key, key): feature for key, feature in (config.input_features or {}).items()}

    def prepared(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the network gets of raw inputs ``(B, ...)`` by ACT's or the robot's names for them."""
        prepared: dict[str, Tensor] = self.before({self._names.get(key, key): value for key, value in inputs.items()})
        return prepared

    @torch.no_grad()
    def plan(self, inputs: Mapping[str, Tensor], steps: int) -> Tensor:
        """The raw actions ``(B, steps, D)`` that ACT plans, on the CPU."""
        planned: Tensor = self.after(self.policy.predict_action_chunk(self.prepared(inputs))[:, :steps])
        return planned.float().cpu()

    @torch.no_grad()
    def next_actions(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The raw actions ``(n, D)`` that its owner carries out before ACT looks again, on the CPU: one of them with temporal ensembling."""
        if self.policy.config.temporal_ensemble_coeff is None:
            return self.plan(inputs, self.policy.config.n_action_steps)[0]
        action: Tensor = self.after(self.policy.select_action(self.prepared(inputs)))
        return action.float().cpu()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """LeRobot prints that it loads, and lists all tensors that it does not find; :class:`Owner` says in one line what comes of it."""
    root = logging.getLogger()
    root.addFilter(_is_news)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_NAMES_DIFFER)


def _same(theirs: Tensor, ours: Tensor | None) -> bool:
    return ours is not None and torch.equal(theirs.cpu(), ours.to(theirs.dtype))
