"""Where the files of a checkpoint are, in a directory or on the Hub, and reading them: bounded, and inside the checkpoint only."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor

from ..message_header import MessageError, TensorClaim, strict_json
from ..words import printable
from .tensor_file import claims_of, claims_of_finite, load_finite, load_one

CONFIG, WEIGHTS = CONFIG_NAME, SAFETENSORS_SINGLE_FILE
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # of PEFT
LARGEST_JSON = 1024 * 1024
LARGEST_STATE = 64 * 1024 * 1024
_LONGEST_WORDS = 600


class CheckpointError(ValueError):
    """A file of a checkpoint is damaged, or not what LeRobot writes; the message names place, file and remedy."""


class MissingFileError(FileNotFoundError, CheckpointError):
    """A file of a checkpoint is not there; the message names place, file and remedy."""


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of one checkpoint.

    Attributes:
        place: as it was given: directory or Hub id.
        directory: None for a Hub id; files are then downloaded one by one, when they are asked for.
        flag: what ``place`` was given with, for messages.
        remedy: what to do about a damaged file, a sentence.
        download: further arguments of ``hf_hub_download``, such as ``revision``.
    """

    place: str
    directory: Path | None
    flag: str
    remedy: str
    download: Mapping[str, Any] = field(default_factory=dict)

    def error(self, name: str, flaw: str, remedy: str | None = None) -> CheckpointError:
        """What is wrong with the file of that name, in words that a terminal can print.

        Args:
            remedy: sentences; None: the file is damaged, and the checkpoint's own counts.
        """
        return CheckpointError(self._message(f"{name}: {flaw}", remedy))

    def find(self, name: str) -> Path | None:
        """A regular file of the checkpoint; None if there is none of that name.

        Args:
            name: without a directory.

        Raises:
            CheckpointError: it is no regular file, or a link that leads out of the checkpoint.
            OSError: the Hub cannot be reached, or has no such repository.
        """
        path = self._downloaded(name) if self.directory is None else self.directory / name
        if path is None or not os.path.lexists(path):
            return None
        home, target = os.path.realpath(path.parent), os.path.realpath(path)
        # The Hub's cache: snapshots/COMMIT/NAME is a link to blobs/HASH.
        blobs = [os.path.join(os.path.dirname(os.path.dirname(home)), "blobs")] if Path(home).parent.name == "snapshots" else []
        if os.path.dirname(target) not in (home, *blobs):
            raise self.error(name, f"a link that leads out of the checkpoint, to {target}; copy the file itself (cp -L)")
        if not os.path.isfile(target):
            raise self.error(name, "no regular file")
        return path

    def require(self, name: str) -> Path:
        """As :meth:`find`.

        Raises:
            MissingFileError: there is no such file.
        """
        path = self.find(name)
        if path is None:
            raise MissingFileError(self._message(f"{name} is missing" + (f" beside {CONFIG}" if name != CONFIG else "")))
        return path

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object, read strictly.

        Raises:
            CheckpointError, OSError: see :meth:`require`; too large, or no strict JSON.
        """
        return self._read(name, LARGEST_JSON, lambda path: strict_json(path.read_bytes()))

    def claims(self, name: str) -> dict[str, TensorClaim]:
        """What a safetensors file says of its tensors; nothing of them is read.

        Raises:
            CheckpointError, OSError: see :meth:`require`; no safetensors file, or cut off.
        """
        return self._read(name, None, claims_of)

    def check_tensors(self, name: str) -> dict[str, TensorClaim]:
        """As :meth:`claims`, after a look at every number; none is kept.

        Raises:
            CheckpointError, OSError: as there; a tensor holds NaN or infinite numbers.
        """
        return self._read(name, None, claims_of_finite)

    def tensors(self, name: str, largest: int | None = None, features: Collection[str] | None = None) -> dict[str, Tensor]:
        """The tensors of a safetensors file of at most ``largest`` bytes; floating-point ones are finite.

        Args:
            features: where given, only tensors named ``FEATURE.statistic`` have to be finite: a dataset may have other columns.

        Raises:
            CheckpointError, OSError: as :meth:`check_tensors`.
        """
        return self._read(name, largest, lambda path: load_finite(path, features))

    def tensor(self, name: str, tensor: str) -> Tensor:
        """One tensor of a safetensors file, whatever numbers it holds.

        Raises:
            CheckpointError, OSError: as :meth:`claims`; there is no such tensor.
        """
        return self._read(name, None, lambda path: load_one(path, tensor))

    def _read[T](self, name: str, largest: int | None, reader: Callable[[Path], T]) -> T:
        path = self.require(name)
        try:
            size = path.stat().st_size
            if size == 0:
                raise self.error(name, "the file is empty")
            if largest is not None and size > largest:
                raise self.error(name, f"{size} bytes, expected at most {largest}")
            return reader(path)
        except (MessageError, OSError) as error:
            raise self.error(name, str(error)) from error

    def _message(self, flaw: str, remedy: str | None = None) -> str:
        words = printable(flaw)
        words = words if len(words) <= _LONGEST_WORDS else f"{words[:_LONGEST_WORDS]}..."
        return f"{self.flag}={self.place!r}: {words}. {remedy or self.remedy}"

    def _downloaded(self, name: str) -> Path | None:
        try:
            return Path(hf_hub_download(self.place, name, **self.download))
        except EntryNotFoundError as error:
            if name == CONFIG and isinstance(error, LocalEntryNotFoundError):  # every checkpoint has one: the Hub was not asked
                raise
            return None
        except HFValidationError as error:
            raise FileNotFoundError(str(error)) from error
