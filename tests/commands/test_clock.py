"""The system's clock is set, a day ahead and back, while learner and robot side run as processes: nothing waits, nothing is lost."""

import mmap
import os
import shutil
import struct
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from processes import Processes, eventually
from restartable_learner import uuids

# Preloaded: what processes are told of the time of day, moved by the seconds in a file. Waiting by another clock is not touched.
SHIM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *moved;

static long moved_s(void) {
    if (!moved) moved = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, open(getenv("MOVED_CLOCK"), O_RDONLY), 0);
    return *moved;
}
int clock_gettime(clockid_t id, struct timespec *t) {
    int result = syscall(SYS_clock_gettime, id, t);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) t->tv_sec += moved_s();
    return result;
}
int gettimeofday(struct timeval *t, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec, t->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
"""
DAY_S = 24 * 3600
ROBOT = ("--robot.type=two_arms", "--episode_time_s=0.4", "--safety.max_observation_age_s=10", "--patience_s=60")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")]


class Clock:
    """The time of day of the processes that are started with its environment."""

    def __init__(self, directory: Path):
        self._file = directory / "moved"
        self._file.write_bytes(struct.pack("l", 0))
        library = directory / "clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-o", str(library), "-"], input=SHIM.encode(), check=True)
        self.environment = {"LD_PRELOAD": str(library), "MOVED_CLOCK": str(self._file)}

    def move(self, seconds: int):
        with self._file.open("r+b") as handle, mmap.mmap(handle.fileno(), 8) as shared:
            shared[:8] = struct.pack("l", seconds)


def test_the_clock_may_jump(tmp_path):
    clock = Clock(tmp_path)
    processes = Processes(**clock.environment)
    try:
        directory = tmp_path / "learner"
        processes.start("learner", tmp_path / "learner.log", str(directory), 0, "one", 3)
        said = directory / "port"
        eventually(lambda: said.exists() and said.read_text())
        flags = (f"--learner=127.0.0.1:{said.read_text()}", "--name=arm", f"--spool_dir={tmp_path / 'spool'}", *ROBOT)
        actor = processes.start("actor", tmp_path / "actor.log", *flags)
        for days in (0, 1, -1, 3, 0):
            clock.move(days * DAY_S)
            had = len(uuids(directory))
            eventually(lambda had=had: len(uuids(directory)) >= had + 3)
        received = uuids(directory)
        assert len(received) == len(set(received))
        assert "Learner away" not in actor.output
        assert "Traceback" not in actor.output + (tmp_path / "learner.log").read_text()
    finally:
        processes.close()


def test_the_clock_of_the_test_does_jump(tmp_path):
    clock = Clock(tmp_path)
    clock.move(3 * DAY_S)
    command = [sys.executable, "-c", "import time; print(time.time())"]
    said = subprocess.run(command, env={**os.environ, **clock.environment}, capture_output=True, text=True, check=True).stdout
    assert 2.9 * DAY_S < float(said) - datetime.now().timestamp() < 3.1 * DAY_S
