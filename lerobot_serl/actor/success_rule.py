"""What counts as success in an environment. Environments call it by many names, and some do not say it at all."""

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .world import WorldError

LEROBOTS_KEY, FINAL_INFO = "is_success", "final_info"
_LIKE_SUCCESS = re.compile(r"(is|has|was|task|episode|env|goal)*(success|succeed|succeeded|successful|goalachieved|solved)")
WHAT_IT_SAYS = "success", "environment"
SOURCES = (*WHAT_IT_SAYS, "termination", "keys")


class SuccessRule:
    """Success, from what an environment returns with each step.

    Args:
        source: ``success``, where ``info`` says so; ``environment``, the same, while the rewards are the environment's own; ``termination``,
            a termination whose reward is above 0; ``keys``, a person alone.
        key: entry of ``info`` that says it, with dots for entries of entries; empty: whichever is called ``is_success``, ``success``,
            ``succeed`` or the like.
        name: of the environment, for messages.
    """

    def __init__(self, source: str, key: str, name: str) -> None:
        if source not in SOURCES:
            raise ValueError(f"reward={source!r}: expected one of {', '.join(SOURCES)}.")
        self._source = source
        self._key = key
        self._name = name
        self._found = ""
        self._seen: set[str] = set()
        self._has_warned = False

    def __str__(self) -> str:
        if self._source == "termination":
            return "a termination with a reward above 0"
        if self._source == "keys":
            return "what the person says (keys: s success, f failure)"
        if self._key or self._found:
            return f"what its info says as '{self._key or self._found}'"
        return "what its info calls is_success, success, succeed or the like"

    def begin(self, info: Mapping[str, Any]) -> None:
        """After a reset; what is said here does not count, but shows where it will be said."""
        self._find(info)

    def decide(self, info: Mapping[str, Any], reward: float, terminated: bool, truncated: bool) -> bool:
        """Whether this step is a success; says in the log where that is found.

        Raises:
            WorldError: the environment ended the episode and did not say whether that was a success.
        """
        if self._source == "keys":
            return False
        if self._source == "termination":
            return terminated and reward > 0
        before, truth = self._found, self.reported(info)
        if self._found != before:
            logging.info(f"{self._name}: success is {self}.")
        if truth is None and self._source == "success":
            if terminated:
                raise WorldError(f"{self._name}: the episode terminated, and nothing says whether that was a success. {self._remedy()}")
            if not self._has_warned:
                self._has_warned = True
                logging.warning(
                    f"{self._name} does not say whether a step was a success. At a termination without a word collection stops. {self._remedy()}"
                )
        return bool(truth)

    def reported(self, info: Mapping[str, Any]) -> bool | None:
        """What ``info`` says about success; None if nothing.

        Raises:
            WorldError: the entry that was named says neither yes nor no.
        """
        return self._under_the_named_key(info) if self._key else self._find(info)

    def _find(self, info: Mapping[str, Any]) -> bool | None:
        self._seen.update(map(str, info))
        for key, value in _entries(info):
            if (truth := _truth(value)) is not None:
                self._found = key
                return truth
        return None

    def _remedy(self) -> str:
        wanted = f"'{self._key}'" if self._key else "is_success, success, succeed or the like"
        return (
            f"Looked for {wanted} in its info, which has {sorted(self._seen) or 'no entries'}. If another entry says it: --reward.success_key=ENTRY. "
            "If a termination with a reward above 0 is a success: --reward.source=termination. If a person decides: --reward.source=keys. "
            "Its own rewards, whatever they mean: --reward.source=environment."
        )

    def _under_the_named_key(self, info: Mapping[str, Any]) -> bool | None:
        self._seen.update(map(str, info))
        value: Any = info
        for part in [self._key] if self._key in info else self._key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return None
            value = value[part]
        if (truth := _truth(value)) is None and value is not None:
            raise WorldError(f"{self._name}: --reward.success_key={self._key} reads {value!r}, expected True or False.")
        return truth


def _entries(info: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Entries that say success by their name, LeRobot's name first; those of a final info after all others."""
    names = sorted((name for name in info if isinstance(name, str) and _says_success(name)), key=lambda name: name != LEROBOTS_KEY)
    for name in names:
        yield name, info[name]
    final = info.get(FINAL_INFO)
    if isinstance(final, list | tuple | np.ndarray) and len(final) == 1:
        final = final[0]
    if isinstance(final, Mapping):
        yield from ((f"{FINAL_INFO}.{name}", value) for name, value in _entries({k: v for k, v in final.items() if k != FINAL_INFO}))


def _says_success(name: str) -> bool:
    return _LIKE_SUCCESS.fullmatch(re.sub(r"[^a-z]", "", name.lower())) is not None


def _truth(value: Any) -> bool | None:
    """A bool, or one number that is 0 or 1, of numpy and torch too; None for anything else."""
    array = np.asarray(value.cpu() if hasattr(value, "cpu") else value)
    if array.size != 1 or array.dtype.kind not in "biuf" or array.item() not in (0, 1):
        return None
    return bool(array.item())
