"""A forked process is like a fresh one, and tests that need too long are told so."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import forkserver
import pytest
from conftest import takes_too_long
from processes import eventually
from traps import lay_traps

FACTS = """
import json, os, signal, sys
json.dump({
    "argv": sys.argv, "path": sys.path[:2], "cwd": os.getcwd(), "variable": os.environ.get("A_VARIABLE"), "others": "A_SECRET" in os.environ,
    "names": [name for name in globals() if not name.startswith("__")], "ours": [name for name in sys.modules if "serl" in name],
    "files": len(os.listdir("/proc/self/fd")), "threads": os.listdir("/proc/self/task") == [str(os.getpid())],
    "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler, "main": __name__, "input": sys.stdin.read(),
    "has": "torch" in sys.modules, "file": globals().get("__file__"),
}, sys.stdout)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("A_SECRET", "1")
    (tmp_path / "facts_here.py").write_text(FACTS)
    return tmp_path


def facts(*command, place, fresh, **settings):
    """What such a process says of itself."""
    started = (forkserver.FRESH if fresh else subprocess.Popen)(
        [sys.executable, *command, "--flag", "x y"], cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **settings
    )
    output, _ = started.communicate("words")
    assert started.returncode == 0
    found = json.loads(output)
    assert found.pop("has") is not fresh
    return found


@pytest.mark.parametrize("command", [("-u", "-c", FACTS), ("-m", "facts_here"), ("facts_here.py",)])
def test_a_forked_process_sees_what_a_fresh_one_sees(place, command):
    environment = {name: value for name, value in os.environ.items() if name != "A_SECRET"} | {"A_VARIABLE": "ü", "PYTHONPATH": str(place)}
    if command[0].endswith(".py"):
        command = (str(place / command[0]),)
    forked, fresh = (facts(*command, place=place, fresh=fresh, env=environment) for fresh in (False, True))
    assert forked == fresh
    assert fresh["ours"] == []


def test_no_file_in_the_working_directory_is_imported_with_p(tmp_path):
    mark = lay_traps(tmp_path)
    subprocess.run([sys.executable, "-P", "-c", "import secrets"], cwd=tmp_path, check=True)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("import sys; sys.exit('a sentence')", 1, "a sentence"),
        ("import sys; sys.exit(7)", 7, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import os; os.kill(os.getpid(), 2)", -2, "KeyboardInterrupt"),
        ("import atexit, sys; atexit.register(print, 'the end', file=sys.stderr)", 0, "the end"),
        ("import os\nclass Last:\n    def __del__(self, say=os.write): say(2, b'the end')\nlast = Last()", 0, "the end"),
        ("import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), 1 / 0)).start()", 0, "ZeroDivisionError"),
    ],
)
def test_it_ends_as_python_ends(code, status, words):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr


def test_what_a_library_of_c_has_written_is_not_lost():
    done = subprocess.run([sys.executable, "-c", "import ctypes; ctypes.CDLL(None).puts(b'a word'); exit(3)"], capture_output=True)
    assert (done.returncode, done.stdout) == (3, b"a word\n")


