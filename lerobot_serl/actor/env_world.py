"""A LeRobot environment as the world of an actor process."""

import logging
from collections.abc import Callable, Mapping, Sequence
from ctypes import ArgumentError
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs import EnvConfig, preprocess_observation
from lerobot.utils.constants import OBS_ENV_STATE, OBS_STATE

from ..replay.episode import Decider
from .env_keys import EnvKeys
from .env_maker import make_one
from .pace import Pace
from .said import said
from .settings import RobotKeysConfig
from .success_rule import SuccessRule
from .teleop_keys import TeleopKeys, TeleopKeySettings
from .world import EpisodeSpoilt, Observation, Observer, StepResult, WorldError


@dataclass(frozen=True)
class EnvSettings:
    """What flags and demonstrations say about an environment.

    Attributes:
        success_key: entry of ``info`` that says success; empty: found by its name.
        task: in words; empty: the environment's own.
        rename_map: environment's observation key -> the policy's.
        time_limit_steps: an episode is truncated after so many; None: the environment's own limit alone.
        action_names: of the entries of an action, as the demonstrations name them; empty if they do not.
        robot_keys: what these entries mean.
        pace: for a person, who needs real time; None as fast as it goes.
        show: gets each step's observation and executed action (`--display_data`).
    """

    success_key: str = ""
    task: str = ""
    rename_map: Mapping[str, str] = field(default_factory=dict)
    time_limit_steps: int | None = None
    action_names: Sequence[str] = ()
    robot_keys: RobotKeysConfig = field(default_factory=RobotKeysConfig)
    pace: Pace | None = None
    show: Observer | None = None


