"""Who says that an attempt has succeeded, besides the person."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lerobot.configs import FeatureType
from lerobot.processor import PolicyProcessorPipeline
from lerobot.rewards import get_reward_model_class, make_reward_pre_post_processors
from lerobot.utils.constants import OBS_IMAGES
from torch import Tensor

from ..checkpoint.files import CONFIG, WEIGHTS, CheckpointError, CheckpointFiles
from ..checkpoint.processor_files import require_harmless
from ..lerobot_names import RewardModelConfig
from ..replay.episode import Decider, policy_input
from .faults import Watched
from .robot_io import Features, RobotIo
from .said import place_of, quoted, said
from .world import WorldError


@dataclass(frozen=True)
class Verdict:
    """An attempt is over."""

    success: bool
    decided_by: Decider


class Judge(Protocol):
    """Looks at every observation of an episode, first to last."""

    def begin(self) -> None:
        """A new episode."""

    def judge(self, raw: Mapping[str, Any]) -> Verdict | None:
        """The robot's observation after a step -> a verdict, or None to go on."""


class RobotJudge:
    """The robot knows: a boolean ``success`` attribute, as simulated robots have it."""

    def __init__(self, robot: Any) -> None:
        if not hasattr(robot, "success"):
            raise ValueError(
                f"--reward.source=robot: {type(robot).__name__} has no 'success' attribute. Use --reward.source=keys, "
                "--reward.path=MODEL or --reward.function=module:function."
            )
        self._robot = Watched(robot, "robot")

    def begin(self) -> None:
        pass

    def judge(self, raw: Mapping[str, Any]) -> Verdict | None:
        return Verdict(True, Decider.ROBOT) if self._robot.success else None


class FunctionJudge:
    """A Python function of the user.

    Args:
        name: ``module:function``; the function takes the robot's observation (its own keys, floats and uint8 images) and returns
            True when the attempt has succeeded.

    Raises:
        ValueError: no such function, or it does not take one argument.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._function = load_function(name, "--reward.function")

    def begin(self) -> None:
        pass

    def judge(self, raw: Mapping[str, Any]) -> Verdict | None:
        try:
            answer = self._function(raw)
        except Exception as error:  # of whatever kind: it is other people's code
            raise WorldError(
                f"--reward.function={self._name} failed: {quoted(error)} ({place_of(error)}). Mend it; the episode is lost."
            ) from error
        if not isinstance(answer, bool | np.bool_ | None):
            raise WorldError(f"--reward.function={self._name} returned {answer!r}, expected True (success), False or None (not yet).")
        return Verdict(True, Decider.FUNCTION) if answer else None


class RewardModelJudge:
    """A LeRobot reward model with its own processors.

    Args:
        path: local directory or Hub id.
        observation_features: the robot's.
        threshold: smallest reward that counts as success.
        consecutive: so many of them in a row end the episode.
        rename_map: as of the actor process.
        device: to run on.

    Raises:
        ValueError: the robot lacks an image that the model needs, or this is no reward model, or not a complete one.
    """

    def __init__(
        self,
        path: str,
        robot_name: str,
        observation_features: Features,
        threshold: float,
        consecutive: int,
        rename_map: Mapping[str, str],
        device: str,
    ) -> None:
        files = CheckpointFiles(path, Path(path) if Path(path).is_dir() else None, "--reward.path", "Take the whole checkpoint directory.")
        config = _configuration(files)
        config.device, config.pretrained_path = device, path
        images = {
            key: ft for key, ft in (config.input_features or {}).items() if ft.type is FeatureType.VISUAL or key.startswith(OBS_IMAGES)
        }
        if not images:
            raise ValueError(
                f"--reward.path={path!r}: the {config.type} was trained without images (its input_features are "
                f"{list(config.input_features or {})}). Train it with --reward_model.input_features, as docs/rewards.md shows."
            )
        try:
            self._io = RobotIo(robot_name, observation_features, {}, images, 0, rename_map=rename_map)
        except ValueError as error:
            raise ValueError(f"--reward.path={path!r}: {str(error).replace('the policy', 'the reward model')}") from error
        self._preprocess = _preprocessor(config, files)
        self._model = _model(config, files)
        self._threshold = threshold
        self._consecutive = consecutive
        self._device = device
        self._positives = 0

    def begin(self) -> None:
        self._positives = 0
        self._model.reset()

    def judge(self, raw: Mapping[str, Any]) -> Verdict | None:
        observation = policy_input(self._io.observation(raw, {}))
        batch = self._preprocess({key: value.unsqueeze(0) for key, value in observation.items()})
        with torch.inference_mode():
            self._positives = self._positives + 1 if self._is_positive(batch) else 0
        return Verdict(True, Decider.REWARD_MODEL) if self._positives >= self._consecutive else None

    def _is_positive(self, batch: dict[str, Tensor]) -> bool:
        """LeRobot's classifier compares its probability with a threshold in `predict_reward`; its `compute_reward` fixes it at 0.5."""
        if hasattr(self._model, "predict_reward"):
            return bool(self._model.predict_reward(batch, threshold=self._threshold).flatten()[0] > 0)
        reward = float(self._model.compute_reward(batch).flatten()[0])
        if not np.isfinite(reward):
            raise WorldError(f"The reward model returned {reward}, expected a finite number.")
        return reward >= self._threshold


