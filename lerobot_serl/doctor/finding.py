"""One thing that the doctor found: a line for people, and what a repair would do about it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from ..message_header import printable

MOST_NAMED = 12


class CannotCheckError(Exception):
    """Nothing can be said about this path, and nothing was changed; the message says why and what to do."""


class Level(Enum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """Attributes:
    text: one line.
    repair: what ``--repair`` does about it; empty where it can do nothing.
    """

    level: Level
    text: str
    repair: str = ""

    def lines(self) -> Iterable[str]:
        """As it is printed."""
        yield f"{self.level.value:8}{printable(self.text)}"
        if self.repair:
            yield f"{'':8}--repair: {self.repair}"


def ok(text: str) -> Finding:
    """Something that is as it should be."""
    return Finding(Level.OK, text)


def note(text: str) -> Finding:
    """Something worth knowing that needs no repair."""
    return Finding(Level.NOTE, text)


def problem(text: str, repair: str = "") -> Finding:
    """Something that is wrong."""
    return Finding(Level.PROBLEM, text, repair)


def has_problems(findings: Iterable[Finding]) -> bool:
    """Whether anything is wrong."""
    return any(finding.level is Level.PROBLEM for finding in findings)


def named(numbers: Sequence[int]) -> str:
    """A few numbers in words: ``episode 3``, ``episodes 0 to 4, 8``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    words = [str(first) if first == last else f"{first} to {last}" for first, last in runs]
    more = f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
    return f"episode{'s' if len(set(numbers)) != 1 else ''} {', '.join(words[:MOST_NAMED])}{more}"
