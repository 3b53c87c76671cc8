"""The policy on the robot side: built from what the learner sends, nothing else, and from none of that before it has been looked at."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import draccus
import torch
from lerobot.configs import PolicyFeature
from torch import Tensor

from ..base.lerobot import LerobotBase
from ..base.rehearsal import require_plans
from ..policy.agent import Agent
from ..policy.base_settings import ACT
from ..policy.configuration_serl_sac import SerlSacConfig
from ..replay.demonstration_stats import DemonstrationStats, stats_from_json
from ..transport import MessageError, Phase
from ..words import printable
from .outbox import OnlineDataset
from .planning import Planning
from .policy_message import MOST_NAMED, WeightsHeader, check_tensors, claims_of, shown, whole_number
from .practice_policy import PracticePolicy

MOST_CHARACTERS = 600
FASTEST_FPS = 1000
# Of a policy, beside twice what came of it: numbers that do not travel.
SPARE_BYTES = 64 * 1024 * 1024
# Settings that name files and other places, or would be looked up there, are the learner's own; what is ours stays here.
NOT_HERE: dict[str, Any] = {
    "act_path": None, "base_path": None, "act_source": None, "metrics_dir": None, "online": {}, "pretrained_path": None, "pretrained_revision": None,
    "push_to_hub": False, "repo_id": None, "tags": None, "license": None,
}  # fmt: skip


class ReceivedPolicy:
    """Practises with the newest weights.

    Args:
        header: of the learner's policy message.
        tensors: of the same message.
        device: to run on.
        seed: of the exploration.

    Attributes:
        dataset: that the episodes it collects are for.
        most_frames: of an episode that the learner takes.
        practice: what a rollout asks for chunks.

    Raises:
        MessageError: the message does not make a policy. Until that is known no memory is taken beyond the message's own.
    """

    def __init__(self, header: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str, seed: int) -> None:
        said = WeightsHeader.of(header)
        self.version = said.version
        self.phase = said.phase
        self.dataset = OnlineDataset.of(header)
        self.config, self.fps, self.demo_stats = _settings(header, device)
        # Learners of earlier releases do not say.
        self.most_frames = whole_number(header, "most_frames", 1) if "most_frames" in header else self.config.buffer_capacity
        sketch = _sketch(self.config, sum(tensor.nbytes for tensor in tensors.values()))
        self._expected, self._newer = claims_of(sketch.networks.on_robot()), sketch.networks.published().keys()
        check_tensors(tensors, self._expected, whole=True)
        _rehearse(sketch)
        self._agent = Agent(self.config).to(device).requires_grad_(False)
        self._device = device
        self.practice = PracticePolicy(self._agent, torch.Generator().manual_seed(seed))
        self.load(header, tensors)
        if isinstance(self._agent.act, LerobotBase):
            try:
                require_plans(self._agent.act)
            except ValueError as error:
                raise MessageError(f"the learner's base policy {_one_line(error)}") from error

    def plan_with(self, planning: Planning, simulated: bool) -> None:
        """Say where plans are made, before the first episode.

        Raises:
            ValueError: the flags do not fit.
        """
        self.practice.plan_with(planning, self.fps, simulated)

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
        here, there = _setup(self.config, self.fps, self.demo_stats), _setup(*_settings(header, self._device))
        if differences := [f"{name} was {here[name]}, is {there[name]}" for name in here if here[name] != there[name]]:
            raise MessageError(
                f"The learner was started again with another policy: {_shorten('; '.join(differences))}. Start this actor process again too."
            )
        other = ReceivedPolicy(header, tensors, self._device, seed=0)
        self.config = other.config
        self._agent = other._agent
        self.dataset = other.dataset
        self._expected, self._newer = other._expected, other._newer
        self.version, self.phase = other.version, other.phase
        self.practice.agent = other._agent

    def load(self, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take over newer weights, all of the message or nothing.

        Raises:
            MessageError: an unknown tensor, one of another shape or dtype, or numbers that are not finite; or a network is missing.
        """
        said = WeightsHeader.of(header)
        check_tensors(tensors, self._expected, whole=False)
        if missing := self._newer - tensors.keys():
            networks = sorted({self._agent.networks.name_of(name) for name in missing})
            raise MessageError(f"the learner's weights lack {', '.join(networks)} ({', '.join(sorted(missing)[:MOST_NAMED])})")
        self._agent.load_state_dict(dict(tensors), strict=False)
        self.version, self.phase = said.version, said.phase

    def begin_episode(self) -> None:
        """Decide what the next episode of practice is."""
        self.practice.begin_episode(learning=self.phase is Phase.ACTOR)


