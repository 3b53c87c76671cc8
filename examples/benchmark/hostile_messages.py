"""Hostile messages against the learner: does it live, does it stay small, do honest actors go on?

Most messages go straight to the decoder, the rest over gRPC to a real server in a process of its own, while an honest actor sends episodes.
Prints a table and writes it to docs/results/durability/hostile_messages.csv.
"""

import argparse
import csv
import multiprocessing
import resource
import sys
import tempfile
import threading
import time
import uuid
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
import torch
from lerobot.transport import services_pb2, services_pb2_grpc

from lerobot_serl.message_header import MessageError
from lerobot_serl.online.limits import ServerLimits
from lerobot_serl.online.server import EpisodeReceipt, LearnerServer
from lerobot_serl.replay.episode import Episode
from lerobot_serl.replay.episode_message import decode_episode, encode_episode, largest_message_bytes
from lerobot_serl.secure_channel import open_channel
from lerobot_serl.transport import ACTOR_KEY, PROTOCOL, PROTOCOL_KEY, SESSION_KEY, split

sys.path.insert(0, str(Path(__file__).parent))

from hostile_attacks import ACTION_DIM, CHANGED, INPUTS, STATE, Attacks, good_episode


def is_sound(recording: Episode) -> bool:
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
                _, recording = decode_episode(data, INPUTS, ACTION_DIM)
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
        episode, recording = decode_episode(data, INPUTS, ACTION_DIM)
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
            data = encode_episode(good_episode(), uuid.uuid4().hex)
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
