"""A :class:`Recording` as a message, and back with every shape and dtype checked against the policy's features."""

from collections.abc import Mapping
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature

from ..transport import MessageError, decode, encode
from .recording import Recording

KIND = "episode"
_OBSERVATION, _ACTION, _REWARD, _INTERVENTION = "observation/", "action", "reward", "intervention"
MAX_FRAMES = 100_000


def encode_recording(recording: Recording, uuid: str) -> bytes:
    """Message of one episode; ``uuid`` makes sending it twice harmless."""
    header = {
        "kind": KIND,
        "uuid": uuid,
        "terminated": recording.terminated,
        "truncated": recording.truncated,
        "task": recording.task,
        "info": dict(recording.info),
    }
    tensors = {_OBSERVATION + key: value for key, value in recording.observation.items()}
    tensors |= {_ACTION: recording.action, _REWARD: recording.reward, _INTERVENTION: recording.intervention}
    return encode(header, tensors)


def decode_recording(data: bytes, inputs: Mapping[str, PolicyFeature], action_dim: int) -> tuple[str, Recording]:
    """The episode and its UUID.

    Args:
        inputs: the policy's input features; each must be there with this shape, images uint8, the rest float32.

    Raises:
        MessageError: naming what is wrong.
    """
    header, tensors = decode(data)
    uuid = _field(header, "uuid", str)
    frames = len(tensors[_ACTION]) if _ACTION in tensors and tensors[_ACTION].dim() == 2 else 0
    if not 1 <= frames <= MAX_FRAMES:
        raise MessageError(f"episode of {frames} frames, expected 1 to {MAX_FRAMES}")
    expected: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        _ACTION: ((frames, action_dim), torch.float32),
        _REWARD: ((frames,), torch.float32),
        _INTERVENTION: ((frames,), torch.bool),
    }
    for key, feature in inputs.items():
        dtype = torch.uint8 if feature.type is FeatureType.VISUAL else torch.float32
        expected[_OBSERVATION + key] = ((frames, *feature.shape), dtype)
    actual = {name: (tuple(value.shape), value.dtype) for name, value in tensors.items()}
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            raise MessageError(f"'{name}' is {actual.get(name, 'missing')}, expected {expected.get(name, 'absent')}")
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise MessageError(f"'{name}' contains NaN or infinite numbers")
    terminated, truncated = _field(header, "terminated", bool), _field(header, "truncated", bool)
    if terminated and truncated:
        raise MessageError("an episode is terminated or truncated, not both")
    if frames == 1 and not terminated:
        raise MessageError("an episode of one frame that did not terminate holds no transition")
    info = {str(k): v for k, v in _field(header, "info", dict).items() if isinstance(v, int | float | str)}
    return uuid, Recording(
        observation={key: tensors[_OBSERVATION + key] for key in inputs},
        action=tensors[_ACTION],
        reward=tensors[_REWARD],
        intervention=tensors[_INTERVENTION],
        terminated=terminated,
        truncated=truncated,
        task=_field(header, "task", str)[:1000],
        info=info,
    )


def _field(header: Mapping[str, Any], name: str, kind: type) -> Any:
    value = header.get(name)
    if not isinstance(value, kind):
        raise MessageError(f"header field '{name}' is {value!r}, expected {kind.__name__}")
    return value