def _settings(header: Mapping[str, Any], device: str) -> tuple[SerlSacConfig, int, DemonstrationStats | None]:
    """The policy's configuration, control rate, and statistics of the demonstrations, as far as they can be told without its tensors."""
    config = _config(header.get("config"), device)
    demo_stats = None if header.get("demonstrations") is None else _demo_stats(header["demonstrations"])
    actions = config.action_feature.shape[0] if config.action_feature is not None else 0
    if demo_stats is not None and len(demo_stats.action_low) != actions:
        raise MessageError(
            f"the learner's statistics of the demonstrations have {len(demo_stats.action_low)} action entries, its policy {actions}"
        )
    return config, whole_number(header, "fps", 1, FASTEST_FPS), demo_stats


def _config(said: Any, device: str) -> SerlSacConfig:
    """The learner's configuration, with what is ours."""
    if not isinstance(said, Mapping) or said.get("type") != "serl_sac":
        sent = f"of type {shown(said.get('type'))}" if isinstance(said, Mapping) else f"whose configuration is {shown(said)}"
        raise MessageError(f"the learner sent a policy {sent}, expected 'serl_sac'")
    settings = {**{key: value for key, value in said.items() if key != "type"}, **NOT_HERE, "device": device}
    settings.setdefault("base", ACT)  # learners of earlier releases do not say
    try:
        config = draccus.decode(SerlSacConfig, settings)
        config.validate_features()
    except Exception as error:  # of whatever kind: draccus was not made for what comes from a network
        raise MessageError(f"the learner's configuration: {_one_line(error)}") from error
    return config


def _sketch(config: SerlSacConfig, came_bytes: int) -> Agent:
    """The policy's networks without memory, on PyTorch's meta device, where every tensor has a shape and no numbers.

    Raises:
        MessageError: they cannot be built, or would need far more memory than came.
    """
    try:
        with torch.device("meta"):
            agent = Agent(config)
    except Exception as error:  # of whatever kind: LeRobot's and PyTorch's, of sizes that do not fit
        raise MessageError(f"the learner's policy cannot be built: {_one_line(error)}") from error
    needed_bytes = sum(tensor.nbytes for tensor in (*agent.parameters(), *agent.buffers()))
    if needed_bytes > 2 * came_bytes + SPARE_BYTES:
        raise MessageError(f"the learner's policy would take {needed_bytes / 1e6:.0f} MB, of which it sent {came_bytes / 1e6:.0f} MB")
    return agent


def _rehearse(sketch: Agent) -> None:
    """Look at an observation, without numbers: what does not fit each other shows here, and not in front of a robot.

    Raises:
        MessageError: these networks cannot act.
    """
    try:
        with torch.device("meta"):
            frames = () if sketch.act.n_obs_steps == 1 else (sketch.act.n_obs_steps,)
            observation = {key: torch.empty(1, *frames, *feature.shape) for key, feature in (sketch.config.input_features or {}).items()}
            features, base = sketch.encode(observation)
            sketch.critic(features, sketch.actor.along_chunk(sketch.actor(features, base)[0]))
    except Exception as error:  # as above
        raise MessageError(f"the learner's policy cannot act: {_one_line(error)}") from error


def _setup(config: SerlSacConfig, fps: int, demo_stats: DemonstrationStats | None) -> dict[str, Any]:
    """What world, rollout and limits are built for."""
    return {
        "the control rate": fps,
        "horizon": config.horizon,
        "n_action_steps": config.n_action_steps,
        "temporal_ensemble_coeff": config.temporal_ensemble_coeff,
        "the observation's features": {key: tuple(feature.shape) for key, feature in (config.input_features or {}).items()},
        "the action's features": {key: tuple(feature.shape) for key, feature in (config.output_features or {}).items()},
        "ACT's architecture": config.act,
        "the base policy": (config.base, config.lerobot),
        "what the demonstrations say about the robot": demo_stats,
    }


def _shorten(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."


def _one_line(error: Exception) -> str:
    return _shorten(f"{type(error).__name__}: {' '.join(str(error).split())}")


def _demo_stats(document: Any) -> DemonstrationStats:
    try:
        demo_stats = stats_from_json(document)
    except (ValueError, TypeError) as error:
        raise MessageError(f"the learner's message: {error}") from error
    names = [tuple(map(printable, given)) for given in (demo_stats.action_names, demo_stats.state_names)]
    if any(len(set(given)) != len(given) for given in names):
        raise MessageError(f"the learner's statistics of the demonstrations name two entries alike: {shown(names)}")
    return replace(demo_stats, action_names=names[0], state_names=names[1])
