"""Hooks and fixtures of all tests. It imports nothing heavy: the process that only hands out files to workers reads it, too."""

import os
import resource
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores: more threads only wait for each other

import forkserver
import pytest

if TYPE_CHECKING:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from processes import Processes


def is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--limit_s", type=float, help="fail a test that takes longer and is not marked slow; see docs/contributing.md")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose every test is slow first, then those with most slow tests: whichever worker is free takes the next, and short ones fill the end."""
    tests, slow = Counter(item.path for item in items), Counter(item.path for item in items if is_slow(item))
    items.sort(key=lambda item: (slow[item.path] < tests[item.path], -slow[item.path]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Workers are forked from a process that has imported PyTorch and LeRobot, which takes each of them ten seconds."""
    subprocess.Popen = forkserver.Popen


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        forkserver.Forkservers.may_begin = True


def cpu_s() -> float:
    """Of this process, and of those that it has started or let fork and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used) + forkserver.Popen.used_s


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


@pytest.fixture(scope="session", autouse=True)
def _quick_libraries() -> None:
    import quick_libraries

    quick_libraries.install()


@pytest.fixture(scope="session")
def make_dataset(tmp_path_factory: pytest.TempPathFactory) -> "Callable[..., LeRobotDataset]":
    """``make_dataset(episodes, extra_features=None)``, in a directory of its own."""
    import small_data

    def make(*values: Any, **named: Any) -> "LeRobotDataset":
        return small_data.make_dataset(tmp_path_factory.mktemp("dataset") / "data", *values, **named)

    return make


@pytest.fixture(scope="session")
def demonstrations(make_dataset: "Callable[..., LeRobotDataset]") -> "LeRobotDataset":
    import small_data

    return make_dataset(small_data.labelled_episodes())


@pytest.fixture(scope="module")
def processes() -> "Iterator[Processes]":
    """Real ones, which end with the tests of the file."""
    from processes import Processes

    started = Processes()
    yield started
    started.close()
