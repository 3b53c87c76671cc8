"""``lerobot-serl-actor`` beside a witness, who writes down what is decided and what is executed, and kills a process in the middle of it.

``witnessed LOG VICTIM@STEP FLAGS``: at the STEP-th step of this process VICTIM, a process id or ``self``, gets SIGKILL; ``nobody@0`` lives.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from lerobot_serl.actor.env_world import EnvWorld
from lerobot_serl.actor.planned_policy import PlannedPolicy
from lerobot_serl.scripts import lerobot_serl_actor


def main(log: str, event: str, *flags: str) -> None:
    """Until it ends, or is ended."""
    victim, _, step = event.partition("@")
    with Path(log).open("a", encoding="utf-8") as file:
        _witness(file, {"self": os.getpid(), "nobody": 0}.get(victim) or int(victim if victim.isdigit() else 0), int(step))
        sys.argv = ["lerobot-serl-actor", *flags]
        lerobot_serl_actor.main()


def _witness(file: TextIO, victim: int, last_step: int) -> None:
    steps = 0

    def after(owner: type, name: str, told: Callable[[Any], dict[str, Any]]) -> None:
        function = getattr(owner, name)

        def wrapped(*args: Any, **settings: Any) -> Any:
            result = function(*args, **settings)
            file.write(json.dumps(told(result)) + "\n")
            file.flush()
            return result

        setattr(owner, name, wrapped)

    def executed(result: Any) -> dict[str, Any]:
        nonlocal steps
        steps += 1
        if steps == last_step and victim:
            os.kill(victim, signal.SIGKILL)
        return {"executed": result.executed.tolist()}

    after(EnvWorld, "reset", lambda observation: {"begins": True})
    after(EnvWorld, "step", executed)
    after(PlannedPolicy, "decide", lambda chunk: {"planned": chunk.planned.tolist(), "age": chunk.age} if chunk else {"waits": True})


class Witnessed:
    """The episodes of a log, each with ``executed``, ``planned`` ``(T, D)``, ``ages`` ``(T,)`` of its steps, and whether another one followed.

    ``decided`` has pairs of a decision's frame and its number of steps.
    """

    def __init__(self, lines: list[dict[str, Any]], is_followed: bool) -> None:
        self.is_followed = is_followed
        self.executed, self.planned, self.ages, self.decided = [], [], [], []
        for line in lines:
            if "executed" in line:
                self.executed.append(line["executed"])
            elif "planned" in line:
                self.decided.append((len(self.executed), len(line["planned"])))
                self.planned += line["planned"]
                self.ages += range(line["age"], line["age"] + len(line["planned"]))
        self.planned, self.ages = self.planned[: len(self.executed)], self.ages[: len(self.executed)]

    @classmethod
    def of(cls, log: Path) -> "list[Witnessed]":
        """In their order; the last one is not followed."""
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        begins = [number for number, line in enumerate(lines) if "begins" in line]
        ends = [*begins[1:], len(lines)]
        return [cls(lines[begin:end], end < len(lines)) for begin, end in zip(begins, ends, strict=True)]
