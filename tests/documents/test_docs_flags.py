"""The documents name flags and columns that exist, and leave none out."""

import re
from dataclasses import fields, is_dataclass

import pytest
from lerobot.configs.train import TrainPipelineConfig
from pages import DOCS, columns_in, documents

from lerobot_serl import SerlSacConfig
from lerobot_serl.actor.settings import ResetConfig, RewardConfig, RobotKeysConfig, SafetyConfig, TakeoverConfig
from lerobot_serl.presets import presets
from lerobot_serl.replay.episode import Decider
from lerobot_serl.report.metrics_files import EPISODE_COLUMNS, EVALUATION_COLUMNS, LEARNER_LEADING_COLUMNS
from lerobot_serl.scripts.lerobot_serl_actor import ActorProcessConfig

GROUPS = {"reward": RewardConfig, "reset": ResetConfig, "safety": SafetyConfig, "takeover": TakeoverConfig, "robot_keys": RobotKeysConfig}
EXISTING = {f"--{group}.{field.name}" for group, config in GROUPS.items() for field in fields(config)}
FLAG = re.compile(rf"--(?:{'|'.join(GROUPS)})\.\w+")


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


def settings_in(config, prefix=""):
    """Names of a configuration's settings, those of groups with their group's, and the groups'."""
    for item in fields(config):
        yield f"{prefix}{item.name}"
        if is_dataclass(group := item.default_factory):
            yield from settings_in(group, f"{prefix}{item.name}.")


def test_what_replaces_serls_flags_exists():
    """Those of the policy by their full names, those of the two commands where they have no dot."""
    text = documents()["coming_from_serl.md"]
    named = set(re.findall(r"policy\.([a-z_]+(?:\.[a-z_]+)?)", text)) - {"type", "path"}
    assert len(named) >= 20
    assert named <= set(settings_in(SerlSacConfig))
    rows = [line.split("|")[2] for line in text.splitlines() if line.startswith("| ") and line.count("|") == 4]
    typed = {flag for row in rows for flag in re.findall(r"--(\w+)\b(?![.\w])", row)}
    ours = {item.name for config in (ActorProcessConfig, TrainPipelineConfig) for item in fields(config)}
    assert typed - ours == {"config_path"}
    files = set(re.findall(r"configs/\w+\.yaml", text))
    assert "configs/serl.yaml" in files <= {str(path.relative_to(DOCS.parent)) for path in presets("policy")}


def test_every_column_is_explained_once_and_no_other():
    learner = columns_in("learner")  # test_metrics_log.py has the rest: a run writes no other columns
    assert sorted(set(learner)) == learner
    assert set(learner) >= set(LEARNER_LEADING_COLUMNS)
    assert columns_in("episodes") == sorted(EPISODE_COLUMNS)
    assert set(columns_in("evaluations")) >= set(EVALUATION_COLUMNS)


def test_the_numbers_of_deciders_are_those_of_the_code():
    rows = re.findall(r"^\| (\d) \| (?:the |a )?([\w ]*\w)", documents()["rewards.md"], re.MULTILINE)
    assert [(int(number), word) for number, word in rows] == [(decider.number, decider.value) for decider in Decider]
