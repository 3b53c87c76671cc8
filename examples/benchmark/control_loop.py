"""What our own code costs in each tick of the control loop: everything but the robot's calls, the policy and the sleep.

Two 640x480 cameras at 30 Hz, with limits, a teleoperator that is asked at every tick, and a running episode that is recorded: its images are
encoded beside the loop and written to an outbox. Prints a table and writes it to docs/results/control_loop/control_loop.csv.
"""

import argparse
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.robots import Robot, RobotConfig
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig

from lerobot_serl.actor.chunk import Chunk
from lerobot_serl.actor.controls import Controls
from lerobot_serl.actor.film import Film
from lerobot_serl.actor.outbox import OnlineDataset, Outbox
from lerobot_serl.actor.pace import Pace
from lerobot_serl.actor.robot_io import RobotIo
from lerobot_serl.actor.robot_world import RobotWorld
from lerobot_serl.actor.rollout import Rollout
from lerobot_serl.actor.safety import Limiter, limits_from_demonstrations
from lerobot_serl.actor.settings import TakeoverConfig
from lerobot_serl.actor.takeover import Takeover
from lerobot_serl.replay.part_message import image_shapes

FPS, HEIGHT, WIDTH, HORIZON = 30, 480, 640, 10
NOISE, SCENES = 3.0, 30
KEYS = (*(f"joint_{i}.pos" for i in range(1, 8)), "gripper.pos")
CAMERAS = ("front", "wrist")


class Stopwatch:
    """Time that is not ours."""

    def __init__(self) -> None:
        self.others_s = 0.0

    def around(self, function):  # type: ignore[no-untyped-def]
        """The function, timed."""

        def timed(*arguments):  # type: ignore[no-untyped-def]
            started = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.others_s += time.perf_counter() - started

        return timed


def scenes() -> list[np.ndarray]:
    """Smooth colours, objects with sharp edges, and the noise of a camera."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    base = np.stack([127 + 60 * np.sin(x / 90 + c) + 50 * np.cos(y / 70 - c) for c in range(3)], -1)
    for _ in range(40):
        top, left, height, width = rng.integers((0, 0, 10, 10), (HEIGHT - 80, WIDTH - 80, 80, 80))
        base[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    return [np.clip(base + rng.normal(0, NOISE, base.shape), 0, 255).astype(np.uint8) for _ in range(SCENES)]


class Arm(Robot):
    """Positions follow targets at once; every frame is new."""

    config_class = RobotConfig
    name = "arm"
    observation_features = {**dict.fromkeys(KEYS, float), **dict.fromkeys(CAMERAS, (HEIGHT, WIDTH, 3))}  # noqa: RUF012
    action_features = dict.fromkeys(KEYS, float)
    is_connected = True
    is_calibrated = True

    def __init__(self, watch: Stopwatch) -> None:
        self._scenes, self._count, self._joints = scenes(), 0, dict.fromkeys(KEYS, 0.0)
        self.get_observation, self.send_action = watch.around(self._observe), watch.around(self._send)  # type: ignore[method-assign]

    def _observe(self):  # type: ignore[no-untyped-def]
        self._count += 1
        return {**self._joints, **{name: self._scenes[(self._count + 7 * i) % SCENES] for i, name in enumerate(CAMERAS)}}

    def _send(self, action):  # type: ignore[no-untyped-def]
        self._joints = dict(action)
        return self._joints

    def connect(self, calibrate: bool = True) -> None: ...
    def calibrate(self) -> None: ...
    def configure(self) -> None: ...
    def disconnect(self) -> None: ...
    def get_observation(self): ...  # type: ignore[no-untyped-def]
    def send_action(self, action): ...  # type: ignore[no-untyped-def]


class Leader(Teleoperator):
    """Lies still."""

    config_class = TeleoperatorConfig
    name = "leader"
    action_features = dict.fromkeys(KEYS, float)
    feedback_features: dict = {}  # noqa: RUF012
    is_connected = True
    is_calibrated = True

    def __init__(self) -> None: ...
    def connect(self, calibrate: bool = True) -> None: ...
    def calibrate(self) -> None: ...
    def configure(self) -> None: ...
    def disconnect(self) -> None: ...
    def send_feedback(self, feedback) -> None: ...  # type: ignore[no-untyped-def]
    def get_action(self):  # type: ignore[no-untyped-def]
        return dict.fromkeys(KEYS, 0.0)


def measure(steps: int, directory: Path) -> tuple[np.ndarray, int]:
    """Own time of each tick in milliseconds, ``(steps,)``, and the bytes of the episode's images on disk."""
    watch, ticks = Stopwatch(), []
    arm = Arm(watch)
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (len(KEYS),))}
    inputs |= {f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, HEIGHT, WIDTH)) for name in CAMERAS}
    io = RobotIo("arm", arm.observation_features, arm.action_features, inputs, len(KEYS))
    limits = limits_from_demonstrations(KEYS, [-1.0] * len(KEYS), [1.0] * len(KEYS), [0.2] * len(KEYS), 0.1, 1.5)
    pace = Pace(FPS, sleep=watch.around(time.sleep))
    world = RobotWorld(arm, io, Limiter(limits), [], pace, steps, 0.5, "benchmark")
    takeover = Takeover(Leader(), Controls(), TakeoverConfig(motion_threshold=0.1), 1 / FPS)
    rng = np.random.default_rng(1)

    def act(observation):  # type: ignore[no-untyped-def]
        return Chunk(rng.uniform(-1, 1, (HORIZON, len(KEYS))).astype(np.float32), 0, 0.0)

    poll = takeover.poll

    def marked(measured):  # type: ignore[no-untyped-def]
        ticks.append((time.perf_counter(), watch.others_s))  # the beginning of a tick
        return poll(measured)

    takeover.poll = marked  # type: ignore[method-assign]
    outbox = Outbox(directory, 10**11)
    film = Film("benchmark", outbox.new_parts(OnlineDataset(), "benchmark"), image_shapes(inputs), may_wait=False)
    Rollout(world, watch.around(act), takeover=takeover, film=lambda: film).run_episode()
    outbox.close()
    moments, others = np.array(ticks).T
    return 1000 * (np.diff(moments) - np.diff(others)), film.parts.n_bytes


def main() -> int:
    """Measure, print, write."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--steps", type=int, default=1800)
    command.add_argument("--output", type=Path, default=Path("docs/results/control_loop/control_loop.csv"))
    known = command.parse_args()
    with TemporaryDirectory() as directory:
        own_ms, n_bytes = measure(known.steps, Path(directory))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    row = {"steps": len(own_ms), "median_ms": np.median(own_ms), "p99_ms": np.percentile(own_ms, 99), "worst_ms": own_ms.max(),
           "images_mb": n_bytes / 1e6, "peak_memory_mb": peak_mb}  # fmt: skip
    text = ",".join(row) + "\n" + ",".join(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()) + "\n"
    known.output.parent.mkdir(parents=True, exist_ok=True)
    known.output.write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
