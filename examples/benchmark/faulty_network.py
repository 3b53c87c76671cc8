"""An hour of robot time through a network that drops, delays, cuts, reorders, repeats and changes bytes.

A learner in `lerobot-train`, a robot side that stores and sends episodes of six seconds as fast as they are taken, and between the two a proxy
that harms what passes in both directions, the weights included. In the end the network is good again, everything is delivered, and the dataset
is compared with what was sent. Writes how many episodes came, how many were lost, doubled or changed, and how often each fault happened.

python examples/benchmark/faulty_network.py --episodes 600
"""

import argparse
import csv
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent))

from kills import Ground

FRAMES = 60  # six seconds at 10 Hz
BLOCK_BYTES = 2048
LONGEST_DELAY_S = 1.0
COLUMNS = ("episodes", "lost", "doubled", "refused", "connections", "blocks")


class Harm:
    """What happens to blocks of bytes; deterministic in the seed and the number of the block.

    Args:
        rate: share of the blocks that is harmed.
        seed: of the choice.
    """

    def __init__(self, rate: float, seed: int) -> None:
        self.rate, self.counts, self.n_blocks = rate, Counter[str](), 0
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._faults: dict[str, Callable[[bytes], list[bytes]]] = {
            "dropped": lambda block: [],
            "delayed": lambda block: [block],
            "cut": lambda block: [block[: len(block) // 2]],
            "reordered": lambda block: [block[len(block) // 2 :], block[: len(block) // 2]],
            "repeated": lambda block: [block, block],
            "changed": lambda block: [self._changed(block)],
        }

    def of(self, block: bytes) -> tuple[list[bytes], bool]:
        """What is passed on instead of a block, and whether the connection goes on."""
        with self._lock:
            self.n_blocks += 1
            if self._random.random() >= self.rate:
                return [block], True
            fault = self._random.choice(sorted(self._faults))
            self.counts[fault] += 1
            delay_s = self._random.uniform(0.1, LONGEST_DELAY_S) if fault == "delayed" else 0.0
            harmed = self._faults[fault](block)
        time.sleep(delay_s)
        return harmed, fault != "cut"

    def _changed(self, block: bytes) -> bytes:
        at = self._random.randrange(len(block))
        return block[:at] + bytes([block[at] ^ (1 << self._random.randrange(8))]) + block[at + 1 :]


class FaultyNetwork:
    """A TCP proxy on loopback in front of a port.

    Attributes:
        port: where it listens.
        n_connections: so far.
    """

    def __init__(self, target: int, harm: Harm) -> None:
        self._target, self._harm, self.n_connections = target, harm, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # no learner
                near.close()
                continue
            self.n_connections += 1
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            goes_on = True
            while goes_on and (block := source.recv(BLOCK_BYTES)):
                parts, goes_on = self._harm.of(block)
                for part in parts:
                    sink.sendall(part)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def measure(root: Path, episodes: int, rate: float, seed: int, output: Path) -> bool:
    """All episodes; whether each came once, as it was sent."""
    ground, harm = Ground(root, seed, FRAMES), Harm(0.0, seed)
    network = FaultyNetwork(ground.port, harm)
    ground.robots_port = network.port
    ground.prepare()
    try:
        ground.start()
        ground.wait_for_episodes(1)  # a whole policy is hundreds of blocks, and would not come through in one piece
        harm.rate = rate
        with tqdm(total=episodes, desc="Episodes", unit="episode") as bar:
            while ground.n_acknowledged < episodes:
                ground.wait_for_episodes(1)
                bar.update(min(ground.n_acknowledged, episodes) - bar.n)
        harm.rate = 0.0
        acknowledged, lost, doubled = ground.finish()
    finally:
        ground.kill_all()
    refused = len(list(root.glob("*/spool/*/refused/*"))) + len(list(root.glob("online.journal/damaged/*")))
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", encoding="utf-8", newline="") as file:
        faults = sorted(harm.counts)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*COLUMNS, *faults))
        writer.writerow(
            (acknowledged, lost, doubled, refused, network.n_connections, harm.n_blocks, *(harm.counts[name] for name in faults))
        )
    print(f"{acknowledged} episodes, {sum(harm.counts.values())} of {harm.n_blocks} blocks harmed, {network.n_connections} connections: "
          f"{lost} lost, {doubled} doubled, {refused} refused")  # fmt: skip
    return lost == doubled == refused == 0


def main() -> int:
    """Measure and write."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--root", type=Path, default=Path("outputs/faulty_network"))
    command.add_argument("--episodes", type=int, default=600)
    command.add_argument("--rate", type=float, default=0.02, help="share of the blocks of bytes that is harmed")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--output", type=Path, default=Path("docs/results/durability/faulty_network.csv"))
    known = command.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return 0 if measure(known.root, known.episodes, known.rate, known.seed, known.output) else 1


if __name__ == "__main__":
    sys.exit(main())
