"""Read what a policy did, episode by episode, from LeRobot's evaluations and from runs. The files are not trusted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot_serl.report.metrics_files import DEPLOYED, MetricsDirectory

EVALUATION_FILE = "eval_info.json"
MAX_EVALUATION_BYTES = 64 << 20
REMEDY = "lerobot-eval writes it anew"


class ComparisonError(ValueError):
    """Two policies cannot be compared; the message names the files and says what to do."""


@dataclass(frozen=True)
class Outcomes:
    """Successes of one policy in the order of its episodes.

    Attributes:
        given: the path as the user gave it.
        source: file they were read from.
        tasks: (name, successes) of each task, ordered by name; a run has one without a name.
        seeds: seed of every start where the file holds them, else None.
        practice: whether they are practice episodes of a run.
        deployed: whether these were carried out as the policy would be deployed.
    """

    given: Path
    source: Path
    tasks: tuple[tuple[str, tuple[bool, ...]], ...]
    seeds: tuple[int, ...] | None = None
    practice: bool = False
    deployed: bool = False

    @property
    def successes(self) -> tuple[bool, ...]:
        """Successes of all tasks, one after the other."""
        return tuple(success for _, successes in self.tasks for success in successes)

    @property
    def folder(self) -> Path:
        """Directory that was given, or that of the file."""
        return self.given.parent if self.given.is_file() else self.given


def read_outcomes(given: Path, last: int) -> Outcomes:
    """Read an evaluation, or the newest practice episodes of a run: those carried out as deployed, if it has any.

    Args:
        given: `eval_info.json` of lerobot-eval; a directory that holds it, itself or in one folder; or a run directory.
        last: how many practice episodes count, the newest; those of the start-up and those with a person's help do not.

    Raises:
        ComparisonError: there is nothing to read or it is ambiguous or damaged; the message names the file and the remedy.
        MetricsFormatError: a metric file of a run is malformed.
    """
    source = _locate(given)
    if source.name != MetricsDirectory(given).episodes.name:
        return _read_evaluation(given, source)
    metrics = MetricsDirectory(given).load()
    kind = metrics.kind_of_fine_tuned()
    successes = tuple(metrics.episodes["success"][row] == 1 for row in metrics.unaided(kind, collecting=False)[-last:])
    return Outcomes(given, source, (("", successes),), practice=True, deployed=kind == DEPLOYED)


def _locate(given: Path) -> Path:
    """The one file that `given` means."""
    if given.is_file():
        return given
    if not given.exists():
        raise ComparisonError(f"{given} does not exist; give lerobot-eval's --output_dir, lerobot-serl-actor's, or a run directory")
    found = [path for path in (given / EVALUATION_FILE, MetricsDirectory(given).episodes) if path.is_file()]
    found = found or sorted(given.glob(f"*/{EVALUATION_FILE}"))
    if not found:
        raise ComparisonError(
            f"{given} holds neither {EVALUATION_FILE} (lerobot-eval writes it when it is done, lerobot-serl-actor --policy.path after the first "
            "episode) nor metrics/episodes.csv (of a run); "
            "give lerobot-eval's --output_dir, lerobot-serl-actor's, or a run directory"
        )
    if len(found) > 1:
        raise ComparisonError(f"{given} holds {', '.join(str(path.relative_to(given)) for path in found)}; give the one that you mean")
    return found[0]


def _read_evaluation(given: Path, source: Path) -> Outcomes:
    """Outcomes of LeRobot's file: its `per_task`, or `per_episode` with seeds as older versions wrote it and `eval_policy` returns it."""
    size = source.stat().st_size
    if size > MAX_EVALUATION_BYTES:
        raise ComparisonError(f"{source} has {size} bytes; an evaluation of more than {MAX_EVALUATION_BYTES} is not read; {REMEDY}")
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ComparisonError(f"{source} is damaged: it is not JSON ({error}); {REMEDY}") from error
    if "per_task" in _as(dict, content, source, "the file"):
        return Outcomes(given, source, _tasks(_as(list, content["per_task"], source, "per_task"), source))
    if "per_episode" not in content:
        raise ComparisonError(f"{source} has neither per_task nor per_episode: it is no evaluation of lerobot-eval; {REMEDY}")
    episodes = [_as(dict, episode, source, "an episode") for episode in _as(list, content["per_episode"], source, "per_episode")]
    successes = _successes([episode.get("success") for episode in episodes], source)
    seeds = tuple(seed for episode in episodes if type(seed := episode.get("seed")) is int)
    return Outcomes(given, source, (("", successes),), seeds if len(seeds) == len(episodes) else None)


def _tasks(entries: list[Any], source: Path) -> tuple[tuple[str, tuple[bool, ...]], ...]:
    """(name, successes) of `per_task`, ordered by group and number: tasks that ran side by side stand in any order."""
    tasks: dict[tuple[str, int], tuple[bool, ...]] = {}
    for entry in entries:
        group = _as(str, _as(dict, entry, source, "a task").get("task_group"), source, "task_group")
        number = _as(int, entry.get("task_id"), source, "task_id")
        metrics = _as(dict, entry.get("metrics"), source, "metrics")
        if (group, number) in tasks:
            raise ComparisonError(f"{source} is damaged: it has task {group} {number} twice; {REMEDY}")
        tasks[group, number] = _successes(_as(list, metrics.get("successes"), source, "successes"), source)
    return tuple((f"{group} {number}", successes) for (group, number), successes in sorted(tasks.items()))


def _as[T](kind: type[T], value: object, source: Path, name: str) -> T:
    """The value if it is exactly of that type."""
    if type(value) is not kind:
        raise ComparisonError(f"{source} is damaged: {name} is {_short(value)}, expected a JSON {kind.__name__}; {REMEDY}")
    return value


def _successes(values: list[Any], source: Path) -> tuple[bool, ...]:
    """Outcomes as booleans; numbers other than the integers 0 and 1, NaN among them, are refused."""
    for number, value in enumerate(values):
        if type(value) not in (bool, int) or value not in (0, 1):
            raise ComparisonError(f"{source} is damaged: success of episode {number} is {_short(value)}, expected true or false; {REMEDY}")
    return tuple(bool(value) for value in values)


def _short(value: object) -> str:
    return repr(value)[:40] if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
