"""What a dataset says of itself in ``meta/info.json``, read with suspicion, or made anew from its data and videos."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets import CODEBASE_VERSION
from lerobot.utils.constants import DEFAULT_FEATURES
from PIL import Image

from ..lerobot_names import DEFAULT_DATA_PATH, DEFAULT_VIDEO_PATH, DatasetInfo, get_video_info
from ..replay.json_file import UnreadableError, read_json
from ..replay.table_file import numbers_of, open_table, read_columns
from .finding import CannotCheckError

_IMAGE_AXES = ["height", "width", "channels"]
_ENOUGH_ROWS = 1000


@dataclass
class Description:
    """Attributes:
    info: as it is, or as it was made anew; the counts in a new one are 0.
    lost: why ``info.json`` could not be read; empty if it could.
    """

    info: DatasetInfo
    lost: str = ""

    @property
    def cameras(self) -> dict[str, str]:
        """Camera -> "image" or "video"."""
        return {key: ft["dtype"] for key, ft in self.info.features.items() if ft["dtype"] in ("image", "video")}

    @property
    def video_keys(self) -> list[str]:
        """Cameras that are stored as video."""
        return [key for key, kind in self.cameras.items() if kind == "video"]

    def is_depth(self, key: str) -> bool:
        """Whether a camera measures distances."""
        return bool((self.info.features[key].get("info") or {}).get("is_depth_map", False))


def read_description(root: Path) -> Description:
    """What ``info.json`` says; where it is damaged, what data and videos say.

    Raises:
        CannotCheckError: the dataset is of another version or layout.
        UnreadableError: it is damaged, and the data do not say enough.
    """
    try:
        return Description(_checked(read_json(root / "meta" / "info.json"), root))
    except UnreadableError as error:
        return Description(_from_data(root), str(error))


def _checked(raw: Any, root: Path) -> DatasetInfo:
    if not isinstance(raw, dict) or not isinstance(raw.get("features"), dict):
        raise UnreadableError("does not say what the features are")
    version = str(raw.get("codebase_version"))
    if version.split(".")[0] != CODEBASE_VERSION.split(".")[0]:
        raise CannotCheckError(
            f"{root} is a dataset of LeRobot's format {version[:20]!r}, expected {CODEBASE_VERSION}. An older one can be converted with "
            "python -m lerobot.scripts.convert_dataset_v21_to_v30; for a newer one update lerobot."
        )
    for key, feature in raw["features"].items():
        shape = feature.get("shape") if isinstance(feature, dict) else None
        if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape) or not isinstance(feature.get("dtype"), str):
            raise UnreadableError(f"does not say dtype and shape of the feature {key!r}")
        if "/" in key or not isinstance(feature.get("info") or {}, dict):
            raise CannotCheckError(f"{root}/meta/info.json has a feature {key!r} that LeRobot {CODEBASE_VERSION} would not have written.")
        feature.setdefault("names", None)
    if missing := [key for key in DEFAULT_FEATURES if key not in raw["features"]]:
        raise UnreadableError(f"does not name the features {', '.join(missing)}")
    if not all(isinstance(raw.get(name), int) for name in ("fps", "total_episodes", "total_frames", "total_tasks")):
        raise UnreadableError("does not say rate and counts in whole numbers")
    has_videos = any(feature["dtype"] == "video" for feature in raw["features"].values())
    if raw.get("data_path", DEFAULT_DATA_PATH) != DEFAULT_DATA_PATH or (has_videos and raw.get("video_path") != DEFAULT_VIDEO_PATH):
        raise CannotCheckError(f"{root}/meta/info.json names other places for its files than LeRobot {CODEBASE_VERSION} does.")
    try:
        return DatasetInfo.from_dict(raw)
    except (ValueError, TypeError) as error:
        raise UnreadableError(f"is not what LeRobot wrote: {error}") from error


def _from_data(root: Path) -> DatasetInfo:
    for path in sorted((root / "data").glob("*/*.parquet")):
        try:
            table = open_table(path)
            features = {key: _feature(key, kind, table) for key, kind in _columns(table).items()}
            fps = _rate(table)
        except UnreadableError:
            continue
        videos = {}
        for directory in sorted((root / "videos").glob("*")):
            videos[directory.name] = _video_feature(directory)
        return DatasetInfo(CODEBASE_VERSION, fps, {**features, **videos}, video_path=DEFAULT_VIDEO_PATH if videos else None)
    raise UnreadableError("and no data file can be read that would say what was in it")


def _columns(table: pq.ParquetFile) -> Mapping[str, Any]:
    try:
        found = datasets.Features.from_arrow_schema(table.schema_arrow)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableError("does not say the types of its columns") from error
    if missing := [key for key in DEFAULT_FEATURES if key not in found]:
        raise UnreadableError(f"lacks the columns {', '.join(missing)}")
    return found


def _feature(key: str, kind: Any, table: pq.ParquetFile) -> dict[str, Any]:
    if isinstance(kind, datasets.Image):
        return {"dtype": "image", "shape": _picture_shape(key, table), "names": _IMAGE_AXES}
    if isinstance(kind, datasets.Value):
        return {"dtype": kind.dtype, "shape": (1,), "names": None}
    if isinstance(kind, datasets.List) and isinstance(kind.feature, datasets.Value) and kind.length > 0:
        return {"dtype": kind.feature.dtype, "shape": (kind.length,), "names": None}
    if isinstance(kind, datasets.Array2D | datasets.Array3D | datasets.Array4D | datasets.Array5D):
        return {"dtype": kind.dtype, "shape": tuple(kind.shape), "names": None}
    raise UnreadableError(f"has a column {key!r} of a kind that LeRobot does not write")


def _picture_shape(key: str, table: pq.ParquetFile) -> tuple[int, int, int]:
    try:
        first = next(table.iter_batches(1, columns=[key])).column(0)[0].as_py()
        with Image.open(io.BytesIO((first or {}).get("bytes") or b"")) as picture:
            return picture.height, picture.width, len(picture.getbands())
    except (pa.ArrowException, OSError, ValueError, StopIteration, Image.DecompressionBombError) as error:
        raise UnreadableError(f"has no picture of {key} to tell its size by") from error


def _video_feature(directory: Path) -> dict[str, Any]:
    for path in sorted(directory.glob("chunk-*/file-*.mp4")):
        try:
            facts = get_video_info(path)
            shape = (int(facts["video.height"]), int(facts["video.width"]), int(facts["video.channels"]))
        except (av.FFmpegError, OSError, KeyError, IndexError):
            continue
        return {"dtype": "video", "shape": shape, "names": _IMAGE_AXES, "info": facts}
    raise UnreadableError(f"and no video of {directory.name} can be read that would say what was in it")


def _rate(table: pq.ParquetFile) -> int:
    columns = read_columns(table, ["timestamp", "frame_index"])
    frames = numbers_of(columns["frame_index"], (1,))[:_ENOUGH_ROWS]
    times = numbers_of(columns["timestamp"], (1,))[:_ENOUGH_ROWS]
    later = frames > 0
    if not later.any():
        raise UnreadableError("has no episode of two frames that would tell the rate")
    return max(1, round(float(np.median(frames[later] / np.maximum(times[later], 1e-9)))))
