"""The documents name flags and columns that exist, and leave none out."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from lerobot_serl.actor.settings import ResetConfig, RewardConfig, RobotKeysConfig, SafetyConfig, TakeoverConfig
from lerobot_serl.replay.recording import Decider
from lerobot_serl.report.metrics_files import EPISODE_COLUMNS, EVALUATION_COLUMNS, LEARNER_LEADING_COLUMNS
from lerobot_serl.scripts.lerobot_serl_actor import ActorProcessConfig

DOCS = Path(__file__).parents[1] / "docs"
GROUPS = {"reward": RewardConfig, "reset": ResetConfig, "safety": SafetyConfig, "takeover": TakeoverConfig, "robot_keys": RobotKeysConfig}
EXISTING = {f"--{group}.{field.name}" for group, config in GROUPS.items() for field in fields(config)}
FLAG = re.compile(rf"--(?:{'|'.join(GROUPS)})\.\w+")
SECTION = re.compile(r"^## (\w+)\.csv.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def documents():
    return {path.name: path.read_text(encoding="utf-8") for path in sorted([*DOCS.glob("*.md"), DOCS.parent / "README.md"])}


@pytest.mark.parametrize("name", documents())
def test_every_flag_of_the_robot_side_that_is_named_exists(name):
    assert set(FLAG.findall(documents()[name])) <= EXISTING


@pytest.mark.parametrize("name", documents())
def test_no_group_of_flags_is_used_as_a_flag(name):
    """`--reward=environment` was one once."""
    assert re.findall(rf"--(?:{'|'.join(GROUPS)})[= ]\S*", documents()[name]) == []


def test_every_flag_of_the_robot_side_is_explained_somewhere():
    named = {flag for text in documents().values() for flag in FLAG.findall(text)}
    assert named >= EXISTING


def test_every_flag_of_the_actor_process_is_named_somewhere():
    text = "\n".join(documents().values())
    missing = [field.name for field in fields(ActorProcessConfig) if not re.search(rf"--{field.name}\b", text)]
    assert missing == []


def columns_in(section):
    """Names in the first column of the tables, or in the text, of a section of docs/metrics.md."""
    text = next(match.group(0) for match in SECTION.finditer(documents()["metrics.md"]) if match.group(1) == section)
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return sorted(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", " ".join(rows) or text))))


def test_every_column_is_explained_once_and_no_other():
    learner = columns_in("learner")  # test_journal.py has the rest: a run writes no other columns
    assert sorted(set(learner)) == learner
    assert set(learner) >= set(LEARNER_LEADING_COLUMNS)
    assert columns_in("episodes") == sorted(EPISODE_COLUMNS)
    assert set(columns_in("evaluations")) >= set(EVALUATION_COLUMNS)


def test_the_numbers_of_deciders_are_those_of_the_code():
    rows = re.findall(r"^\| (\d) \| (?:the |a )?([\w ]*\w)", documents()["rewards.md"], re.MULTILINE)
    assert [(int(number), word) for number, word in rows] == [(decider.number, decider.value) for decider in Decider]
