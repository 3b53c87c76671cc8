"""The policy on the robot side: built from what the learner sends, nothing else."""

from collections.abc import Mapping
from typing import Any

import draccus
import torch
from lerobot.configs import PolicyFeature
from torch import Tensor

from ..policy.agent import EditAgent
from ..policy.configuration_serl_sac import SerlSacConfig
from ..replay.facts import DemonstrationFacts, facts_from_json
from ..replay.recording import policy_input
from ..transport import MessageError
from .session import Chunk
from .world import Observation

LEARNING_PHASE = "actor"


class ReceivedPolicy:
    """Acts and explores with the newest weights.

    Args:
        header: of the learner's policy message.
        tensors: of the same message.
        device: to run on.
        seed: of the exploration.

    Raises:
        MessageError: the message does not make a policy.
    """

    def __init__(self, header: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str, seed: int) -> None:
        settings = dict(header["config"])
        if settings.pop("type", None) != "serl_sac":
            raise MessageError(f"the learner sent a policy of type {header['config'].get('type')!r}, expected 'serl_sac'")
        self.config: SerlSacConfig = draccus.decode(SerlSacConfig, {**settings, "device": device})
        self.fps = int(header["fps"])
        self.facts = None if header.get("demonstrations") is None else _facts(header["demonstrations"])
        self._agent = EditAgent(self.config).to(device)
        if self.facts is not None and len(self.facts.action_low) != self.action_dim:
            raise MessageError(f"the learner's facts have {len(self.facts.action_low)} action entries, its policy {self.action_dim}")
        self._agent.requires_grad_(False)
        needed = {name for name in self._agent.state_dict() if not name.startswith(("critic_target.", "raw_temperature"))}
        if missing := sorted(needed - tensors.keys()):
            raise MessageError(f"the learner's policy lacks {missing[:5]}")
        self._device = device
        self._generator = torch.Generator().manual_seed(seed)
        self.load(header, tensors)

    @property
    def inputs(self) -> dict[str, PolicyFeature]:
        """Features that the policy needs of an observation."""
        return dict(self.config.input_features or {})

    @property
    def action_dim(self) -> int:
        """``D``."""
        return self._agent.action_dim

    def load(self, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take over newer weights.

        Raises:
            MessageError: a tensor of another shape, or an unknown one.
        """
        try:
            unexpected = self._agent.load_state_dict(dict(tensors), strict=False).unexpected_keys
        except RuntimeError as error:
            raise MessageError(f"weights do not fit the policy: {error}") from error
        if unexpected:
            raise MessageError(f"unknown weights {unexpected[:5]}")
        self.version, self.phase = int(header["version"]), str(header["phase"])

    def act(self, observation: Observation) -> Chunk:
        """The collecting policy's chunk for one observation (no batch dimension)."""
        batch = {key: value.unsqueeze(0).to(self._device) for key, value in observation.items()}
        features, base = self._agent.annotate(policy_input(batch))
        proposal = self._agent.explore(features, base, self.phase == LEARNING_PHASE, self._generator)
        edit_rms = (proposal.chunk - base).square().mean().sqrt().item()
        actions = self._agent.box.unnormalize(proposal.chunk)[0].cpu().numpy()
        return Chunk(actions, int(proposal.choice[0]), edit_rms)


def _facts(document: Any) -> DemonstrationFacts:
    try:
        return facts_from_json(document)
    except (ValueError, TypeError) as error:
        raise MessageError(f"the learner's message: {error}") from error
