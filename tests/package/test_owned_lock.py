"""Locks that name their owner."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lerobot_serl.owned_lock import LockedError, OwnedLock


def lock_at(path, patience_s=0.0):
    return OwnedLock(path, "The dataset 'a'", "Stop it.", patience_s)


def test_the_second_learns_who_the_first_is(tmp_path):
    with (
        lock_at(tmp_path / "new" / "lock"),
        pytest.raises(LockedError, match=rf"^The dataset 'a' is in use by process {os.getpid()} on .+ \(since 20\d\d-.*\). Stop it\.$"),
    ):
        lock_at(tmp_path / "new" / "lock").acquire()
    with lock_at(tmp_path / "new" / "lock"):
        pass


def test_a_patient_one_gets_it_when_it_is_released(tmp_path):
    first = lock_at(tmp_path / "lock")
    first.acquire()
    threading.Timer(0.3, first.release).start()
    second = lock_at(tmp_path / "lock", patience_s=60)
    second.acquire()
    second.release()
    second.release()


@pytest.mark.parametrize("text", ["", "not json", "[]", "{}", '{"pid": 1}', "{" * 10_000])
def test_an_unreadable_owner_is_another_process(tmp_path, text):
    with lock_at(tmp_path / "lock"):
        (tmp_path / "lock").write_text(text)
        with pytest.raises(LockedError, match="in use by another process"):
            lock_at(tmp_path / "lock").acquire()


def test_a_killed_owner_leaves_no_lock(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from lerobot_serl.owned_lock import OwnedLock\n"
        "lock = OwnedLock(Path(sys.argv[1]), 'a', 'b'); lock.acquire(); print('mine', flush=True); time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "mine\n"
    with pytest.raises(LockedError, match=f"process {owner.pid} on"):
        lock_at(tmp_path / "lock").acquire()
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    until = time.monotonic() + 60
    while True:
        try:
            lock_at(tmp_path / "lock").acquire()
            break
        except LockedError:
            assert time.monotonic() < until


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=rf"^The thing cannot be written: {tmp_path}/file/lock: (Not a directory|File exists)\.$"):
        OwnedLock(tmp_path / "file" / "lock", "The thing", "").acquire()
