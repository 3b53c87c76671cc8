"""What plans, features and updates cost on a machine, for a small ACT of states and a full-size ACT with two cameras. Random weights.

    python examples/benchmark/hardware.py                                      # prints a table
    python examples/benchmark/hardware.py --output=docs/results/hardware/hardware.csv
    python examples/benchmark/hardware.py --side=96 --many=6                     # smaller cameras, to print alone

The small one is the quickstart's. The full-size one has LeRobot's defaults: dim_model 512, chunks of 100, a ResNet-18, cameras of 480x640. Its actor
and critics see the backbone's features (features=auto), an encoder of their own (cnn), or the state alone. On a CPU it is processor time of one
thread, which other processes do not lengthen much. Rows of another device in the file stay.
"""

import argparse
import csv
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from study.results import describe_machine, replace_measured, write_json
from torch import Tensor

from lerobot_serl.policy.agent import Agent
from lerobot_serl.policy.configuration_serl_sac import ActArchitecture, SerlSacConfig
from lerobot_serl.policy.construction import settle_image_size
from lerobot_serl.policy.parts import StartupConfig
from lerobot_serl.policy.progress import Progress
from lerobot_serl.replay.episode import Episode
from lerobot_serl.replay.memory import BASE, FEATURES, SPAN, ReplayMemory
from lerobot_serl.replay.sampler import UniformSampler

REPOSITORY = Path(__file__).parents[2]
SMALL, FULL = "small ACT", "full-size ACT"
STATE, ENVIRONMENT, CAMERAS = "observation.state", "observation.environment_state", ("observation.images.front", "observation.images.wrist")
CAMERA_SIZE, FRAMES = (480, 640), 200
# A frame's features are made a few frames at a time: `feature_cache.LARGEST_BATCH_BYTES` of images, or `BATCH_FRAMES` of them.
TOGETHER = {SMALL: 64, FULL: 9}
MEAN_STD = dict.fromkeys(("VISUAL", "STATE", "ENV", "ACTION"), NormalizationMode.MEAN_STD)
SMALL_ACT = ActArchitecture(
    10, dim_model=64, n_heads=4, dim_feedforward=256, n_encoder_layers=1, latent_dim=8, normalization_mapping=MEAN_STD
)


@dataclass(frozen=True)
class Line:
    """One row; ``p90`` is the median again where nothing varies."""

    device: str
    policy: str
    features: str
    quantity: str
    median: float
    p90: float
    unit: str


def agent_of(policy: str, features: str, device: str, camera_size: tuple[int, int] = CAMERA_SIZE, image_size: int | None = None) -> Agent:
    """With random weights, the actor about to learn; ``image_size``: of an encoder of their own, as `policy.image_size`."""
    small = policy == SMALL
    kinds = {STATE: (FeatureType.STATE, (18 if small else 14,))}
    kinds |= {ENVIRONMENT: (FeatureType.ENV, (3,))} if small else dict.fromkeys(CAMERAS, (FeatureType.VISUAL, (3, *camera_size)))
    act = SMALL_ACT if small else ActArchitecture()
    torch.manual_seed(0)
    config = SerlSacConfig(
        device=device, push_to_hub=False, base="act", act=act, features=features, image_size=image_size, n_action_steps=act.chunk_size,
        startup=StartupConfig(collect_steps=0, critic_updates=0),
        input_features={key: PolicyFeature(kind, shape) for key, (kind, shape) in kinds.items()},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (4 if small else 14,))},
    )  # fmt: skip
    settle_image_size(config)
    return Agent(config).to(device)


def observation_of(agent: Agent, rows: int) -> dict[str, Tensor]:
    """As the robot's, ``(rows, ...)``."""
    shapes = {key: feature.shape for key, feature in (agent.config.input_features or {}).items()}
    return {key: torch.rand((rows, *shape), device=agent.box.middle.device) for key, shape in shapes.items()}


