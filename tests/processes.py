"""Robot sides and learners as processes that a test starts, hears, kills and starts again. What they are is in lab_command.py."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forkserver import Forkserver, Forkservers

PATIENCE_S = 300


def eventually(condition: Callable[[], Any]) -> Any:
    """The condition's first truthy value."""
    until = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)
    return value


class Child:
    """One process, and what it says to ``log``."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process, self._log, self.pid = process, log, process.pid

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def says(self, text: str, times: int = 1) -> None:
        """Wait until it has said this."""
        until = time.monotonic() + PATIENCE_S
        while self.output.count(text) < times:
            assert time.monotonic() < until, f"{text!r} was not said:\n{self.output[-3000:]}"
            assert self._process.poll() is None or self.output.count(text) >= times, self.output[-3000:]
            time.sleep(0.02)

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """As a power failure would."""
        self.send(signal.SIGKILL)
        self._process.wait(PATIENCE_S)

    def end(self) -> int:
        """The exit code; waits for it."""
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it goes on:\n{self.output[-3000:]}") from None


class Processes:
    """Starts children; kills all that are left in the end."""

    def __init__(self, **variables: str) -> None:
        self._environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **variables}
        self._server = Forkserver(("lab_command",), self._environment, Forkservers.address_for(self._environment))
        self._children: list[Child] = []

    def start(self, kind: str, log: Path, *arguments: object) -> Child:
        command = [sys.executable, "-c", "import lab_command; lab_command.main()", kind, *(str(argument) for argument in arguments)]
        with log.open("ab") as said:
            process = self._server.start(command, env=self._environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        self._children.append(Child(process, log))
        return self._children[-1]

    def close(self) -> None:
        for child in self._children:
            child.kill()
        self._server.close()
