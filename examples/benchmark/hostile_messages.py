"""Hostile messages against the learner: does it live, does it stay small, do honest actors go on?

Most messages go straight to the decoder, the rest over gRPC to a real server in a process of its own, while an honest actor sends episodes.
Prints a table and writes it to docs/results/durability/hostile_messages.csv.
"""

import argparse
import csv
import io
import json
import multiprocessing
import os
import pickle
import random
import resource
import sys
import tempfile
import threading
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.transport import services_pb2, services_pb2_grpc

from lerobot_serl.message_header import HEADER_KEY, MessageError
from lerobot_serl.online.limits import ServerLimits
from lerobot_serl.online.server import EpisodeReceipt, LearnerServer
from lerobot_serl.replay.recording import Recording
from lerobot_serl.replay.recording_message import decode_recording, encode_recording, largest_message_bytes
from lerobot_serl.secure_channel import open_channel
from lerobot_serl.transport import ACTOR_KEY, PROTOCOL, PROTOCOL_KEY, SESSION_KEY, split

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


def good_episode(frames: int = 6) -> Recording:
    """What an honest actor sends."""
    return Recording(
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
        self._good = encode_recording(good_episode(), "good")
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
            {"dtype": self._random.choice(["I64", "F64", "U64", "F8_E4M3", "", "PICKLE", None, 3, ["F32"]])}, {"extra": number},
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


def is_sound(recording: Recording) -> bool:
    """Whether an accepted episode is what the learner may rely on."""
    values = (recording.action, recording.reward, recording.observation[STATE])
    words = [recording.task, *recording.info, *(word for word in recording.info.values() if isinstance(word, str))]
    return (
        all(bool(value.isfinite().all()) for value in values)
        and all(word.isprintable() and len(word) <= 1000 for word in words)
        and recording.intervention.view(torch.uint8).max().item() <= 1
        and len(recording) == len(recording.reward) >= 1
    )


def decode_all(attacks: Attacks, counts: dict[str, int]) -> list[dict[str, object]]:
    """Messages straight into the decoder; a crash would end this process."""
    rows = []
    for kind, count in counts.items():
        refused = sound = 0
        for _ in range(count):
            data = attacks.kinds[kind]()
            try:
                _, recording = decode_recording(data, INPUTS, ACTION_DIM)
            except MessageError:
                refused += 1
            else:
                sound += kind == CHANGED and is_sound(recording)
        rows.append({"path": "decoder", "kind": kind, "sent": count, "refused": refused, "still good": sound})
        print(rows[-1], flush=True)
    return rows


class NoWeights:
    """The server's publisher; hostile messages want none."""

    run = "0"


def serve(pipe: Connection) -> None:
    """The learner's server in a process of its own: sends its address, and at the end the episodes and its peak memory in MB."""
    received = set()

    def receive(data: bytes) -> EpisodeReceipt:
        episode, recording = decode_recording(data, INPUTS, ACTION_DIM)
        received.add(episode)
        return EpisodeReceipt(episode, len(recording))

    limits = ServerLimits(grace_s=2.0, refusals=10**6)  # every message is to be looked at
    server = LearnerServer(
        "127.0.0.1", 0, NoWeights(), receive, lambda: None,  # type: ignore[arg-type]
        largest_message_bytes=largest_message_bytes(INPUTS, ACTION_DIM), limits=limits,
    )  # fmt: skip
    server.start()
    pipe.send((server.address, _peak_mb()))
    pipe.recv()
    pipe.send((len(received), _peak_mb()))


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


class Sender:
    """One actor process, as far as the wire is concerned."""

    def __init__(self, address: str, name: str) -> None:
        self.channel = open_channel(address, None, None)
        self.stub = services_pb2_grpc.LearnerServiceStub(self.channel)
        self.metadata = ((PROTOCOL_KEY, str(PROTOCOL)), (ACTOR_KEY, name), (SESSION_KEY, uuid.uuid4().hex))

    def status(self, parts: object) -> str:
        """Name of the status that a call with these parts ends with."""
        try:
            self.stub.SendTransitions(parts, metadata=self.metadata, timeout=60)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"


def over_grpc(attacks: Attacks, count: int, slow: int) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Messages to a real server, beside slow senders and an honest actor; rows, and what became of server and honest actor."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    address, before_mb = ours.recv()
    done, acknowledged = threading.Event(), []

    def honest() -> None:
        sender = Sender(address, "honest")
        while not done.is_set():
            data = encode_recording(good_episode(), uuid.uuid4().hex)
            acknowledged.append(sender.status(split(data, services_pb2.Transition)))
            time.sleep(0.05)

    def stall(index: int) -> None:
        def parts() -> object:
            yield services_pb2.Transition(transfer_state=1, data=b"x" * 100)
            done.wait(30)

        slow_statuses.append(Sender(address, f"slow{index}").status(parts()))

    slow_statuses: list[str] = []
    threads = [threading.Thread(target=honest), *(threading.Thread(target=stall, args=(index,)) for index in range(slow))]
    for thread in threads:
        thread.start()
    hostile = Sender(address, "hostile")
    statuses: dict[str, list[str]] = {kind: [] for kind in attacks.kinds}
    for index in range(count):
        kind = list(attacks.kinds)[index % len(attacks.kinds)]
        statuses[kind].append(hostile.status(split(attacks.kinds[kind](), services_pb2.Transition)))
    rows: list[dict[str, object]] = []
    for kind, ends in statuses.items():
        sound = ends.count("OK") if kind == CHANGED else 0
        rows.append({"path": "gRPC", "kind": kind, "sent": len(ends), "refused": ends.count("INVALID_ARGUMENT"), "still good": sound})
    for thread in threads[1:]:
        thread.join()
    done.set()
    threads[0].join()
    rows.append(
        {"path": "gRPC", "kind": "slow sender", "sent": slow, "refused": sum(status != "OK" for status in slow_statuses), "still good": 0}
    )
    ours.send("end")
    episodes, peak_mb = ours.recv()
    process.join(30)
    return rows, {
        "crashes": int(process.exitcode != 0),
        "server memory before MB": before_mb,
        "server memory peak MB": peak_mb,
        "honest episodes sent": len(acknowledged),
        "honest episodes acknowledged": min(acknowledged.count("OK"), episodes),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="to the decoder")
    parser.add_argument("--grpc", type=int, default=5000, help="over the network")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[2] / "docs/results/durability/hostile_messages.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        marker = Path(directory) / "executed"
        attacks = Attacks(0, marker)
        each = -(-arguments.messages // len(attacks.kinds))
        rows = decode_all(attacks, dict.fromkeys(attacks.kinds, each))
        network, outcome = over_grpc(attacks, arguments.grpc, slow=8)
        rows += network
        executed = int(marker.exists())
    outcome = {"code executed": executed, **outcome}
    for row in rows:
        row.update(dict.fromkeys(outcome, ""))
    total = {
        "path": "all",
        "kind": "all",
        **{key: sum(int(str(row[key])) for row in rows) for key in ("sent", "refused", "still good")},
        **outcome,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with arguments.output.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(total), lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, total])
    print(total)
    is_well = total["sent"] == int(total["refused"]) + int(total["still good"]) and not executed and not outcome["crashes"]
    return 0 if is_well and outcome["honest episodes sent"] == outcome["honest episodes acknowledged"] else 1


if __name__ == "__main__":
    sys.exit(main())
