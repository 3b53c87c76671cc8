"""A base policy as its owner runs it: LeRobot's policy class, loaded by LeRobot, between the processors that were saved with it."""

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import PreTrainedPolicy, get_policy_class, make_pre_post_processors
from lerobot.processor import (
    NormalizerProcessorStep,
    PolicyProcessorPipeline,
    ProcessorStep,
    RenameObservationsProcessorStep,
    UnnormalizerProcessorStep,
)
from lerobot.utils.constants import OBS_STATE
from torch import Tensor

from ..base.plan_noise import PlanNoise, seeds_of
from ..base.policy_config import name_of
from ..checkpoint.files import CONFIG
from ..checkpoint.processor_files import DEVICE
from .policy_checkpoint import PolicyCheckpoint

Changes = Mapping[str, Any]
_NAMES_DIFFER = ("Missing key(s)", "Unexpected key(s)")


class Owner:
    """A LeRobot policy between two of its processors.

    Args:
        policy: on its device.
        before, after: its pre- and its post-processor.
        names: the policy's name of an input -> the robot's and the pre-processor's, where it differs.

    Attributes:
        policy: as given.
        inputs: features that it needs, by the robot's names.
    """

    def __init__(
        self, policy: PreTrainedPolicy, before: PolicyProcessorPipeline, after: PolicyProcessorPipeline, names: Mapping[str, str]
    ) -> None:
        self.policy = policy.eval()
        self.before = before
        self.after = after
        self._names = names
        self.inputs = {names.get(key, key): feature for key, feature in (policy.config.input_features or {}).items()}

    @classmethod
    def of(cls, checkpoint: PolicyCheckpoint, device: str, doing: str, changes: Changes = MappingProxyType({})) -> "Owner":
        """As LeRobot loads it, else LeRobot's policy of that type with what was read from the checkpoint.

        Args:
            device: to run on.
            doing: what for, in a warning that LeRobot itself does not run the checkpoint.
            changes: of its configuration, such as ``{"n_action_steps": 1}``.

        Raises:
            ValueError: LeRobot's policy does not run with this configuration.
        """
        refused, name = "", name_of(checkpoint.config)
        for make in (cls.loaded, cls.rebuilt):
            try:
                owner = make(checkpoint, device, changes)
                frames = () if owner.policy.config.n_obs_steps == 1 else (owner.policy.config.n_obs_steps,)
                owner.plan({key: torch.zeros((1, *frames, *feature.shape), device=device) for key, feature in owner.inputs.items()}, 1)
            except Exception as error:  # whatever LeRobot stumbles over
                refused = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:300]}"
                continue
            if refused:
                logging.warning(
                    f"LeRobot itself does not run {checkpoint.files.place} ({refused}); {doing} LeRobot's {name} with the weights and "
                    "statistics that were read from there."
                )
            return owner
        raise checkpoint.files.error(
            CONFIG, f"describes a network that does not run in LeRobot's {name} ({refused})", f"Train {name} again."
        )

    @classmethod
    def loaded(cls, checkpoint: PolicyCheckpoint, device: str, changes: Changes) -> "Owner":
        """As LeRobot loads it. Only for what :func:`.load_act_checkpoint` has read: LeRobot's loader runs what the files name.

        Raises:
            ValueError, OSError, RuntimeError: LeRobot does not load it.
        """
        if not checkpoint.processors.before:  # the loader would recommend a migration, which fails for some; nothing here needs it
            raise ValueError("it is of LeRobot before 0.4")
        place = str(checkpoint.files.require(CONFIG).parent)  # of the Hub's files those that were looked at, in its cache
        with _quietly():
            config = PreTrainedConfig.from_pretrained(
                place, cli_overrides=[f"--{name}={value}" for name, value in {"device": device, **changes}.items()]
            )
            if type(config) is not type(checkpoint.config):
                raise ValueError(f"LeRobot reads {place} as {type(config).__name__}")
            config = replace(config, **_without_downloads(config))
            policy = get_policy_class(config.type).from_pretrained(place, config=config)
            # LeRobot leaves random what it does not find under its own names.
            if other := [name for name, tensor in policy.state_dict().items() if not _same(tensor, checkpoint.weights.get(name))]:
                raise ValueError(f"it finds no tensors for {len(other)} of its own, the first of them {other[0]}")
            here = {DEVICE: {"device": device}}
            before, after = make_pre_post_processors(
                config,
                pretrained_path=place,
                preprocessor_overrides=here if DEVICE in checkpoint.processors.before else {},
                postprocessor_overrides={DEVICE: {"device": "cpu"}} if DEVICE in checkpoint.processors.after else {},
            )
        return cls(policy, before, after, {inner: outer for outer, inner in checkpoint.processors.renames.items()})

    @classmethod
    def rebuilt(cls, checkpoint: PolicyCheckpoint, device: str, changes: Changes) -> "Owner":
        """LeRobot's policy of today with the weights and statistics that were read from a checkpoint which it does not load.

        Raises:
            ValueError, RuntimeError: LeRobot builds no such network.
        """
        config = replace(checkpoint.config, device=device, **_without_downloads(checkpoint.config), **changes)
        policy = get_policy_class(config.type)(config)
        policy.load_state_dict({**policy.state_dict(), **checkpoint.weights})
        outputs, processors = config.output_features or {}, checkpoint.processors.features
        renames = dict(checkpoint.processors.renames)
        steps: dict[bool, list[ProcessorStep]] = {False: [RenameObservationsProcessorStep(renames)], True: []}
        for key, feature in {**(config.input_features or {}), **outputs}.items():
            kind = UnnormalizerProcessorStep if key in outputs else NormalizerProcessorStep
            statistics, mode = {key: dict(processors[key].statistics)}, {feature.type: processors[key].mode}
            steps[key in outputs].append(kind({key: feature}, mode, statistics, device=torch.device(device), eps=processors[key].eps))
        standard = make_pre_post_processors(config)
        before, after = (replace(pipeline, steps=steps[is_after]) for is_after, pipeline in zip((False, True), standard, strict=True))
        return cls(policy.to(device), before, after, {inner: outer for outer, inner in renames.items()})

    def prepared(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the network gets of raw inputs ``(B, ...)``, or ``(B, n_obs_steps, ...)``, by the policy's or the robot's names for them."""
        prepared: dict[str, Tensor] = self.before({self._names.get(key, key): value for key, value in inputs.items()})
        if OBS_STATE not in prepared:  # LeRobot asks it on which device it is, also for one that takes none
            prepared[OBS_STATE] = torch.zeros(0, device=next(self.policy.parameters()).device)
        return prepared

    @torch.no_grad()
    def plan(self, inputs: Mapping[str, Tensor], steps: int) -> Tensor:
        """The raw actions ``(B, steps, D)`` that the policy plans, on the CPU; with the noise that :class:`PlanNoise` gives."""
        planned: Tensor = self.after(self.normalised_plan(inputs)[:, :steps])
        return planned.float().cpu()

    @torch.no_grad()
    def normalised_plan(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the network says, of raw inputs as :meth:`prepared`."""
        prepared, n_obs_steps = self.prepared(inputs), self.policy.config.n_obs_steps
        if hasattr(self.policy, "_queues") and n_obs_steps == 1:
            prepared = {key: value.unsqueeze(1) if isinstance(value, Tensor) else value for key, value in prepared.items()}
        self.policy.reset()
        with PlanNoise(len(next(iter(inputs.values()))), seeds_of(inputs, n_obs_steps)):
            said: Tensor = self.policy.predict_action_chunk(prepared)
        return said

    @torch.no_grad()
    def next_actions(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The raw actions ``(n, D)`` that ACT's owner carries out before ACT looks again, on the CPU: one of them with temporal ensembling."""
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


def _without_downloads(config: PreTrainedConfig) -> dict[str, None]:
    """The checkpoint has the backbone's weights."""
    return {"pretrained_backbone_weights": None} if hasattr(config, "pretrained_backbone_weights") else {}


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_NAMES_DIFFER)


def _same(theirs: Tensor, ours: Tensor | None) -> bool:
    return ours is not None and torch.equal(theirs.cpu(), ours.to(theirs.dtype))