def filled_memory(agent: Agent, frames: int) -> ReplayMemory:
    """Of one episode of noise."""
    memory = ReplayMemory(frames, agent.horizon, discount=0.97, device=agent.box.middle.device)
    action, zeros = torch.rand(frames, agent.action_dim), torch.zeros(frames)
    images = {key: torch.zeros((frames, *shape), dtype=torch.uint8) for key, shape in agent.picture_shapes.items()}
    spans = {SPAN: torch.full((frames,), agent.horizon)} if agent.execution.is_open else {}
    base = torch.rand(frames, agent.horizon, agent.action_dim)
    cached = {FEATURES: torch.randn(frames, agent.features.size), BASE: base, "action": action, **spans, **images}
    memory.add(Episode({}, action, zeros, zeros.bool(), terminated=False, truncated=True, cached=cached))
    return memory


def learning_step(agent: Agent) -> Callable[[], object]:
    """Two updates with their batches, half of each of demonstrations: the actor takes part in every second."""
    learning = agent.begin_learning(Progress(agent.config), seed=0)
    sampler = UniformSampler(filled_memory(agent, FRAMES), filled_memory(agent, FRAMES), agent.config.batch_size, 0.5)
    return lambda: [agent.update(sampler.sample(learning.generator)) for _ in range(2)]


