"""What people type first is answered before LeRobot's own text."""

import json

import pytest

from lerobot_serl.typed_flags import given, hints


@pytest.fixture
def act(tmp_path):
    (tmp_path / "act").mkdir()
    (tmp_path / "act" / "config.json").write_text(json.dumps({"type": "act"}))
    return tmp_path / "act"


@pytest.mark.parametrize("flags", [
    ["--policy.type=serl_sac", "--policy.path={act}"], ["--policy.path={act}", "--policy.horizon=5"],
    ["--policy.path", "{act}", "--policy.online.repo_id", "you/on"],
])  # fmt: skip
def test_the_path_of_an_act_is_answered_with_the_flags_that_are_meant(act, flags):
    (hint,) = hints(["/usr/bin/lerobot-train", *(flag.format(act=act) for flag in flags)])
    assert hint.endswith(f"--policy.type=serl_sac --policy.act_path={act}")


def test_a_checkpoint_of_our_own_needs_no_type_and_no_act(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"type": "serl_sac"}))
    (hint,) = hints(["lerobot-train", "--policy.type=serl_sac", f"--policy.path={tmp_path}", "--policy.act_path=act"])
    assert hint.endswith("leave out --policy.type and --policy.act_path.")
    assert hints(["lerobot-train", f"--policy.path={tmp_path}", "--policy.horizon=5"]) == []


def test_the_path_of_another_policy_is_answered_with_base_path(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"type": "diffusion"}))
    (hint,) = hints(["lerobot-train", "--policy.type=serl_sac", f"--policy.path={tmp_path}"])
    assert hint.endswith(f"--policy.type=serl_sac --policy.base_path={tmp_path}")
    assert hints(["lerobot-train", f"--policy.path={tmp_path}", "--policy.horizon=16"]) == []  # a setting of its own
    (hint,) = hints(["lerobot-train", f"--policy.base_path={tmp_path}"])
    assert hint == "--policy.base_path is serl_sac's: it takes --policy.type=serl_sac beside it, not none."


@pytest.mark.parametrize(("flags", "words"), [([], "not none."), (["--policy.type=act"], "not act.")])
def test_act_path_without_the_type_that_it_belongs_to_is_answered(flags, words):
    (hint,) = hints(["lerobot-train", *flags, "--policy.act_path=act"])
    assert hint.startswith("--policy.act_path is serl_sac's: it takes --policy.type=serl_sac beside it")
    assert hint.endswith(words)
    assert hints(["lerobot-train", "--config_path=run.json", "--policy.act_path=act"]) == []


@pytest.mark.parametrize("name", ["chunk_size", "dim_model"])
def test_what_comes_with_act_is_said(name):
    (hint,) = hints(["lerobot-train", "--policy.type=serl_sac", f"--policy.{name}=50"])
    assert hint.startswith(f"--policy.{name} is ACT's: it comes with the checkpoint at --policy.act_path.")
    assert "--policy.n_action_steps" in hint
    assert "--policy.horizon" in hint


@pytest.mark.parametrize("argv", [
    [], ["lerobot-eval", "--policy.type=serl_sac", "--policy.n_action_steps=5"], ["lerobot-train", "--policy.type=act", "--policy.chunk_size=5"],
    ["lerobot-train", "--policy.path={act}", "--steps=5"], ["lerobot-train", "--policy.path={act}/none", "--policy.horizon=5"],
    ["lerobot-train", "--policy.type=serl_sac", "--policy.act_path={act}", "--policy.horizon=5"], ["lerobot-train", "--policy.path"],
    ["lerobot-train", "--policy.type=serl_sac", "--policy.n_action_steps=1", "--policy.temporal_ensemble_coeff=0.01", "--policy.horizon=1"],
])  # fmt: skip
def test_nothing_is_said_of_what_is_right_or_somebody_elses(act, argv):
    assert hints([argument.format(act=act) for argument in argv]) == []


@pytest.mark.parametrize("text", ["[", "[]", '{"type": 3}', "{}", ""])
def test_a_damaged_config_is_lerobots_affair(act, text):
    (act / "config.json").write_text(text)
    assert hints(["lerobot-train", f"--policy.path={act}", "--policy.horizon=5"]) == []


@pytest.mark.parametrize(("arguments", "flags"), [([], {}), (["--a"], {"a": ""}), (["--a", "1", "--b=2"], {"a": "1", "b": "2"})])
def test_flags_are_read_as_they_are_typed(arguments, flags):
    assert given(arguments) == flags
    assert hints(["lerobot-train", *arguments]) == []