class EnvWorld:
    """A LeRobot environment (``--env.type=...``).

    Success ends the episode: an environment that goes on after a success would otherwise teach that success is not the end.

    Args:
        config: LeRobot's environment configuration.
        inputs: the policy's input features; None, without a policy: all that it gives.
        action_dim: ``D``; None, without a policy: as it is.
        seed: of the first episode; every further episode adds one.
        reward: what counts as success (`success_rule.SOURCES`); it pays 1 and everything else 0, but with ``environment`` the environment's own
            reward.
        settings: everything else.

    Attributes:
        inputs: features of its observations.
        action_dim: of its actions.
        keys: of its actions.
        raw: the last observation, as the environment gave it.

    Raises:
        ValueError: it cannot be made, an observation that the policy needs is missing or has another shape, or the action has another size.
        WorldError: it cannot be reset.
    """

    simulated = True
    measured: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self,
        config: EnvConfig,
        inputs: Mapping[str, PolicyFeature] | None,
        action_dim: int | None,
        seed: int,
        reward: str = "success",
        settings: EnvSettings | None = None,
    ) -> None:
        self._settings = settings = settings or EnvSettings()
        self._name = f"--env.type={config.type}"
        self._rule = SuccessRule(reward, settings.success_key, self._name)
        self._env = make_one(config)
        self._preprocess, _ = config.get_env_processors()
        self._seed = seed
        self._reward = reward
        self._steps = 0
        self._last: np.ndarray | None = None
        self._teleop_keys: TeleopKeys | None = None
        self.action_dim = self._size_of_action() if action_dim is None else action_dim
        self._check_action(self.action_dim)
        self.keys = EnvKeys(config, self.env, self._name, self.action_dim, settings.action_names, settings.robot_keys)
        self._restart()
        self.inputs = self._features() if inputs is None else dict(inputs)
        self._check_observation(self._observation())
        self._seed = seed
        self.task = settings.task or str(getattr(self._env.unwrapped, "task_description", config.task or ""))
        logging.info(
            f"{self._name}: success is {self._rule}"
            + ("; the rewards are the environment's own" if reward == "environment" else "")
            + (f"; episodes of at most {settings.time_limit_steps} steps" if settings.time_limit_steps else "")
            + (f"; in real time, {1 / settings.pace.period_s:g} steps a second" if settings.pace else "")
            + "."
        )

    @property
    def longest_steps(self) -> int | None:
        limits = (self._settings.time_limit_steps, getattr(getattr(self._env, "spec", None), "max_episode_steps", None))
        return min((limit for limit in limits if limit is not None), default=None)

    def reset(self) -> Observation:
        self._restart()
        if self._settings.pace is not None:
            self._settings.pace.begin()
        return self._observation()

    def _restart(self) -> None:
        self.raw, info = self._ask("to be reset", lambda: self._env.reset(seed=self._seed))
        self._seed = self._seed + 1
        self._steps = 0
        self._last = None
        self._rule.begin(info)

    def step(self, action: np.ndarray) -> StepResult:
        if bad := np.flatnonzero(~np.isfinite(action)).tolist():
            raise WorldError(f"{self._name}: the action's entries {bad} are not finite; it was not sent. Policy or teleoperator is broken.")
        space = self._env.action_space
        clipped = np.clip(action, space.low, space.high).astype(np.float32)
        self.raw, reward, terminated, truncated, info = self._ask("to make a step", lambda: self._env.step(clipped))
        if self._settings.pace is not None:
            self._settings.pace.wait()
        self._steps += 1
        limit = self._settings.time_limit_steps
        truncated = bool(truncated) or (limit is not None and self._steps >= limit)
        success = self._rule.decide(info, float(reward), bool(terminated), truncated)
        ends = bool(terminated) or success
        self._last = executed = np.asarray(info.get("executed_action", clipped), dtype=np.float32)
        return StepResult(
            observation=self._shown(self._observation(), executed),
            executed=executed,
            reward=float(reward) if self._reward == "environment" else float(success),
            terminated=ends,
            truncated=truncated and not ends,
            decided_by=Decider.ENVIRONMENT if ends else Decider.TIME_LIMIT if truncated else Decider.NOBODY,
            success=self._rule.reported(info) if ends and self._reward == "environment" else None,
        )

    def stay(self) -> StepResult:
        """A step in which nothing is to move (`EnvKeys`)."""
        return self.step(self.keys.still(self._last))

    def expect_teleop(self, flag: str, given: Sequence[str], settings: TeleopKeySettings) -> None:
        """Say which of a teleoperator's numbers is which entry of the action, before it is needed.

        Args:
            flag: names the teleoperator in messages.
            given: its keys, in its order.

        Raises:
            ValueError: they do not fit.
        """
        self._teleop_keys = TeleopKeys(flag, given, self.keys.names, self._env.action_space.high, settings)
        logging.info(f"By hand, {flag}: {self._teleop_keys}.")

    def step_intervention(self, action: Mapping[str, float]) -> StepResult:
        """What the teleoperator asks for, under its own keys.

        Raises:
            ValueError: they do not fit, and nobody has said so before.
        """
        if self._teleop_keys is None:
            self.expect_teleop("The teleoperator", list(action), TeleopKeySettings())
        assert self._teleop_keys is not None
        return self.step(self._teleop_keys.action(action, self._last))

    @property
    def env(self) -> Any:
        """The environment itself, without gymnasium's wrappers."""
        return self._env.unwrapped

    def hold(self) -> None:
        """Nothing moves between two steps."""

    def report(self) -> Mapping[str, float | int | str]:
        pace = self._settings.pace
        late = {} if pace is None else {"late_ticks": pace.late_ticks, "worst_lateness_s": pace.worst_lateness_s}
        return {"seed": self._seed - 1, **late}

    def close(self) -> None:
        self._env.close()

    def _ask(self, what: str, call: Callable[[], Any]) -> Any:
        """Somebody else's program may raise anything."""
        try:
            return call()
        except ArgumentError:  # ctypes makes one of Ctrl-C
            raise
        except Exception as error:
            hint = " Without a display, set MUJOCO_GL=egl (or osmesa)." if "GL" in f"{type(error).__name__}{error}" else ""
            raise WorldError(f"{self._name} was asked {what} and failed: {said(error)}.{hint}") from error

    def _shown(self, observation: Observation, executed: np.ndarray) -> Observation:
        if self._settings.show is not None:
            raw = {key: value.numpy() if value.ndim == 1 else value.permute(1, 2, 0).numpy() for key, value in observation.items()}
            self._settings.show(raw, {str(index): float(value) for index, value in enumerate(executed)})
        return observation

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
        renamed, converted = self._settings.rename_map, self._preprocess(preprocess_observation(self.raw))
        return {renamed.get(key, key): value for key, value in converted.items() if key.startswith("observation.")}

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
        if unknown := [key for key, new in self._settings.rename_map.items() if new not in self._given]:
            raise ValueError(f"--rename_map names {unknown}, which {self._name} does not give (it gives {self._given}).")
        for key, feature in self.inputs.items():
            if key not in observation:
                raise ValueError(
                    f"{self._name}: the policy needs '{key}', which this environment does not give (it gives "
                    f"{self._given}). Choose another observation mode, for example --env.obs_type, or rename: --rename_map."
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
