"""Between a LeRobot robot's dictionaries and the policy's tensors."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import OBS_IMAGES, OBS_STATE

from ..finite import not_finite
from .faults import CONTRACT, FRAME, MISSING, NUMBER, error_of
from .world import Observation

Features = Mapping[str, type | tuple[int, ...]]


class RobotIo:
    """Which of a robot's entries the policy sees, in which order, and which entries its actions have.

    Args:
        name: of the robot, for messages.
        observation_features, action_features: the robot's own.
        inputs: the policy's input features.
        action_dim: ``D``.
        state_names, action_names: of the demonstrations' features; empty if their dataset does not name them, in which case the
            robot's order is taken and only the sizes are compared.
        rename_map: robot's observation key -> policy's, as in lerobot-rollout.

    Attributes:
        action_keys: of the entries of an action, in order.
        positions: those of them that the robot also measures.
        state: the robot's keys of ``observation.state``, in order; empty without that input.

    Raises:
        ValueError: the robot does not fit the policy; the message names keys and remedy.
    """

    def __init__(
        self,
        name: str,
        observation_features: Features,
        action_features: Features,
        inputs: Mapping[str, PolicyFeature],
        action_dim: int,
        state_names: Sequence[str] = (),
        action_names: Sequence[str] = (),
        rename_map: Mapping[str, str] | None = None,
    ) -> None:
        self._name = name
        numbers = [key for key, kind in observation_features.items() if not isinstance(kind, tuple)]
        self.action_keys = self._choose("action", list(action_features), list(action_names), action_dim)
        self._cameras = self._find_cameras(observation_features, inputs, dict(rename_map or {}))
        self.state: tuple[str, ...] = ()
        for key, feature in inputs.items():
            if key == OBS_STATE:
                self.state = self._choose("observation.state", numbers, list(state_names), feature.shape[0])
            elif feature.type is not FeatureType.VISUAL:
                raise ValueError(
                    f"{name}: the policy needs '{key}', which no robot gives (a robot gives '{OBS_STATE}' and images). "
                    "Use a policy trained on data recorded with this robot."
                )
        self._numbers = numbers
        self.positions = tuple(key for key in self.action_keys if key in numbers)

    def numbers(self, raw: Mapping[str, Any]) -> dict[str, float]:
        """The robot's own numbers.

        Raises:
            EpisodeSpoilt: an entry is missing, or not finite.
        """
        if not isinstance(raw, Mapping):
            raise error_of(MISSING, f"{self._name}: get_observation() returned {raw!r}, expected a dictionary")
        values = {}
        for key in self._numbers:
            if key not in raw:
                raise error_of(MISSING, f"{self._name}: get_observation() lacks '{key}', which observation_features promises")
            values[key] = number(raw[key])
        if (bad := not_finite(values)) is not None:
            raise error_of(NUMBER, f"{self._name}: '{bad}' reads {raw[bad]!r}, expected a finite number")
        return values

    def observation(self, raw: Mapping[str, Any], numbers: Mapping[str, float]) -> Observation:
        """The policy's view: ``observation.state`` float32, images uint8 ``(C, H, W)``; a copy.

        Raises:
            EpisodeSpoilt: an image is missing or has another shape.
        """
        observation: Observation = {}
        if self.state:
            observation[OBS_STATE] = torch.tensor([numbers[key] for key in self.state], dtype=torch.float32)
        for key, (camera, shape) in self._cameras.items():
            image = np.asarray(raw.get(camera))
            if image.shape != shape or image.dtype != np.uint8:
                given = "None" if raw.get(camera) is None else f"{image.dtype}{image.shape}"
                raise error_of(FRAME, f"{self._name}: camera '{camera}' gave {given}, expected uint8{shape}")
            observation[key] = torch.from_numpy(image.copy(order="C")).permute(2, 0, 1)  # a copy that is not rearranged: 15 times quicker
        return observation

    def action(self, values: np.ndarray) -> dict[str, float]:
        """``(D,)`` -> what ``send_action`` takes."""
        return dict(zip(self.action_keys, values.tolist(), strict=True))

    def executed(self, returned: Any) -> np.ndarray:
        """What ``send_action`` returned -> ``(D,)`` float32.

        Raises:
            WorldError: it returned None, or lacks entries: what was really executed is then unknown.
            EpisodeSpoilt: a number is not finite.
        """
        if not isinstance(returned, Mapping):
            raise error_of(
                CONTRACT,
                f"{self._name}: send_action() returned {returned!r}, expected the action that was executed (LeRobot's Robot contract). "
                "Without it the policy would learn from actions that never happened",
            )
        if missing := [key for key in self.action_keys if key not in returned]:
            raise error_of(CONTRACT, f"{self._name}: send_action() returned {list(returned)} without {missing}")
        values = {key: np.float32(number(returned[key])) for key in self.action_keys}
        if (bad := not_finite(values)) is not None:
            raise error_of(NUMBER, f"{self._name}: send_action() returned {returned[bad]!r} for '{bad}', expected a finite number")
        return np.array(list(values.values()), dtype=np.float32)

    def _choose(self, what: str, offered: list[str], wanted: list[str], size: int) -> tuple[str, ...]:
        """The wanted names if they are known and there, else all offered ones if their number is right."""
        if wanted and len(wanted) == size:
            missing = [key for key in wanted if key not in offered]
            if not missing:
                return tuple(wanted)
            raise ValueError(
                f"{self._name}: the demonstrations' {what} has {missing}, which this robot lacks (it has {offered}). "
                "Use the robot, and its settings, that the demonstrations were recorded with."
            )
        if len(offered) != size:
            raise ValueError(
                f"{self._name}: {what} has {len(offered)} entries {offered}, the policy expects {size}. "
                "Use the robot, and its settings, that the demonstrations were recorded with."
            )
        return tuple(offered)

    def _find_cameras(
        self, features: Features, inputs: Mapping[str, PolicyFeature], rename_map: dict[str, str]
    ) -> dict[str, tuple[str, tuple[int, ...]]]:
        offered = {f"{OBS_IMAGES}.{camera}": camera for camera, shape in features.items() if isinstance(shape, tuple)}
        if unknown := [key for key in rename_map if key not in offered]:
            raise ValueError(f"--rename_map names {unknown}, which {self._name} does not give (its images are {sorted(offered)}).")
        renamed = {rename_map.get(key, key): camera for key, camera in offered.items()}
        images = {key: feature for key, feature in inputs.items() if feature.type is FeatureType.VISUAL}
        if missing := [key for key in images if key not in renamed]:
            free = [key for key in offered if rename_map.get(key, key) not in images]
            pairs = dict(zip(free, missing, strict=False))
            hint = f", or say which one it is: --rename_map='{json.dumps({**rename_map, **pairs})}'" if len(pairs) == len(missing) else ""
            needs = f"needs the image '{missing[0]}'" if len(missing) == 1 else f"needs the images {missing}"
            raise ValueError(f"{self._name}: the policy {needs}; this robot gives {sorted(offered) or 'none'}. Add the camera{hint}.")
        cameras: dict[str, tuple[str, tuple[int, ...]]] = {}
        for key, feature in images.items():
            shape = tuple(features[renamed[key]])  # type: ignore[arg-type]
            if len(shape) != 3 or (shape[2], *shape[:2]) != tuple(feature.shape):
                raise ValueError(
                    f"{self._name}: camera '{renamed[key]}' gives {shape} (height, width, channels), the policy expects "
                    f"{tuple(feature.shape)} (channels first). Set the camera's height and width to those of the demonstrations."
                )
            cameras[key] = (renamed[key], shape)
        return cameras


def number(value: Any) -> float:
    """NaN for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
