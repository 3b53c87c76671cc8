"""A LeRobot environment as the world of an actor process."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs import EnvConfig, make_env, preprocess_observation

from ..replay.recording import Decider
from .world import EpisodeSpoilt, Observation, StepResult, WorldError

REWARD_SOURCES = ("success", "environment")


class EnvWorld:
    """A LeRobot environment (``--env.type=...``).

    Success, as the environment reports it in ``info["is_success"]``, ends the episode: an environment that goes on after a success would
    otherwise teach that success is not the end.

    Args:
        config: LeRobot's environment configuration.
        inputs: the policy's input features.
        action_dim: ``D``.
        seed: of the first episode; every further episode adds one.
        reward: ``success``, 1 at success and 0 elsewhere; ``environment``, the environment's own.

    Raises:
        ValueError: an observation that the policy needs is missing or has another shape, or the action has another size.
    """

    simulated = True
    measured: Mapping[str, float] = MappingProxyType({})

    def __init__(self, config: EnvConfig, inputs: Mapping[str, PolicyFeature], action_dim: int, seed: int, reward: str = "success") -> None:
        if reward not in REWARD_SOURCES:
            raise ValueError(f"reward={reward!r}: expected one of {', '.join(REWARD_SOURCES)}.")
        vector_env = next(iter(next(iter(make_env(config, n_envs=1).values())).values()))
        self._env = vector_env.envs[0]
        self._preprocess, _ = config.get_env_processors()
        self._inputs, self._seed, self._reward = dict(inputs), seed, reward
        self._name = f"--env.type={config.type}"
        self._action_dim = action_dim
        self._check_action(action_dim)
        self._check_observation(self.reset())
        self._seed = seed
        self.task = str(getattr(self._env.unwrapped, "task_description", config.task or ""))

    @property
    def longest_steps(self) -> int | None:
        return getattr(self._env.spec, "max_episode_steps", None)

    def reset(self) -> Observation:
        raw, _ = self._env.reset(seed=self._seed)
        self._seed += 1
        return self._observation(raw)

    def step(self, action: np.ndarray) -> StepResult:
        if bad := np.flatnonzero(~np.isfinite(action)).tolist():
            raise WorldError(f"{self._name}: the action's entries {bad} are not finite; it was not sent. Policy or teleoperator is broken.")
        space = self._env.action_space
        clipped = np.clip(action, space.low, space.high).astype(np.float32)
        raw, reward, terminated, truncated, info = self._env.step(clipped)
        success = bool(info.get("is_success", terminated and reward > 0))
        ends = bool(terminated) or success
        return StepResult(
            observation=self._observation(raw),
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
        if len(action) != self._action_dim:
            raise ValueError(
                f"{self._name}: the teleoperator gives {list(action)}, but an action here has {self._action_dim} numbers. "
                "Use a teleoperator made for this environment."
            )
        return self.step(np.array(list(action.values()), dtype=np.float32))

    def hold(self) -> None:
        """Nothing moves between two steps."""

    def report(self) -> Mapping[str, float | int | str]:
        return {}

    def close(self) -> None:
        self._env.close()

    def _observation(self, raw: dict[str, np.ndarray]) -> Observation:
        """LeRobot's own conversion, without its batch dimension, with images back in uint8, and free of the environment's own memory.

        Raises:
            EpisodeSpoilt: an image is not finite.
        """
        converted = self._preprocess(preprocess_observation(raw))
        self._given = sorted(key for key in converted if key.startswith("observation."))
        observation = {}
        for key in self._inputs:
            if key in converted:
                value = converted[key][0]
                image = self._inputs[key].type is FeatureType.VISUAL
                if image and not bool(value.isfinite().all()):  # in uint8 it would be lost
                    raise EpisodeSpoilt(f"{self._name}: the image '{key}' has a number that is not finite.")
                observation[key] = (value * 255.0).round().to(torch.uint8) if image else value.float().clone()
        return observation

    def _check_observation(self, observation: Observation) -> None:
        for key, feature in self._inputs.items():
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
