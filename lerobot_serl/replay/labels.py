"""Reward and termination of demonstrations, from whatever columns a dataset has."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

REWARD, SUCCESS, DONE = "next.reward", "next.success", "next.done"
TERMINATED, TRUNCATED, INTERVENTION = "next.terminated", "next.truncated", "is_intervention"
DECIDED_BY = "next.decided_by"
LABEL_COLUMNS = (REWARD, SUCCESS, DONE, TERMINATED, TRUNCATED, INTERVENTION)


class LabelRule(Enum):
    """How rewards and ends are read. The value is the sentence that is printed."""

    RECORDED = "rewards and ends as recorded (next.reward, next.terminated, next.truncated)"
    REWARD_AND_SUCCESS = "reward as recorded (next.reward); an episode terminates at its first next.success"
    SUCCESS = "reward 1 at the first next.success of an episode, which terminates it; 0 elsewhere"
    REWARD_AND_DONE = "reward as recorded (next.reward); an episode terminates where next.done comes with a reward above 0"
    REWARD = "reward as recorded (next.reward); an episode terminates where the reward is above 0 for the first time"
    UNLABELLED = "no labels found: every episode is taken as a success, with reward 1 and termination at its last frame"


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of one episode: ``reward (T',)`` float32 for its first ``T'`` frames (a success ends it), and how it ended."""

    reward: np.ndarray
    terminated: bool
    truncated: bool


def choose_rule(columns: Mapping[str, np.ndarray], dataset: str) -> LabelRule:
    """The rule for a dataset, from its label columns (each ``(N,)``, over all frames).

    Raises:
        ValueError: there are labels, but no reward and no success anywhere; learning from them would teach that success is worthless.
    """
    if TERMINATED in columns and REWARD in columns:
        return LabelRule.RECORDED
    rewarded = REWARD in columns and bool((columns[REWARD] > 0).any())
    succeeded = SUCCESS in columns and bool(columns[SUCCESS].any())
    if succeeded:
        constant = REWARD not in columns or not columns[REWARD].any()
        return LabelRule.SUCCESS if constant else LabelRule.REWARD_AND_SUCCESS
    if rewarded:
        return LabelRule.REWARD_AND_DONE if DONE in columns else LabelRule.REWARD
    if REWARD in columns or SUCCESS in columns:
        found = [name for name in (REWARD, SUCCESS) if name in columns]
        raise ValueError(
            f"Dataset {dataset}: {' and '.join(found)} contain no success in {len(columns[found[0]])} frames, so the critics would learn that "
            "demonstrations are worth nothing. Expected at least one reward above 0 or one success. If the episodes are successes that were "
            "never labelled, remove these columns (lerobot-edit-dataset) and each episode's last frame counts as success."
        )
    return LabelRule.UNLABELLED


def pays_once_at_its_end(reward: np.ndarray, terminated: bool) -> bool:
    """Whether an episode's rewards ``(T,)`` are 0 or 1, and only a termination pays: then values lie in [0, 1]."""
    return bool(np.isin(reward, (0, 1)).all()) and not reward[:-1].any() and (terminated or not reward.any())


def label_episode(rule: LabelRule, columns: Mapping[str, np.ndarray], frames: int) -> Labels:
    """Labels of one episode, whose label columns are ``(T,)``."""
    if rule is LabelRule.RECORDED:
        truncated = bool(columns[TRUNCATED][-1]) if TRUNCATED in columns else False
        return Labels(columns[REWARD].astype(np.float32), bool(columns[TERMINATED][-1]), truncated)
    if rule is LabelRule.UNLABELLED:
        last_only = np.zeros(frames, dtype=np.float32)
        last_only[-1] = 1.0
        return Labels(last_only, True, False)
    if rule in (LabelRule.SUCCESS, LabelRule.REWARD_AND_SUCCESS):
        ends = columns[SUCCESS].astype(bool)
    elif rule is LabelRule.REWARD_AND_DONE:
        ends = columns[DONE].astype(bool) & (columns[REWARD] > 0)
    else:
        ends = columns[REWARD] > 0
    stop = int(np.argmax(ends)) + 1 if ends.any() else frames
    reward = ends[:stop].astype(np.float32) if rule is LabelRule.SUCCESS else columns[REWARD][:stop].astype(np.float32)
    done = DONE in columns and bool(columns[DONE][-1])
    return Labels(reward, bool(ends.any()), not ends.any() and done)
