"""A checkpoint as it is deployed: ``serl_sac``, or ACT as its owner runs it."""

from collections.abc import Mapping
from typing import Protocol

from lerobot.configs import PolicyFeature, PreTrainedConfig

from ..checkpoint.files import CONFIG, CheckpointFiles
from ..checkpoint.oldest_config import is_oldest
from ..policy.act_checkpoint import find_checkpoint, load_act_checkpoint
from ..policy.configuration_serl_sac import SerlSacConfig
from ..policy.modeling_serl_sac import SerlSacPolicy
from ..policy.owner import Owner
from ..policy.proposal import BASE
from ..replay.episode import ActedAs, policy_input
from .chunk import Chunk
from .planned_policy import PlannedPolicy, planned
from .planning import Planning
from .settings import DeployedPolicyConfig
from .world import Observation

FLAG = "policy.path"


class DeployedPolicy(Protocol):
    """What a rollout asks for chunks.

    Attributes:
        files: of the checkpoint.
        inputs: features that it needs of an observation, by the robot's names.
        action_dim: ``D``.
        acts_as: ``DEPLOYED`` or ``ACT``.
    """

    files: CheckpointFiles
    inputs: Mapping[str, PolicyFeature]
    action_dim: int
    acts_as: ActedAs

    def plan_with(self, planning: Planning, fps: int, simulated: bool) -> None:
        """Say where plans are made, before the first episode.

        Raises:
            ValueError: the flags do not fit.
        """

    def begin(self) -> None:
        """An episode begins."""

    def report(self) -> dict[str, int]:
        """What went wrong with plans in this episode."""

    def moved(self) -> None:
        """A person has moved the robot: what was planned is out of date."""

    def see(self, observation: Observation) -> None:
        """The next frame of the episode (no batch dimension), whoever moves the robot."""

    def close(self) -> None:
        """Stop planning."""

    def act(self, observation: Observation) -> Chunk | None:
        """The next chunk for the frame that was seen last; None: there is no plan yet."""


def load_deployed(place: DeployedPolicyConfig, device: str) -> DeployedPolicy:
    """Read a local place (:func:`~lerobot_serl.checkpoint.place.locate`) or a Hub id.

    Raises:
        FileNotFoundError: no checkpoint there, or not a whole one.
        ValueError: it is of another type, damaged, or LeRobot does not load it; or a setting is not for it.
    """
    assert place.path is not None
    files = find_checkpoint(place.path, FLAG)
    document = files.json(CONFIG)
    if is_oldest(document) or document.get("type") == "act":
        return DeployedAct(place, device)
    if document.get("type") != "serl_sac":
        kind = str(document.get("type"))[:100]
        raise files.error(
            CONFIG, f"a policy of type {kind!r}, expected 'serl_sac' or 'act'", "lerobot-eval and lerobot-rollout run the others."
        )
    if place.changes:
        flags = ", ".join(f"--policy.{name}={value}" for name, value in place.changes.items())
        raise ValueError(f"--{FLAG}={place.path}: {flags} is for ACT; a serl_sac policy acts by its own horizon.")
    return DeployedEdits(files, device)


class DeployedEdits:
    """A ``serl_sac`` checkpoint: the base policy's chunk, edited where the critics prefer that."""

    def __init__(self, files: CheckpointFiles, device: str) -> None:
        self.files = files
        place = files.place if files.directory is None else str(files.directory)
        config = PreTrainedConfig.from_pretrained(place)
        assert isinstance(config, SerlSacConfig)
        config.device = device
        self._agent = SerlSacPolicy.from_pretrained(place, config=config).to(device).agent.requires_grad_(False)
        self.inputs: Mapping[str, PolicyFeature] = dict(config.input_features or {})
        self.action_dim = self._agent.action_dim
        self.acts_as = ActedAs.ACT if self._agent.is_act else ActedAs.DEPLOYED
        self._policy = PlannedPolicy(self._agent)

    def plan_with(self, planning: Planning, fps: int, simulated: bool) -> None:
        self._policy.close()
        self._policy = planned(self._agent, planning, fps, simulated)

    def begin(self) -> None:
        self._policy.begin()

    def report(self) -> dict[str, int]:
        return self._policy.report

    def moved(self) -> None:
        self._policy.moved()

    def see(self, observation: Observation) -> None:
        self._policy.see(observation)

    def act(self, observation: Observation) -> Chunk | None:
        return self._policy.decide(self._agent.propose, self.acts_as)

    def close(self) -> None:
        self._policy.close()


class DeployedAct:
    """LeRobot's ACT between its own saved processors, with its own ``n_action_steps`` or temporal ensembling."""

    acts_as = ActedAs.ACT

    def __init__(self, place: DeployedPolicyConfig, device: str) -> None:
        checkpoint = load_act_checkpoint(str(place.path), FLAG)
        self.files, self._device = checkpoint.files, device
        changes, config = place.changes, checkpoint.config
        steps = changes.get("n_action_steps", config.n_action_steps)
        if changes.get("temporal_ensemble_coeff", config.temporal_ensemble_coeff) is not None and steps != 1:
            raise ValueError(
                f"--{FLAG}={place.path}: n_action_steps={steps}, expected 1 with temporal ensembling. Add --policy.n_action_steps=1."
            )
        self._owner = Owner.of(checkpoint, device, "what acts is", changes)
        self.inputs: Mapping[str, PolicyFeature] = self._owner.inputs
        self.action_dim = checkpoint.config.action_feature.shape[0]

    def plan_with(self, planning: Planning, fps: int, simulated: bool) -> None:
        if planning != Planning():
            raise ValueError(
                f"--{FLAG}={self.files.place}: --planning and --plan_delay_s are for serl_sac; ACT's owner plans in the control loop."
            )

    def begin(self) -> None:
        self._owner.policy.reset()

    def report(self) -> dict[str, int]:
        return {}

    def moved(self) -> None:
        self._owner.policy.reset()

    def see(self, observation: Observation) -> None:
        pass

    def close(self) -> None:
        pass

    def act(self, observation: Observation) -> Chunk:
        batch = policy_input({key: value.unsqueeze(0).to(self._device) for key, value in observation.items()})
        return Chunk(self._owner.next_actions(batch).numpy(), BASE, 0.0, self.acts_as)
