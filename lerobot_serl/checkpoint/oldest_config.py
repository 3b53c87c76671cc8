"""``config.json`` as LeRobot before 0.1 (January 2025) wrote it for ACT: without a type, with shapes and normalisation modes by key."""

from collections.abc import Mapping
from typing import Any

from lerobot.configs import FeatureType
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE

from ..message_header import MessageError

_SHAPES, _MODES = ("input_shapes", "output_shapes"), ("input_normalization_modes", "output_normalization_modes")
_OF_ACT = "chunk_size"
_CAMERA = "observation.image"


def is_oldest(document: Mapping[str, Any]) -> bool:
    """Whether a configuration is ACT's, and of that time."""
    return "type" not in document and _OF_ACT in document and all(isinstance(document.get(name), dict) for name in (*_SHAPES, *_MODES))


def translated(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same in today's terms, without a type. Inputs that ACT did not look at in spite of their shapes are left out.

    Args:
        document: of which :func:`is_oldest` is true.

    Raises:
        MessageError: it names nothing that ACT can look at, or two modes for features that today have one.
    """
    others = {name: value for name, value in document.items() if name not in (*_SHAPES, *_MODES)}
    modes, mapping = {**document[_MODES[0]], **document[_MODES[1]]}, dict[str, str]()
    features: list[dict[str, Any]] = []
    for shapes in (document[name] for name in _SHAPES):
        features.append({})
        for key, shape in shapes.items():
            if (kind := _type_of(key)) is None:
                continue
            mode = str(modes.get(key, "identity")).upper()
            if mapping.setdefault(kind.value, mode) != mode:
                raise MessageError(f"of LeRobot before 0.1: '{key}' is normalised as {mode}, others of its kind as {mapping[kind.value]}")
            features[-1][key] = {"type": kind.value, "shape": shape}
    if not {FeatureType.VISUAL.value, FeatureType.ENV.value} & mapping.keys():
        raise MessageError(
            f"of LeRobot before 0.1 (no 'type', but '{_SHAPES[0]}'), and names neither a camera nor '{OBS_ENV_STATE}' there, which ACT needs; "
            "give the checkpoint as it was saved"
        )
    return {**others, "input_features": features[0], "output_features": features[1], "normalization_mapping": mapping}


def _type_of(key: str) -> FeatureType | None:
    if key.startswith(_CAMERA):
        return FeatureType.VISUAL
    return {OBS_STATE: FeatureType.STATE, OBS_ENV_STATE: FeatureType.ENV, ACTION: FeatureType.ACTION}.get(key)
