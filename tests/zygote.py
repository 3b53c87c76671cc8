"""Real processes in milliseconds: one process imports everything, and forks a child for each request before it has any Python thread.

Actor processes may have the robots of small_robots.py as ``--robot.type=two_arms``, which knows success itself, and ``two_arms_judged``, whose
success a person decides, its hand, ``--teleop.type=small_hand``, LeRobot's SO-101 on the bus of so101_bus.py, and the environments of
small_envs.py.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE_S = 300
CODE = """
import json, os, signal, sys, traceback
sys.path.insert(0, {tests!r})
import lerobot_serl.scripts.lerobot_serl_actor as actor
import restartable_learner
import small_envs
import small_robots
import so101_bus
from lerobot.robots import RobotConfig
from lerobot.teleoperators import TeleoperatorConfig
RobotConfig.register_subclass("two_arms")(small_robots.TwoArmsThatKnowConfig)
RobotConfig.register_subclass("two_arms_judged")(small_robots.TwoArmsConfig)
TeleoperatorConfig.register_subclass("small_hand")(small_robots.SmallHandConfig)
so101_bus.install()
print("ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["kind"] == "wait":
        print(os.waitstatus_to_exitcode(os.waitpid(request["pid"], 0)[1]), flush=True)
        continue
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    os.setsid()
    output = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0), os.dup2(output, 1), os.dup2(output, 2)
    code = 99
    try:
        if request["kind"] == "actor":
            sys.argv = ["lerobot-serl-actor", *request["arguments"]]
            actor.main()
        else:
            restartable_learner.serve(*request["arguments"])
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code or 0)
"""


def eventually(condition):
    """The condition's first truthy value."""
    until = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)
    return value


class Zygote:
    """Starts children; kills all that are left in the end."""

    def __init__(self):
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        code = CODE.format(tests=str(Path(__file__).parent))
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
        assert self._answer() == "ready"
        self._children = []

    def start(self, kind: str, log: Path, *arguments) -> "Child":
        child = Child(self, int(self.ask({"kind": kind, "log": str(log), "arguments": arguments})), log)
        self._children.append(child)
        return child

    def ask(self, request: dict) -> str:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self):
        for child in self._children:
            child.kill()
        self._process.kill()
        self._process.wait()

    def _answer(self) -> str:
        for line in self._process.stdout:
            if (word := line.strip()).lstrip("-").isdigit() or word == "ready":
                return word
        raise AssertionError("the zygote has ended")


class Child:
    """One forked process and what it says."""

    def __init__(self, zygote, pid, log):
        self._zygote, self.pid, self._log, self._code = zygote, pid, log, None

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def says(self, text: str, times: int = 1) -> None:
        """Wait until it has said this."""
        until = time.monotonic() + PATIENCE_S
        while self.output.count(text) < times:
            assert time.monotonic() < until, f"{text!r} was not said:\n{self.output[-3000:]}"
            assert not self._has_ended(), self.output[-3000:]
            time.sleep(0.02)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """As a power failure would."""
        if self._code is None:
            self.send(signal.SIGKILL)
            self.end()

    def end(self) -> int:
        """The exit code; waits for it."""
        until = time.monotonic() + PATIENCE_S
        while self._code is None and not self._has_ended():
            assert time.monotonic() < until, f"it goes on:\n{self.output[-3000:]}"
            time.sleep(0.02)
        if self._code is None:
            self._code = int(self._zygote.ask({"kind": "wait", "pid": self.pid}))
        return self._code

    def _has_ended(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
