"""How fast the parts are, beside LeRobot's own where it has them, all in one run. Writes docs/results/speed/speed.csv.

    python examples/benchmark/speed.py
    python examples/benchmark/speed.py --turns=40    # bare training steps of equal sizes only, by processor time: also on a busy machine; updates.csv

The training steps compared are of LeRobot's algorithm, SAC on single steps, in both: batch 256, two hidden layers of 256, four numbers an action,
actor and temperature at every update; so ours goes without ACT's chunk as a second candidate in the target. LeRobot's networks have an encoder in
front, of 256 numbers for each vector that is observed, which makes its critics 2.7 times as large as ours; "equal sizes" is with an encoder of 11
numbers, so that both have as many weights.
Once bare, as LeRobot's training step always is here: called in a loop, without what its own learner does around it; and once inside
`lerobot-train`, with everything that does.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from lerobot.rl.buffer import ReplayBuffer, random_shift
from lerobot.utils.constants import OBS_STATE
from study.base import Base, frozen_policy, make_base
from study.methods.lerobot_sac import LeRobotSac
from study.methods.serl import make_policy, merged, training_step
from study.plan import Plan, Variant
from study.practice import Logbook
from study.results import describe_machine, write_json
from study.run import Run
from study.tasks import TASKS

from lerobot_serl.actor.client import LearnerClient
from lerobot_serl.actor.planned_policy import PlannedPolicy
from lerobot_serl.online.server import EpisodeReceipt, LearnerServer
from lerobot_serl.online.weights import WeightPublisher
from lerobot_serl.replay.episode import ActedAs, Episode
from lerobot_serl.replay.memory import ReplayMemory
from lerobot_serl.report.metrics_files import MetricsDirectory

BATCH_SIZE, UPDATES = 256, 1000
TURN = 10
# Critics of 73,985 weights in LeRobot's networks, of 73,729 in ours.
EQUAL_LATENT_DIM = 11
CAMERAS = ("observation.images.front", "observation.images.wrist")
SIZE_PX, FRAMES, EPISODE_FRAMES = 128, 1000, 100
REPOSITORY = Path(__file__).parents[2]
STOCK_SAC: dict[str, Any] = {
    "horizon": 1, "policy_delay": 1, "actor": {"candidates": False, "pessimism": 0.0}, "critic": {"prior_steps": 0},
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One row of the table; ``lerobot`` is None where it has nothing to compare."""

    quantity: str
    ours: float
    lerobot: float | None
    unit: str


def median_s(call: Callable[[], object], count: int) -> float:
    """Wall time of one call, after two that do not count."""
    return medians_s([call], count)[0]


