"""A LeRobot environment as the world of an actor process."""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs import EnvConfig, make_env, preprocess_observation
from lerobot.utils.constants import OBS_ENV_STATE, OBS_STATE

from ..replay.recording import Decider
from .world import EpisodeSpoilt, Observation, StepResult, WorldError

REWARD_SOURCES = ("success", "environment")


class EnvWorld:
    """A LeRobot environment (``--env.type=...``).

    Success, as the environment reports it in ``info["is_success"]``, ends the episode: an environment that goes on after a success would
    otherwise teach that success is not the end.

    Args:
        config: LeRobot's environment configuration.
        inputs: the policy's input features; None, without a policy: all that it gives.
        action_dim: ``D``; None, without a policy: as it is.
        seed: of the first episode; every further episode adds one.
        reward: ``success``, 1 at success and 0 elsewhere; ``environment``, the environment's own.

    Attributes:
        inputs: features of its observations.
        action_dim: of its actions.
        raw: the last observation, as the environment gave it.

    Raises:
        ValueError: an observation that the policy needs is missing or has another shape, or the action has another size.
    """

    simulated = True
    measured: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self, config: EnvConfig, inputs: Mapping[str, PolicyFeature] | None, action_dim: int | None, seed: int, reward: str = "success"
    ) -> None:
        if reward not in REWARD_SOURCES:
            raise ValueError(f"reward={reward!r}: expected one of {', '.join(REWARD_SOURCES)}.")
        vector_env = next(iter(next(iter(make_env(config, n_envs=1).values())).values()))
        self._env = vector_env.envs[0]
        self._preprocess, _ = config.get_env_processors()
        self._seed, self._reward = seed, reward
        self._name = f"--env.type={config.type}"
        self.action_dim = self._size_of_action() if action_dim is None else action_dim
        self._check_action(self.action_dim)
        self.raw, _ = self._env.reset(seed=seed)
        self.inputs = self._features() if inputs is None else dict(inputs)
        self._check_observation(self._observation())
        self.task = str(getattr(self._env.unwrapped, "task_description", config.task or ""))

    def reset(self) -> Observation:
        self.raw, _ = self._env.reset(seed=self._seed)
        self._seed += 1
        return self._observation()

    def step(self, action: np.ndarray) -> StepResult:
        if bad := np.flatnonzero(~np.isfinite(action)).tolist():
            raise WorldError(f"{self._name}: the action's entries {bad} are not finite; it was not sent. Policy or teleoperator is broken.")
        space = self._env.action_space
        clipped = np.clip(action, space.low, space.high).astype(np.float32)
        self.raw, reward, terminated, truncated, info = self._env.step(clipped)
        success = bool(info.get("is_success", terminated and reward > 0))
        ends = bool(terminated) or success
        return StepResult(
            observation=self._observation(),
            executed=np.asarray(info.get("executed_action", clipped), dtype=np.float32),
            reward=float(success) if self._reward == "success" else float(reward),
            terminated=ends,
            truncated=bool(truncated) and not ends,
            decided_by=Decider.ENVIRONMENT if ends else Decider.TIME_LIMIT if truncated else Decider.NOBODY,
        )

    def step_by_hand(self, action: Mapping[str, float]) -> StepResult:
        """The teleoperator's numbers are the environment's action, in the order in which it names them.

        Raises:
            ValueError: another number of them.
        """
        if len(action) != self.action_dim:
            raise ValueError(
                f"{self._name}: the teleoperator gives {list(action)}, but an action here has {self.action_dim} numbers. "
                "Use a teleoperator made for this environment."
            )
        return self.step(np.array(list(action.values()), dtype=np.float32))

    @property
    def env(self) -> Any:
        """The environment itself, without gymnasium's wrappers."""
        return self._env.unwrapped

    def hold(self) -> None:
        """Nothing moves between two steps."""

    def report(self) -> Mapping[str, float | int | str]:
        return {"seed": self._seed - 1}

    def close(self) -> None:
        self._env.close()

    def _observation(self) -> Observation:
        """LeRobot's own conversion, without its batch dimension, with images back in uint8, and free of the environment's own memory.

        Raises:
            EpisodeSpoilt: an image is not finite.
        """
        converted = self._converted()
        self._given = sorted(converted)
        observation = {}
        for key in self.inputs:
            if key in converted:
                value = converted[key][0]
                image = self.inputs[key].type is FeatureType.VISUAL
                if image and not bool(value.isfinite().all()):  # in uint8 it would be lost
                    raise EpisodeSpoilt(f"{self._name}: the image '{key}' has a number that is not finite.")
                observation[key] = (value * 255.0).round().to(torch.uint8) if image else value.float().clone()
        return observation

    def _converted(self) -> dict[str, Any]:
        """What a policy could see, ``(1, ...)``."""
        converted = self._preprocess(preprocess_observation(self.raw))
        return {key: value for key, value in converted.items() if key.startswith("observation.")}

    def _features(self) -> dict[str, PolicyFeature]:
        """Of what it gives, as LeRobot's datasets and policies name it.

        Raises:
            ValueError: there is neither a vector nor an image.
        """
        features, others = {}, []
        for key, value in sorted(self._converted().items(), key=lambda item: item[0] != OBS_STATE):  # as LeRobot's recordings begin
            kind = {2: FeatureType.ENV if key == OBS_ENV_STATE else FeatureType.STATE, 4: FeatureType.VISUAL}.get(getattr(value, "ndim", 0))
            if kind is None:
                others.append(key)
            else:
                features[key] = PolicyFeature(kind, tuple(value.shape[1:]))
        if not features:
            raise ValueError(
                f"{self._name}: the observation has nothing that LeRobot understands, {others or 'nothing at all'}. Let the environment give "
                "'agent_pos', 'environment_state' or 'pixels', or choose another observation mode (such as --env.obs_type)."
            )
        if others:
            logging.warning(f"{self._name}: {others} are neither vectors nor images, so they are left out.")
        return features

    def _size_of_action(self) -> int:
        shape = self._env.action_space.shape
        if shape is None or len(shape) != 1:
            raise ValueError(f"{self._name}: actions are {self._env.action_space}, expected a vector of numbers (a Box of one dimension).")
        return int(shape[0])

    def _check_observation(self, observation: Observation) -> None:
        for key, feature in self.inputs.items():
            if key not in observation:
                raise ValueError(
                    f"{self._name}: the policy needs '{key}', which this environment does not give (it gives "
                    f"{self._given}). Choose another observation mode, for example --env.obs_type."
                )
            if tuple(observation[key].shape) != tuple(feature.shape):
                raise ValueError(
                    f"{self._name}: '{key}' has shape {tuple(observation[key].shape)}, the policy expects {tuple(feature.shape)}. "
                    "Use the environment settings that the demonstrations were recorded with."
                )

    def _check_action(self, action_dim: int) -> None:
        shape = self._env.action_space.shape
        if shape != (action_dim,):
            raise ValueError(
                f"{self._name}: actions have shape {shape}, the policy gives ({action_dim},). "
                "Use the control mode that the demonstrations were recorded with."
            )