def times_ms(call: Callable[[], object], count: int, device: str) -> tuple[float, float]:
    """Median and 90th percentile, after two calls that do not count: of processor time on a CPU, of wall time elsewhere."""
    clock, times = time.process_time if device == "cpu" else time.perf_counter, []
    for _ in range(count + 2):
        started_s = clock()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(1000 * (clock() - started_s))
    times = sorted(times[2:])
    return times[len(times) // 2], times[int(0.9 * len(times))]


class Bench:
    """One agent on one device."""

    def __init__(
        self,
        policy: str,
        features: str,
        device: str,
        few: int,
        many: int,
        camera_size: tuple[int, int] = CAMERA_SIZE,
        image_size: int | None = None,
    ) -> None:
        self.agent, self._few, self._many = agent_of(policy, features, device, camera_size, image_size), few, many
        size = self.agent.config.image_size
        name = features if size is None else f"{features}, {size} px"
        self._line = lambda quantity, median, p90, unit: Line(device, policy, name, quantity, median, p90, unit)
        self._one, self._together, self._device = observation_of(self.agent, 1), TOGETHER[policy], device

    def lines(self, whole: bool) -> Iterator[Line]:
        """All quantities; else those that depend on what actor and critics see."""
        agent, one, explorer = self.agent, self._one, torch.Generator().manual_seed(0)
        tensors = {name: value.detach() for name, value in (*agent.named_parameters(), *agent.named_buffers())}
        if whole:
            yield from self._sizes("base policy", [value for name, value in tensors.items() if name.startswith("act.")])
        yield from self._sizes("what learns, targets included", [value for name, value in tensors.items() if not name.startswith("act.")])
        plan = agent.plan(one)
        features, base = agent.look(one, plan.features, 1), plan.actions[:, : agent.horizon]
        if whole:
            yield self._time("a plan", lambda: agent.plan(one), self._few)
        yield self._time("features of the newest frame", lambda: agent.look(one, plan.features, 1), self._few)
        yield self._time("a decision of actor and critics", lambda: agent.explore(features, base, True, explorer), self._many)
        rows = observation_of(agent, self._together)
        # Where no plan outlives a decision every frame has its own.
        remember = (
            (lambda: agent.frozen_features(rows, rows[STATE], 1)) if agent.execution.is_open else (lambda: agent.cache_features(rows))
        )
        yield self._time("a recorded frame, computed for learning", remember, max(self._few // 3, 1), self._together)
        frame_bytes = filled_memory(agent, 2).bytes_per_frame
        yield self._line("a frame in the replay memory", frame_bytes, frame_bytes, "bytes")
        yield self._time("an update, 256 windows", learning_step(agent), self._many // 2, 2)

    def _sizes(self, what: str, tensors: Sequence[Tensor]) -> Iterator[Line]:
        for quantity, number, unit in (
            ("parameters", sum(t.numel() for t in tensors), "million"),
            ("memory", sum(t.nbytes for t in tensors), "MB"),
        ):
            yield self._line(f"{quantity} of {what}", number / 1e6, number / 1e6, unit)

    def _time(self, quantity: str, call: Callable[[], object], count: int, parts: int = 1) -> Line:
        """Of each of the ``parts`` that a call makes."""
        median, p90 = times_ms(call, count, self._device)
        return self._line(quantity, median / parts, p90 / parts, "ms")


def measured(device: str, few: int, many: int, side: int | None = None) -> Iterator[Line]:
    """The small ACT, then the full-size one with each kind of features; with ``side`` cameras of so many pixels, as far as they matter."""
    if side is not None:
        for features, image_size in (("auto", None), ("cnn", None), ("cnn", side)):
            yield from Bench(FULL, features, device, few, many, (side, side), image_size).lines(whole=False)
        return
    yield from Bench(SMALL, "auto", device, 10 * few, many).lines(whole=True)
    for features in ("auto", "cnn", "state"):
        yield from Bench(FULL, features, device, few, many).lines(whole=features == "auto")


def read_lines(path: Path) -> list[Line]:
    """What an earlier run wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [Line(**{**row, "median": float(row["median"]), "p90": float(row["p90"])}) for row in csv.DictReader(file)]  # type: ignore[arg-type]


def table(lines: Sequence[Line]) -> str:
    """For the documentation, of one device: the median, and in brackets what 90 % stay below."""
    columns = list(dict.fromkeys((line.policy, line.features) for line in lines))
    found = {(line.quantity, line.unit, line.policy, line.features): line for line in lines}
    rows = [
        f"| quantity | unit | {' | '.join(f'{policy}, `{features}`' for policy, features in columns)} |",
        "|" + "---|" * (2 + len(columns)),
    ]
    for quantity, unit in dict.fromkeys((line.quantity, line.unit) for line in lines):
        cells = [_cell(found.get((quantity, unit, *column))) for column in columns]
        rows.append(f"| {quantity} | {unit} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(line: Line | None) -> str:
    if line is None:
        return ""
    return _short(line.median) if line.p90 == line.median else f"{_short(line.median)} ({_short(line.p90)})"


def _short(number: float) -> str:
    """Three digits, more before the point if there are more."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def main() -> None:
    """Measure and print; write where asked to."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--device", default="cpu")
    command.add_argument("--few", type=int, default=10, help="plans and features of the full-size ACT")
    command.add_argument("--many", type=int, default=100, help="decisions and updates")
    command.add_argument(
        "--side", type=int, help="height and width of the cameras, in pixels; default: 480x640, and everything is measured"
    )
    command.add_argument("--output", type=Path, help="file to write; default: none")
    settings = command.parse_args()
    if settings.side is not None and settings.output is not None:
        command.error("--side is to look at; --output takes what is measured without it")
    torch.set_num_threads(1)
    machine = {**describe_machine(REPOSITORY), "threads": 1, "device": settings.device}
    lines = []
    for line in measured(settings.device, settings.few, settings.many, settings.side):
        lines.append(line)
        print(
            f"{line.policy}, features={line.features}: {line.quantity}: {line.median:,.3f} (90 %: {line.p90:,.3f}) {line.unit}", flush=True
        )
    print(f"\n{table(lines)}")
    if settings.output is not None:
        names = [item.name for item in fields(Line)]
        rows: list[dict[str, Any]] = [{name: _rounded(getattr(line, name)) for name in names} for line in lines]
        replace_measured(settings.output, rows, ["device"])
        write_json(settings.output.with_name(f"meta_{settings.device}.json"), machine)


def _rounded(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # a random ACT warns that it is one
    main()