def medians_s(calls: Sequence[Callable[[], object]], count: int) -> list[float]:
    """Wall time of one call of each, in turns of ten: a processor's speed changes within seconds, and then it changes for all of them."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
        call()
    for done in range(0, count, TURN):
        for call, its_times in zip(calls, times, strict=True):
            for _ in range(min(TURN, count - done)):
                started = time.perf_counter()
                call()
                its_times.append(time.perf_counter() - started)
    return [sorted(its_times)[count // 2] for its_times in times]


def median_ratio(ours: Callable[[], object], lerobots: Callable[[], object], turns: int) -> tuple[float, float, float]:
    """Milliseconds of processor time of a call of each, and the median over the turns of how many of ours fit into one of LeRobot's."""
    times: list[tuple[float, ...]] = []
    for _ in range(turns + 1):
        turn = []
        for call in (ours, lerobots):
            started = time.process_time()
            for _ in range(TURN):
                call()
            turn.append(1000 * (time.process_time() - started) / TURN)
        times.append(tuple(turn))
    columns = list(zip(*times[1:], strict=True))  # the first turn does not count
    ratios = sorted(theirs / own for own, theirs in times[1:])
    return sorted(columns[0])[turns // 2], sorted(columns[1])[turns // 2], ratios[turns // 2]


def write_ratios(path: Path, base: Base, root: Path, turns: int) -> None:
    """Of bare training steps with as many weights on both sides."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(("critics", "ours_ms", "lerobot_ms", "ratio"))
        for members in (2, 10):
            settings = merged(STOCK_SAC, {"critic": {"members": members}})
            found = median_ratio(bare(base, root, settings), lerobots(base, root, members, EQUAL_LATENT_DIM), turns)
            rows.writerow((members, *(round(number, 2) for number in found)))
            print(f"{members} critics: {found[0]:.2f} ms, LeRobot {found[1]:.2f} ms, ratio {found[2]:.2f}", flush=True)


def lerobot_train(base: Base, run: Path, steps: int, *flags: str) -> None:
    """An offline run of `lerobot-train` in a process of its own."""
    fixed = (
        "--policy.type=serl_sac", f"--policy.act_path={base.act}", "--policy.device=cpu", "--policy.push_to_hub=false", "--batch_size=1",
        f"--dataset.repo_id={base.meta.repo_id}", f"--dataset.root={base.demonstrations}", f"--output_dir={run}", "--num_workers=0",
        f"--steps={steps}", "--save_checkpoint=false", "--env_eval_freq=0", "--log_freq=0", "--policy.startup.critic_updates=0",
        "--policy.metrics_period_s=2",
    )  # fmt: skip
    command = [sys.executable, "-m", "lerobot.scripts.lerobot_train", *fixed, *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True)


def updates(base: Base, root: Path) -> Iterator[Line]:
    """Critic updates per second."""
    for members in (2, 10):
        settings = merged(STOCK_SAC, {"critic": {"members": members}})
        steps = (bare(base, root, settings), lerobots(base, root, members, EQUAL_LATENT_DIM), lerobots(base, root, members))
        ours, equal, stock = (1.0 / seconds for seconds in medians_s(steps, UPDATES // 5))
        yield Line(f"training steps, {members} critics, equal sizes", ours, equal, "1/s")
        yield Line(f"the same inside lerobot-train, {members} critics", inside(base, root / f"updates_{members}", settings), equal, "1/s")
        yield Line(f"training steps, {members} critics, LeRobot's own sizes there", ours, stock, "1/s")
    default = bare(base, root, {})
    # Two at a time: with the default the actor takes part in every second.
    yield Line("training steps with this project's defaults", 2.0 / median_s(lambda: (default(), default()), UPDATES // 10), None, "1/s")
    yield Line("the same inside lerobot-train", inside(base, root / "updates_default", {}), None, "1/s")


def lerobots(base: Base, root: Path, members: int, latent_dim: int | None = None) -> Callable[[], object]:
    """A training step of LeRobot's algorithm."""
    learner = LeRobotSac(_run_of(base, root), members, latent_dim)
    learner.add(learner.demonstrated[0])
    return learner.update


def bare(base: Base, root: Path, settings: Mapping[str, Any]) -> Callable[[], object]:
    """A training step on the demonstrations, the actor included from the first one on."""
    run = _run_of(base, root)
    fixed = {"act_path": str(base.act), "online": {"repo_id": None}, "startup": {"critic_updates": 0}}
    return training_step(run, make_policy(run, merged(fixed, settings)))[1]


def inside(base: Base, run: Path, settings: Mapping[str, Any]) -> float:
    """Updates per second of an offline run of `lerobot-train`."""
    lerobot_train(base, run, UPDATES, *(f"--policy.{name}={value}" for name, value in _flat(settings)))
    rates = sorted(float(rate) for rate in MetricsDirectory(run).load().learner["updates_per_s"])
    return rates[len(rates) // 2]


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """``{"critic": {"members": 2}}`` -> ``("critic.members", 2)``."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", it) for inner, it in _flat(value))
        else:
            yield name, value


def replay() -> Iterator[Line]:
    """Adding, sampling and bytes, with two cameras."""
    generator = torch.Generator().manual_seed(0)
    memory = ReplayMemory(2 * FRAMES, horizon=1, discount=0.97)
    theirs = ReplayBuffer(2 * FRAMES, "cpu", [OBS_STATE, *CAMERAS], random_shift, optimize_memory=True)
    images = torch.randint(0, 256, (EPISODE_FRAMES, 3, SIZE_PX, SIZE_PX), dtype=torch.uint8, generator=generator)
    columns = {"features": torch.randn(EPISODE_FRAMES, 18), "base": torch.zeros(EPISODE_FRAMES, 1, 4), **dict.fromkeys(CAMERAS, images)}
    action, nothing = torch.zeros(EPISODE_FRAMES, 4), torch.zeros(EPISODE_FRAMES)
    episode = Episode({}, action, nothing, torch.zeros(EPISODE_FRAMES, dtype=torch.bool), terminated=False, truncated=True, cached=columns)
    states = [{OBS_STATE: torch.randn(1, 18), **{key: images[i : i + 1].float() / 255 for key in CAMERAS}} for i in range(EPISODE_FRAMES)]

    def add_theirs() -> None:
        for index, state in enumerate(states):
            theirs.add(state, action[index : index + 1], 0.0, state, done=False, truncated=False)

    count = FRAMES // EPISODE_FRAMES
    adds = medians_s((lambda: memory.add(episode), add_theirs), count)
    yield Line("replay: add a step", *(EPISODE_FRAMES / seconds for seconds in adds), "1/s")
    samples = medians_s((lambda: memory.sample(BATCH_SIZE, generator), lambda: theirs.sample(BATCH_SIZE)), 2 * TURN)
    yield Line("replay: sample 256 with random shift", *(1.0 / seconds for seconds in samples), "1/s")
    their_bytes = sum(
        value[0].numel() * value.element_size() for value in (*theirs.states.values(), theirs.actions, theirs.rewards, theirs.dones)
    )
    yield Line("replay: memory of a step", memory.bytes_per_frame, their_bytes, "bytes")


def policy(base: Base) -> Iterator[Line]:
    """ACT's annotation, acting, and how long new weights take to the robot."""
    made = frozen_policy(base.act, base.task.horizon)
    made.config.online.repo_id = "local/speed"
    agent, generator = made.agent, torch.Generator().manual_seed(0)
    observation = {key: torch.zeros(feature.shape) for key, feature in (made.config.input_features or {}).items()}
    many = {key: value.expand(64, *value.shape) for key, value in observation.items()}
    yield Line(
        "ACT annotation of recorded frames (state ACT, 170k parameters)", 64 / median_s(lambda: agent.cache_features(many), 50), None, "1/s"
    )
    act_s = median_s(lambda: agent.cache_features({key: value[:1] for key, value in many.items()}), 200)
    rollout = PlannedPolicy(agent)

    def decide() -> None:
        rollout.see(observation)
        rollout.moved()  # so that it plans anew
        rollout.decide(lambda features, base: agent.explore(features, base, True, generator), ActedAs.EXPLORING)

    whole_s = median_s(decide, 200)
    yield Line("one decision of the collecting policy", 1000 * whole_s, None, "ms")
    yield Line("of it ACT's own forward pass", 1000 * act_s, None, "ms")
    yield from _push(made)


def _push(made: object) -> Iterator[Line]:
    publisher = WeightPublisher(made.agent, made.config, fps=10)  # type: ignore[attr-defined]
    publisher.publish("actor", 0, 0)
    server = LearnerServer(
        "127.0.0.1", 0, publisher, lambda data: EpisodeReceipt("", 0, False), lambda: None, largest_message_bytes=1 << 20
    )
    server.start()
    client = LearnerClient(server.address, patience_s=20)
    try:
        client.connect()

        def push() -> None:
            publisher.publish("actor", 0, 0)
            while client.newer_weights() is None:
                time.sleep(0.0005)

        latency_s = median_s(push, 20)
        snapshot = publisher.wait_for_newer(0, 1.0)
        assert snapshot is not None
        yield Line("weights: publish to arrival on the robot side (loopback)", 1000 * latency_s, None, "ms")
        yield Line("weights: size of a push", len(publisher.message(snapshot, whole_policy=False)), None, "bytes")
    finally:
        client.close()
        server.stop()


def starting(base: Base, root: Path) -> Iterator[Line]:
    """Seconds until something happens."""
    checkpoint = frozen_policy(base.act, base.task.horizon)
    yield Line("checkpoint: write the policy's files", 1000 * median_s(lambda: checkpoint.save_pretrained(root / "saved"), 10), None, "ms")
    started = time.perf_counter()
    lerobot_train(base, root / "first", 1)
    yield Line("lerobot-train, start to end of the first update", time.perf_counter() - started, None, "s")
    code = "import time, lerobot.policies, torch; t = time.perf_counter(); import lerobot_policy_serl_sac; print(time.perf_counter() - t)"
    imports = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout for _ in range(5)]
    yield Line("import of the plugin, beyond LeRobot's own", 1000 * sorted(map(float, imports))[2], None, "ms")


def _run_of(base: Base, root: Path) -> Run:
    variant = Variant("speed", "lerobot_sac")
    return Run(Plan("speed", "pick_cube_ee", (0,), 1, 1, 1, {"speed": variant}), variant, base, root, Logbook(0))


def main() -> None:
    """Measure, print and write."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "results" / "speed" / "speed.csv")
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("--turns", type=int, default=0, help="only bare training steps of equal sizes, in so many turns of ten")
    settings = command.parse_args()
    torch.set_num_threads(settings.threads)
    task = replace(TASKS["pick_cube_ee"], act_steps=(100,), act_range=(0.0, 1.0))
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        base = make_base(root / "base", task, seed=0)
        settings.output.parent.mkdir(parents=True, exist_ok=True)
        if settings.turns:
            write_ratios(settings.output.with_name("updates.csv"), base, root, settings.turns)
            return
        lines = []
        for line in chain(replay(), policy(base), updates(base, root), starting(base, root)):
            lines.append(line)
            beside = "" if line.lerobot is None else f"   LeRobot {line.lerobot:,.1f}   ratio {line.ours / line.lerobot:.2f}"
            print(f"{line.quantity}: {line.ours:,.1f} {line.unit}{beside}", flush=True)
    with settings.output.open("w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(("quantity", "ours", "lerobot", "unit"))
        rows.writerows(
            (line.quantity, round(line.ours, 3), "" if line.lerobot is None else round(line.lerobot, 3), line.unit) for line in lines
        )
    write_json(settings.output.with_name("meta.json"), {**describe_machine(REPOSITORY), "threads": settings.threads})
    print(f"\n{table(read_lines(settings.output))}")


def read_lines(path: Path) -> list[Line]:
    """What an earlier run wrote."""
    with path.open(newline="", encoding="utf-8") as handle:
        return [
            Line(row["quantity"], float(row["ours"]), float(row["lerobot"]) if row["lerobot"] else None, row["unit"])
            for row in csv.DictReader(handle)
        ]


def table(lines: Iterable[Line]) -> str:
    """For the documentation."""
    rows = ["| quantity | here | LeRobot | ratio | unit |", "|---|---|---|---|---|"]
    for line in lines:
        compared = ("", "") if line.lerobot is None else (_short(line.lerobot), f"{line.ours / line.lerobot:.2f}")
        rows.append(f"| {line.quantity} | {_short(line.ours)} | {' | '.join(compared)} | {line.unit} |")
    return "\n".join(rows)


def _short(number: float) -> str:
    """Three digits, more before the point if there are more."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


if __name__ == "__main__":
    main()
