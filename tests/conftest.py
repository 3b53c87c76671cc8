"""What several test files share: tiny LeRobotDatasets, recordings, and a small agent. State only unless a test asks for images."""

import os
import resource
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores: more threads only wait for each other

import datasets
import forkserver
import numpy as np
import pytest
import torch
from datasets.features.features import require_decoding
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_serl.policy.agent import Agent
from lerobot_serl.policy.configuration_serl_sac import ActArchitecture, SerlSacConfig
from lerobot_serl.policy.parts import ActorConfig, CriticConfig, OnlineConfig, StartupConfig
from lerobot_serl.replay.episode import Episode

datasets.disable_progress_bars()


def set_column(features: datasets.Features, name: str, feature: Any) -> None:
    """As the library's own, which looks at all columns again when one is set: with the 70 of an episodes table, a third of opening a dataset."""
    dict.__setitem__(features, name, feature)
    features._column_requires_decoding[name] = require_decoding(feature)


datasets.Features.__setitem__ = set_column

FPS = 10
STATE, ENV_STATE, ACTION = "observation.state", "observation.environment_state", "action"
SIZES = {STATE: 4, ENV_STATE: 3, ACTION: 2}
INPUTS = {
    STATE: PolicyFeature(type=FeatureType.STATE, shape=(4,)),
    ENV_STATE: PolicyFeature(type=FeatureType.ENV, shape=(3,)),
}

Frame = dict[str, Any]


def is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--limit_s", type=float, help="fail a test that takes longer and is not marked slow; see docs/contributing.md")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: whichever worker is free takes the next file, and the short ones fill the end."""
    slow_files = {item.path for item in items if is_slow(item)}
    items.sort(key=lambda item: item.path not in slow_files)


def cpu_s() -> float:
    """Of this process, and of those that it has started or let fork and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used) + sum(server.cpu_s() for server in forkserver.Forkserver.running)


BEGAN = pytest.StashKey[tuple[float, float]]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    forkserver.Popen.forks = item.get_closest_marker("fresh_python") is None
    yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    item.stash[BEGAN] = time.monotonic() - forkserver.Forkserver.beginning_s, cpu_s()
    yield


def takes_too_long(took_s: float, used_s: float, limit_s: float, waiting: float) -> bool:
    """A busy machine stretches the clock: the time of processors counts. Three times as much by the clock, as far as it is not stretched, is sleep.

    Args:
        took_s: by the clock.
        used_s: on processors.
        waiting: processes that want a processor, for each one that there is.
    """
    return used_s > limit_s or took_s > 3 * limit_s * max(1.0, waiting)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ``--limit_s``, an unmarked test has so much time. Fixtures and the begin of a forkserver are shared, and do not count."""
    report = yield
    limit_s = item.config.getoption("limit_s")
    if limit_s and call.when == "call" and report.passed and not is_slow(item):
        began_s, used_s = item.stash[BEGAN]
        took_s, used_s = time.monotonic() - forkserver.Forkserver.beginning_s - began_s, cpu_s() - used_s
        if takes_too_long(took_s, used_s, limit_s, os.getloadavg()[0] / (os.cpu_count() or 1)):
            report.outcome = "failed"
            report.longrepr = (
                f"took {took_s:.1f} s, {used_s:.1f} s of them on a processor: more than {limit_s:g} s. Make it faster, or mark it slow."
            )
    return report


@pytest.fixture(scope="session", autouse=True)
def _forked_python() -> Iterator[None]:
    subprocess.Popen = forkserver.Popen
    yield
    subprocess.Popen = forkserver.FRESH


MakeDataset = Callable[..., LeRobotDataset]


def record_syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Directories that are fsync'd from now on, in order; the calls are made."""
    synced, fsync = [], os.fsync

    def recording(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            synced.append(path)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    return synced


def vector_features() -> dict[str, dict[str, Any]]:
    """The state vectors and the action that every tiny dataset has."""
    return {
        key: {"dtype": "float32", "shape": (size,), "names": [f"{key.rpartition('.')[2]}_{i}" for i in range(size)]}
        for key, size in SIZES.items()
    }


def frames_of(frames: int, mark: float, **columns: Sequence[Any]) -> list[Frame]:
    """One episode whose numbers name episode, frame and feature: ``100 * mark + t``, plus 0, 0.1 or 0.2.

    Args:
        columns: labels, one value for each frame; ``next_reward`` stands for ``next.reward``.
    """
    episode = []
    for t in range(frames):
        frame: Frame = {key: np.full(size, 100 * mark + t + i / 10, np.float32) for i, (key, size) in enumerate(SIZES.items())}
        for name, values in columns.items():
            key = name.replace("_", ".", 1)
            frame[key] = np.array([values[t]], dtype=np.float32 if key == "next.reward" else bool)
        episode.append(frame)
    return episode


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory: pytest.TempPathFactory) -> MakeDataset:
    """``make_dataset(episodes, extra_features=None)``: a real LeRobotDataset, reopened from disk."""

    def make(episodes: Sequence[Sequence[Frame]], extra_features: dict[str, dict[str, Any]] | None = None) -> LeRobotDataset:
        root = tmp_path_factory.mktemp("dataset") / "data"
        features = vector_features() | (extra_features or {})
        for key in episodes[0][0].keys() - features.keys():
            features[key] = {"dtype": "float32" if key == "next.reward" else "bool", "shape": (1,), "names": None}
        dataset = LeRobotDataset.create("test/tiny", fps=FPS, features=features, root=root, use_videos=False)
        for episode in episodes:
            for frame in episode:
                dataset.add_frame({**frame, "task": "touch the dot"})
            dataset.save_episode()
        dataset.finalize()
        return LeRobotDataset("test/tiny", root=root)

    return make