def _configuration(files: CheckpointFiles) -> RewardModelConfig:
    try:
        if files.find(CONFIG) is not None:
            files.json(CONFIG)
        return RewardModelConfig.from_pretrained(files.place)
    except CheckpointError:
        raise
    except Exception as error:
        raise ValueError(
            f"--reward.path={files.place!r}: no LeRobot reward model there ({said(error)}). Expected a directory or Hub id that "
            "lerobot-train --reward_model.type=... wrote."
        ) from error


def _model(config: RewardModelConfig, files: CheckpointFiles) -> Any:
    """The model with its weights. LeRobot's classifier first loads its backbone, which lies elsewhere, and runs code that comes with it."""
    try:
        if files.find(WEIGHTS) is not None:
            files.check_tensors(WEIGHTS)
        return get_reward_model_class(config.type).from_pretrained(files.place, config=config).to(config.device).eval()
    except CheckpointError:
        raise
    except Exception as error:
        backbone = getattr(config, "model_name", None)
        also = (
            f" It also needs its backbone {backbone!r} (model_name in config.json): a directory, or a reachable Hub id." if backbone else ""
        )
        raise ValueError(
            f"--reward.path={files.place!r}: the {config.type} could not be loaded ({said(error)}). Take the whole checkpoint directory.{also}"
        ) from error


def _preprocessor(config: RewardModelConfig, files: CheckpointFiles) -> PolicyProcessorPipeline:
    """The model's own preprocessor, with the statistics that it was trained with.

    Raises:
        ValueError: it was not saved with the model, or names something else than LeRobot's own code for this type would.
    """
    usual = make_reward_pre_post_processors(config)[0]
    name = f"{usual.name}.json"
    try:
        require_harmless(files, [name], {str(entry.get("registry_name", entry.get("class"))) for entry in usual.get_config()["steps"]})
        return PolicyProcessorPipeline.from_pretrained(
            files.place, config_filename=name, overrides={"device_processor": {"device": config.device}}
        )
    except CheckpointError:
        raise
    except Exception as error:
        raise ValueError(
            f"--reward.path={files.place!r}: {name}, the model's preprocessor, is missing or unreadable ({said(error)}). "
            "Without its statistics the images would look different from those of its training; take the whole checkpoint directory."
        ) from error


def load_function(name: str, flag: str, argument: str = "the robot's observation") -> Callable[[Any], Any]:
    """``module:function``, imported.

    Args:
        flag: that names it.
        argument: what it gets, in words.

    Raises:
        ValueError: naming the flag, what was found and what was expected.
    """
    module_name, separator, function_name = name.partition(":")
    if not separator or not module_name or not function_name:
        raise ValueError(f"{flag}={name!r}: expected MODULE:FUNCTION, for example my_robot.rewards:cube_lifted.")
    if (here := str(Path.cwd())) not in sys.path:  # an installed command does not look there by itself
        sys.path.append(here)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{flag}={name!r}: {error}. The module has to be importable: install it, or start where it lies.") from error
    if not callable(function):
        raise ValueError(f"{flag}={name!r} is a {type(function).__name__}, expected a function of {argument}.")
    try:
        inspect.signature(function).bind({})
    except TypeError as error:
        raise ValueError(f"{flag}={name!r}: {error}; expected a function of one argument, {argument}.") from error
    return function
