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
from .spool import OnlineDataset
from .world import Observation

LEARNING_PHASE = "actor"
MOST_CHARACTERS = 600


class ReceivedPolicy:
    """Acts and explores with the newest weights.

    Args:
        header: of the learner's policy message.
        tensors: of the same message.
        device: to run on.
        seed: of the exploration.

    Attributes:
        dataset: that the episodes it collects are for.

    Raises:
        MessageError: the message does not make a policy.
    """

    def __init__(self, header: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str, seed: int) -> None:
        self.config, self.fps, self.facts = _settings(header, device)
        self._agent = EditAgent(self.config).to(device)
        if self.facts is not None and len(self.facts.action_low) != self.action_dim:
            raise MessageError(f"the learner's facts have {len(self.facts.action_low)} action entries, its policy {self.action_dim}")
        self._agent.requires_grad_(False)
        needed = {name for name in self._agent.state_dict() if not name.startswith(("critic_target.", "raw_temperature"))}
        if missing := sorted(needed - tensors.keys()):
            raise MessageError(f"the learner's policy lacks {missing[:5]}")
        self.dataset = OnlineDataset.of(header)
        self.version, self.phase = 0, ""
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

    def replace(self, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take over the policy of a learner that was started anew.

        Raises:
            MessageError: it acts on other observations, at another rate, or otherwise in a way that this process was not set up for.
        """
        here, there = _setup(self.config, self.fps, self.facts), _setup(*_settings(header, self._device))
        if differences := [f"{name} was {here[name]}, is {there[name]}" for name in here if here[name] != there[name]]:
            raise MessageError(
                f"The learner was started again with another policy: {_shorten('; '.join(differences))}. Start this actor process again too."
            )
        other = ReceivedPolicy(header, tensors, self._device, seed=0)
        self.config, self._agent, self.dataset = other.config, other._agent, other.dataset
        self.version, self.phase = other.version, other.phase

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
        return explore(self._agent, observation, self.phase == LEARNING_PHASE, self._generator)


def explore(agent: EditAgent, observation: Observation, learning: bool, generator: torch.Generator) -> Chunk:
    """What the collecting policy does on one observation (no batch dimension); see :meth:`EditAgent.explore`."""
    device = agent.box.middle.device
    features, base = agent.observe(policy_input({key: value.unsqueeze(0).to(device) for key, value in observation.items()}))
    proposal = agent.explore(features, base, learning, generator)
    edit_rms = (proposal.chunk - base).square().mean().sqrt().item()
    actions = agent.box.unnormalize(proposal.chunk)[0].cpu().numpy()
    return Chunk(actions, int(proposal.choice[0]), edit_rms)


def _settings(header: Mapping[str, Any], device: str) -> tuple[SerlSacConfig, int, DemonstrationFacts | None]:
    """The policy's configuration, control rate, and facts of the demonstrations."""
    settings = dict(header["config"])
    if settings.pop("type", None) != "serl_sac":
        raise MessageError(f"the learner sent a policy of type {header['config'].get('type')!r}, expected 'serl_sac'")
    facts = header.get("demonstrations")
    return draccus.decode(SerlSacConfig, {**settings, "device": device}), int(header["fps"]), None if facts is None else _facts(facts)


def _setup(config: SerlSacConfig, fps: int, facts: DemonstrationFacts | None) -> dict[str, Any]:
    """What world, session and limits are built for."""
    return {
        "the control rate": fps,
        "horizon": config.horizon,
        "the observation's features": {key: tuple(feature.shape) for key, feature in (config.input_features or {}).items()},
        "the action's features": {key: tuple(feature.shape) for key, feature in (config.output_features or {}).items()},
        "ACT's architecture": config.act,
        "what the demonstrations say about the robot": facts,
    }


def _shorten(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."


def _facts(document: Any) -> DemonstrationFacts:
    try:
        return facts_from_json(document)
    except (ValueError, TypeError) as error:
        raise MessageError(f"the learner's message: {error}") from error
