"""Which rule the labels of a dataset are read by: chosen by a person, or decided from what its columns hold."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..label_settings import AUTO, ENDS, REWARDS, LabelSettings
from .labels import DONE, REWARD, SUCCESS, TERMINATED, TRUNCATED, LabelRule

_NEEDED = {"terminated": (TERMINATED,), "success": (SUCCESS,), "reward": (REWARD,), "done": (DONE, TRUNCATED)}
FLAG = "--policy.labels"
UNLABELLED = "NO LABELS: every episode counts as a success, ALSO FAILURES if some were kept."
_SUCCESSES = f"If every episode is a success: {FLAG}.ends=last {FLAG}.reward=success"


def words(rule: LabelRule) -> tuple[str, str]:
    """What ends an episode, and what the reward is."""
    judged = ", if next.success was true by then" if rule.reward == "success" and rule.judged and rule.ends != "success" else ""
    shifted = f", {rule.shift:+g} in every frame" if rule.shift else ""
    return ENDS[rule.ends].format(level=rule.level), REWARDS[rule.reward] + judged + shifted


def decide_rule(
    columns: Mapping[str, np.ndarray], spans: Sequence[tuple[int, int]], dataset: str, settings: LabelSettings = AUTO
) -> LabelRule:
    """The rule for a dataset.

    Args:
        columns: from :func:`.label_columns`, each ``(N,)``, over all frames.
        spans: first frame of each episode, and the one after its last.
        dataset: its name, for errors.

    Raises:
        ValueError: there are labels, but nothing in them tells a success from a failure; or a column that the settings need is not there.
    """
    said = {name for name in columns if columns[name].any()}
    level = success_level(columns[REWARD], spans) if REWARD in columns else None
    ends, remarks = (settings.ends, []) if settings.ends != "auto" else _decide_ends(columns, spans, dataset, said, level)
    reward = settings.reward
    if reward == "auto":  # all is 0 in a practice of failures, too
        reward = "recorded" if REWARD in said or (REWARD in columns and ends == "terminated" and SUCCESS not in said) else "success"
    needed = _NEEDED.get(ends, ())
    if needed and not any(name in columns for name in needed):
        raise _missing(f"ends={ends!r}", " or ".join(needed), columns, dataset)
    if reward == "recorded" and REWARD not in columns:
        raise _missing(f"reward={reward!r}", REWARD, columns, dataset)
    if ends == "reward" and level is None:
        raise ValueError(
            f"policy.labels.ends='reward': expected one highest reward in dataset {dataset} that stands out from all others, "
            f"found {_brief(columns[REWARD])}. Choose another {FLAG}.ends: {', '.join(ENDS)}."
        )
    remarks += [f"{name} is never true." for name in (TERMINATED, SUCCESS, DONE) if name in columns and name not in said]
    if REWARD in said and reward == "recorded" and not np.isin(columns[REWARD], (0, 1)).all():
        remarks.append(
            "Practice has to pay on the same scale (--reward.source=environment). A robot pays 1 for a success and 0 else: "
            f"{FLAG}.reward=success makes the demonstrations do so too."
        )
    others = [name for name in ENDS if name not in ("auto", ends) and (name not in _NEEDED or said & {*_NEEDED[name]})]
    if level is None and "reward" in others:
        others.remove("reward")
    highest = np.inf if level is None else level
    return LabelRule(ends, reward, settings.shift, highest, SUCCESS in said, tuple(others), tuple(remarks))


def success_level(reward: np.ndarray, spans: Sequence[tuple[int, int]]) -> float | None:
    """What only the rewards of a success ``(N,)`` exceed: the highest is one number, farther above the others than they are apart.

    1 among zeros, 0 among step costs of -1, a bonus of 10 among small costs; never a shaped reward, and nothing that most episodes begin with.
    """
    values = np.unique(reward[np.isfinite(reward)]).astype(np.float64)
    if len(values) < 2:
        return None
    others = values[values < values[-1] - 1e-3 * np.ptp(values)]
    level = float(values[-1] + others[-1]) / 2
    if values[-1] - others[-1] <= np.ptp(others):
        return None
    reached = [reward[start] > level for start, stop in spans if (reward[start:stop] > level).any()]
    return level if 2 * sum(reached) <= len(reached) else None


def _decide_ends(
    columns: Mapping[str, np.ndarray], spans: Sequence[tuple[int, int]], dataset: str, said: set[str], level: float | None
) -> tuple[str, list[str]]:
    """Which frame terminates an episode, from the columns that say anything, and what has to be said about it."""
    goes_on = [_goes_on(columns[DONE][start:stop]) for start, stop in spans] if DONE in columns else []
    remarks = []
    if any(goes_on):
        remarks.append(
            f"next.done is true in the middle of {sum(goes_on)} episodes that go on after it, and is no end there; {FLAG}.ends=done says that it is."
        )
    recorded = REWARD in columns and (TRUNCATED in said or REWARD not in said)  # practice in which nothing terminated
    failed = SUCCESS in columns and SUCCESS not in said and REWARD not in columns
    if TERMINATED in columns and not failed and (TERMINATED in said or recorded):
        return "terminated", remarks
    if SUCCESS in said:
        return "success", remarks
    if level is not None:
        return "reward", remarks
    if REWARD in said:
        if np.ptp(columns[REWARD]) == 0:
            raise _undecided(dataset, f"next.reward is {_brief(columns[REWARD])}", f"{FLAG}.ends=done or =never")
        if not any(goes_on) and said & {DONE, TRUNCATED}:
            return "done", [
                *remarks,
                "THE REWARDS DO NOT SAY which end is a success and which the time limit: all but next.truncated are taken for terminations, as "
                f"LeRobot's own SAC does. {FLAG}.ends=never takes them for time limits.",
            ]
        return "last", [
            *remarks,
            "NOTHING SAYS HOW EPISODES END: they are taken to terminate at their last frames, as in LeRobot's own SAC. "
            f"{FLAG}.ends=never takes the last frames for a time limit; their rewards are lost then.",
        ]
    if asked := [name for name in (REWARD, SUCCESS, TERMINATED) if name in columns]:
        raise _undecided(dataset, f"{' and '.join(asked)}: none is true or other than 0 in {len(columns[asked[0]])} frames")
    if TRUNCATED in said:
        if all(columns[TRUNCATED][stop - 1] for _, stop in spans):
            raise _undecided(dataset, "every episode is next.truncated, none has a reward")
        return "done", remarks
    return "last", [*remarks, UNLABELLED]


def _goes_on(done: np.ndarray) -> bool:
    return bool((done[:-1] & ~done[1:]).any())


def _brief(reward: np.ndarray) -> str:
    low, high = np.nanmin(reward), np.nanmax(reward)
    return f"{low:g} in all {len(reward)} frames" if low == high else f"{low:g} to {high:g} in {len(reward)} frames"


def _undecided(dataset: str, found: str, *others: str) -> ValueError:
    return ValueError(
        f"Dataset {dataset}: {found}. Nothing tells a success from a failure, so the critics would learn that demonstrations are worth nothing. "
        f"Expected a reward that stands out, or a success. {' Otherwise: '.join([_SUCCESSES, *others])}."
    )


def _missing(setting: str, needed: str, columns: Mapping[str, np.ndarray], dataset: str) -> ValueError:
    found = ", ".join(columns) or "no labels"
    return ValueError(
        f"policy.labels.{setting}: expected {needed} in dataset {dataset}, found {found}. Choose another, or leave the flag out."
    )