def test_its_children_are_forked_too_and_it_can_be_waited_for_and_killed():
    code = (
        "import subprocess, sys, time; said = subprocess.run([sys.executable, '-c', 'import sys; print(\"torch\" in sys.modules)'],"
        "capture_output=True, text=True).stdout; print(said.strip(), flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    assert process.poll() is None
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert not os.path.exists(f"/proc/{process.pid}")


def test_who_ignores_ctrl_c_starts_who_ignores_it():
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = "import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert done.stdout == "True\n"


def test_its_children_end_with_the_server(tmp_path):
    server = forkserver.Forkserver(("json",), dict(os.environ))
    process = server.start([sys.executable, "-c", "import time; time.sleep(600)"])
    server.close()
    eventually(lambda: not (status := Path(f"/proc/{process.pid}/status")).exists() or "State:\tZ" in status.read_text())


def test_what_it_says_unbuffered_is_heard_at_once():
    command = [sys.executable, "-u", "-c", "import sys, time; sys.stdout.write('a word'); time.sleep(600)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert os.read(process.stdout.fileno(), 100) == b"a word"
        process.kill()


WORKING = """
import json, os, pathlib, subprocess, sys, time, forkserver, pytest
from conftest import cpu_s

@pytest.mark.parametrize("number", range(2))
def test_works(number):
    began_s, code = cpu_s(), "import time, sys; until = time.process_time() + {used_s}\\nwhile time.process_time() < until: pass"
    subprocess.run([sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {{code!r}}])"], check=True)
    facts = {{
        "worker": os.environ["PYTEST_XDIST_WORKER"], "parent": os.getppid(), "used_s": cpu_s() - began_s,
        "begun": len(forkserver.Forkservers.begun), "may_begin": forkserver.Forkservers.may_begin,
    }}
    pathlib.Path({directory!r}, f"{{number}}.json").write_text(json.dumps(facts))
"""


def test_workers_of_pytest_are_forked_too_and_know_what_their_own_children_use(tmp_path):
    (tmp_path / "test_working.py").write_text(WORKING.format(used_s=0.3, directory=str(tmp_path)))
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-n", "2", "--dist", "load"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([forkserver.HERE, os.environ.get("PYTHONPATH", "")])}
    subprocess.run([*command, str(tmp_path)], cwd=tmp_path, env=environment, check=True)
    facts = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert len(facts) == 2
    assert {fact["worker"] for fact in facts} == {"gw0", "gw1"}
    assert len({fact["parent"] for fact in facts}) == 1
    assert all(fact["begun"] == 0 and fact["may_begin"] for fact in facts)
    assert all(0.3 < fact["used_s"] < 0.55 for fact in facts), facts


@pytest.mark.parametrize(
    ("command", "variables", "settings"),
    [
        ([sys.executable, "-c", "pass"], {"LD_PRELOAD": ""}, {}),
        ([sys.executable, "-c", "pass"], {"ATEN_CPU_CAPABILITY": "avx2"}, {}),
        ([sys.executable, "-X", "importtime", "-c", "pass"], {}, {}),
        (["true"], {}, {}),
        ([sys.executable, "-c", "pass"], {}, {"preexec_fn": os.getpid}),
    ],
)
def test_what_depends_on_how_python_starts_is_started(command, variables, settings):
    with subprocess.Popen(command, env={**os.environ, **variables}, stderr=subprocess.DEVNULL, **settings) as process:
        assert process._connection is None


@pytest.mark.fresh_python
def test_a_test_can_ask_for_fresh_processes():
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        assert process._connection is None


LIMITED = """
import time, pytest

def test_computes():
    until = time.process_time() + {long}
    while time.process_time() < until: pass

@pytest.mark.slow
def test_slow():
    test_computes()

def test_waits():
    time.sleep({long})

@pytest.fixture(scope="module")
def shared():
    test_computes()

def test_what_it_shares_is_not_its_own(shared):
    pass
"""


@pytest.mark.slow
def test_a_test_without_the_mark_may_not_be_slow(tmp_path):
    (tmp_path / "test_times.py").write_text(LIMITED.format(long=0.6))
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-n", "0", "-rA", "--limit_s", "0.5"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([forkserver.HERE, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([*command, str(tmp_path)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    lines = [line.split("::")[1] for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert [line.split()[0] for line in lines] == ["test_computes"], done.stdout
    assert "on a processor: more than 0.5 s. Make it faster, or mark it slow." in done.stdout


@pytest.mark.parametrize(
    ("took_s", "used_s", "waiting", "is_too_long"),
    [(4.0, 2.9, 0.5, False), (4.0, 3.1, 0.5, True), (10.0, 0.0, 1.0, True), (10.0, 2.9, 4.0, False), (40.0, 0.0, 4.0, True)],
)
def test_a_busy_machine_stretches_only_the_clock(took_s, used_s, waiting, is_too_long):
    assert takes_too_long(took_s, used_s, 3.0, waiting) is is_too_long