@pytest.fixture(scope="session")
def demonstrations(make_dataset: MakeDataset) -> LeRobotDataset:
    """Three labelled episodes of 5, 4 and 6 frames: success, time limit, success."""

    def flags(frames: int, *at: int) -> list[bool]:
        return [t in at for t in range(frames)]

    return make_dataset(
        [
            frames_of(5, 1, next_reward=flags(5, 4), next_success=flags(5, 4), next_done=flags(5, 4)),
            frames_of(4, 2, next_reward=flags(4), next_success=flags(4), next_done=flags(4, 3)),
            frames_of(6, 3, next_reward=flags(6, 5), next_success=flags(6, 5), next_done=flags(6, 5)),
        ]
    )


def make_recording(frames: int = 5, end: str = "terminated", mark: float = 1.0, success: bool = True, **changes: Any) -> Episode:
    """A recording whose numbers name it; ``end`` is "terminated", "truncated" or "data end"."""
    t = torch.arange(frames, dtype=torch.float32)
    reward = torch.zeros(frames)
    reward[-1] = float(end == "terminated" and success)
    values: dict[str, Any] = {
        "observation": {key: (100 * mark + t).unsqueeze(-1).repeat(1, SIZES[key]) for key in (STATE, ENV_STATE)},
        "action": (t / frames + mark).unsqueeze(-1).repeat(1, SIZES[ACTION]),
        "reward": reward,
        "intervention": t % 2 == 1,
        "terminated": end == "terminated",
        "truncated": end == "truncated",
        "task": "touch the dot",
        "info": {"actor": "test", "policy_version": 7, "edit_rms": 0.25},
        "plan_age": t.long() % 4 - 1,
    } | changes
    return Episode(**({"plan_action": values["action"] - 2.0 * mark} | values))


def fresh_chunk(policy: Any, observation: Any) -> Any:
    """What a policy does at an observation from a plan that it makes there."""
    policy.see(observation)
    policy.moved()
    return policy.act(observation)


def assert_same_recording(one: Episode, two: Episode, words: bool = True) -> None:
    """Equal to the bit, dtypes included; ``words``: task and info too."""
    assert one.observation.keys() == two.observation.keys()
    pairs = [(one.observation[key], two.observation[key]) for key in one.observation]
    columns = ("action", "reward", "intervention", "plan_action", "plan_age")
    for a, b in [*pairs, *((getattr(one, name), getattr(two, name)) for name in columns)]:
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    assert (one.terminated, one.truncated) == (two.terminated, two.truncated)
    if words:
        assert (one.task, dict(one.info)) == (two.task, dict(two.info))


def small_config(**changes: Any) -> SerlSacConfig:
    """A policy small enough to build in a moment; chunks of 4 steps, 3 of them executed."""
    architecture = ActArchitecture(
        chunk_size=4, dim_model=16, n_heads=2, dim_feedforward=16, n_encoder_layers=1, n_decoder_layers=1, latent_dim=4
    )
    values: dict[str, Any] = {
        "input_features": dict(INPUTS),
        "output_features": {ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(2,))},
        "device": "cpu",
        "base": "act",
        "act": architecture,
        "horizon": 3,
        "actor": ActorConfig(hidden_sizes=(16,)),
        "critic": CriticConfig(members=3, hidden_sizes=(16,)),
        "startup": StartupConfig(collect_steps=10, critic_updates=20, ramp_updates=4),
        "online": OnlineConfig(),
        "clipped_share": 1.0,  # the small agent's box is not of these datasets
    }
    return SerlSacConfig(**(values | changes))


def small_agent(config: SerlSacConfig, seed: int = 0) -> Agent:
    """An agent whose every tensor is random, also those that start at zero."""
    torch.manual_seed(seed)
    agent = Agent(config)
    with torch.no_grad():
        for parameter in [*agent.actor.parameters(), *agent.critic.parameters()]:
            parameter.add_(0.2 * torch.randn_like(parameter))
    agent.box.set_from_range(torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 1.0]), 0.2, 0.02)
    return agent
