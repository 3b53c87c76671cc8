"""Messages that an attacker might send to a learner, of every kind that we could think of."""

import io
import json
import os
import pickle
import random
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from lerobot.configs import FeatureType, PolicyFeature

from lerobot_serl.message_header import HEADER_KEY
from lerobot_serl.replay.episode import Episode
from lerobot_serl.replay.episode_message import encode_episode

STATE, IMAGE = "observation.state", "observation.images.front"
INPUTS = {
    STATE: PolicyFeature(type=FeatureType.STATE, shape=(4,)),
    IMAGE: PolicyFeature(type=FeatureType.VISUAL, shape=(3, 8, 8)),
}
ACTION_DIM = 2
CHANGED = "changed bytes"


class Bomb:
    """Unpickling this makes a directory: proof that something was executed."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def good_episode(frames: int = 6) -> Episode:
    """What an honest actor sends."""
    return Episode(
        observation={STATE: torch.zeros(frames, 4), IMAGE: torch.zeros(frames, 3, 8, 8, dtype=torch.uint8)},
        action=torch.zeros(frames, ACTION_DIM),
        reward=torch.zeros(frames),
        intervention=torch.zeros(frames, dtype=torch.bool),
        terminated=True,
        truncated=False,
        task="touch the dot",
        info={"actor": "arm", "rms": 0.5},
    )


def document(header: str | bytes, body: bytes = b"") -> bytes:
    """A safetensors document with any header."""
    text = header if isinstance(header, bytes) else header.encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + body


class Attacks:
    """Messages of each kind, the same for the same seed. Each must be refused, but that changed bytes may hit a number or a letter
    and leave a good episode.

    Args:
        seed: of the random numbers.
        marker: where code that was executed leaves its trace.
    """

    def __init__(self, seed: int, marker: Path) -> None:
        self._random = random.Random(seed)
        self._bomb = Bomb(marker)
        self._good = encode_episode(good_episode(), "good")
        size = int.from_bytes(self._good[:8], "little")
        self._document = json.loads(self._good[8 : 8 + size])
        self._body = self._good[8 + size :]
        self.kinds: dict[str, Callable[[], bytes]] = {
            "random bytes": self._random_bytes,
            CHANGED: self._changed_bytes,
            "truncated": self._truncated,
            "something appended": self._appended,
            "wrong tensor": self._wrong_tensor,
            "wrong offsets": self._wrong_offsets,
            "wrong header": self._wrong_header,
            "wrong JSON": self._wrong_json,
            "deep JSON": self._deep_json,
            "pickle": self._pickle,
            "archive bomb": self._archive,
        }

    def _random_bytes(self) -> bytes:
        data = self._random.randbytes(self._random.randrange(2000))
        return data if self._random.random() < 0.5 else self._random.randrange(1000).to_bytes(8, "little") + data

    def _changed_bytes(self) -> bytes:
        data = bytearray(self._good)
        for _ in range(self._random.randrange(1, 20)):
            data[self._random.randrange(len(data))] = self._random.randrange(256)
        return bytes(data)

    def _truncated(self) -> bytes:
        return self._good[: self._random.randrange(len(self._good))]

    def _appended(self) -> bytes:
        return self._good + self._random.randbytes(self._random.randrange(1, 300))

    def _entry(self, **changes: object) -> bytes:
        names = [name for name in self._document if name != "__metadata__"]
        name = self._random.choice(names)
        return document(json.dumps(self._document | {name: self._document[name] | changes}), self._body)

    def _wrong_tensor(self) -> bytes:
        number = self._random.choice([0, 1, 7, 10**6, 2**40, 2**62, 2**63, 10**300, -1, -(2**70)])
        choices = [
            {"shape": [number]}, {"shape": [number, number]}, {"shape": [1] * self._random.randrange(3, 3000)}, {"shape": "6"},
            {"shape": [[6]]}, {"shape": None}, {"shape": [6.0, 2.0]}, {"shape": [True]}, {"shape": []},
            {"dtype": self._random.choice(["I32", "F64", "U64", "F8_E4M3", "", "PICKLE", None, 3, ["F32"]])}, {"extra": number},
        ]  # fmt: skip
        return self._entry(**self._random.choice(choices))

    def _wrong_offsets(self) -> bytes:
        number = self._random.choice([-1, 1, 2, 5, 2**31, 2**40, 2**63, 2**64 - 1])
        offsets = self._random.choice([[number, number + 24], [0, number], [number, 0], [0], [0, 1, 2], [0.0, 24.0], ["0", "24"], None, {}])
        return self._entry(data_offsets=offsets)

    def _wrong_header(self) -> bytes:
        pick = self._random.choice
        changes = {
            "uuid": pick(["", "../../etc/passwd", "x" * 65, "a b", "\x00", None, 3, ["u"], {}, "\ud800"]),
            "terminated": pick([None, 1, "true", [True]]),
            "truncated": pick([True, None, 0]),
            "task": pick([None, 3, [], {}, "\udc00"]),
            "info": pick([None, [1], "x", {str(i): i for i in range(65)}, {"\udfff": 1}, {"a": "\ud800"}]),
        }
        key = pick(list(changes))
        header = json.loads(self._document["__metadata__"][HEADER_KEY]) | {key: changes[key]}
        return document(json.dumps(self._document | {"__metadata__": {HEADER_KEY: json.dumps(header)}}), self._body)

    def _wrong_json(self) -> bytes:
        text, pick = json.dumps(self._document), self._random.choice
        inner = self._document["__metadata__"][HEADER_KEY]
        wrong = pick(
            [
                text[:-1] + ', "action": ' + json.dumps(self._document["action"]) + "}",
                text.replace(json.dumps(inner), json.dumps(inner[:-1] + ', "uuid": "other"}')),
                *(text.replace(json.dumps(inner), json.dumps(inner.replace("0.5", n))) for n in ("NaN", "-Infinity", "1e999", "9" * 5000)),
                text.replace("[", "[" + "1" * self._random.randrange(300, 20_000), 1),
                text[: self._random.randrange(len(text))],
                text.encode("utf-16").decode("latin-1"),
                "\ufeff" + text,
                text.replace("shape", "sh\u0000ape"),
                pick(["null", "[]", "3", '""', "{}", '{"__metadata__": {}}', '{"__metadata__": null}']),
            ]
        )
        return document(wrong, self._body)

    def _deep_json(self) -> bytes:
        depth = self._random.choice([17, 100, 10_000, 400_000])
        nested = self._random.choice(["[" * depth, "[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth])
        inner = self._document["__metadata__"][HEADER_KEY][:-1] + ', "x": ' + nested + "}"
        if self._random.random() < 0.5:
            return document(json.dumps(self._document | {"__metadata__": {HEADER_KEY: inner}}), self._body)
        return document(json.dumps(self._document)[:-1] + ', "x": ' + nested + "}", self._body)

    def _pickle(self) -> bytes:
        bomb = pickle.dumps(self._bomb, protocol=self._random.randrange(6))
        stored = io.BytesIO()
        torch.save(self._bomb, stored)
        in_header = document(json.dumps({"__metadata__": {HEADER_KEY: bomb.decode("latin-1")}}))
        return self._random.choice([bomb, stored.getvalue(), in_header, document(bomb), self._good[:100] + bomb])

    def _archive(self) -> bytes:
        zeros = bytes(self._random.randrange(10**6, 2 * 10**6))
        packed = zlib.compressobj(1, zlib.DEFLATED, 31)
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            file.writestr("data.pkl", zeros)
        gzip = packed.compress(zeros) + packed.flush()
        return self._random.choice([gzip, archive.getvalue(), document(gzip), document(gzip[:500], gzip)])
