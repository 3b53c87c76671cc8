"""What lerobot-train is asked for and serl_sac does not do is refused by name when the policy is made, or said to have no effect."""

import json
import logging
import sys
from pathlib import Path

import pytest
from lerobot.configs import WandBConfig
from lerobot.configs.default import DatasetConfig, PeftConfig
from lerobot.configs.train import TrainPipelineConfig
from owned_act import REPO, adopted, own_act, own_dataset

from lerobot_serl.policy.train_command import check_train_command


def command(**changes):
    dataset = DatasetConfig(repo_id="you/pick", **changes.pop("dataset", {}))
    return TrainPipelineConfig(dataset=dataset, batch_size=changes.pop("batch_size", 1), wandb=WandBConfig(), **changes)


def test_a_plain_command_is_taken_without_a_word(caplog):
    plain = command()
    caplog.clear()  # LeRobot looks for torchcodec
    with caplog.at_level(logging.INFO):
        check_train_command(plain, has_cameras=True, batch_size=256)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(("changes", "words"), [
    ({"dataset": {"streaming": True}}, r"dataset.streaming=True: expected false: .* Remove --dataset.streaming"),
    ({"dataset": {"episodes": [0, 1]}}, r"dataset.episodes=\[0, 1\]: expected nothing.*lerobot-edit-dataset"),
    ({"eval_steps": 5}, r"eval_steps=5: expected 0"),
    ({"peft": PeftConfig(method_type="LORA")}, r"peft='an adapter': expected nothing"),
    ({"rename_map": {"a": "b"}}, r"rename_map={'a': 'b'}: .*Begin again from ACT, with .*--policy.act_rename_map"),
])  # fmt: skip
def test_what_cannot_be_is_refused_by_name(changes, words):
    with pytest.raises(ValueError, match=words):
        check_train_command(command(**changes), has_cameras=True, batch_size=256)


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"WORLD_SIZE=2: expected 1: serl_sac learns in one process"):
        check_train_command(command(), has_cameras=True, batch_size=256)


def test_what_has_no_effect_is_said(caplog):
    asked = command(batch_size=8)
    asked.dataset.image_transforms.enable = True
    check_train_command(asked, has_cameras=False, batch_size=256)
    assert "--batch_size=8 only costs time" in caplog.text
    assert "image_transforms" not in caplog.text
    check_train_command(asked, has_cameras=True, batch_size=256)
    assert "--dataset.image_transforms has no effect" in caplog.text


@pytest.mark.parametrize(("steps", "said"), [(20, True), (19, True), (21, False)])
def test_a_run_that_has_made_its_steps_is_told_to_ask_for_more(tmp_path, caplog, steps, said):
    (tmp_path / "training_state").mkdir()
    (tmp_path / "training_state" / "training_step.json").write_text(json.dumps({"step": 20}))
    asked = command(resume=True, steps=steps)
    asked.checkpoint_path = Path(tmp_path)
    check_train_command(asked, has_cameras=False, batch_size=256)
    assert ("This run has made its 20 steps already" in caplog.text) is said


def test_the_policy_asks_when_it_is_made_inside_lerobot_train(tmp_path):
    own_act(tmp_path / "act", own_dataset(tmp_path / "data").root)
    cfg = command(dataset={"streaming": True})  # as the variable is called in LeRobot's train()
    assert cfg.dataset.repo_id != REPO
    with pytest.raises(ValueError, match=r"dataset.streaming=True"):
        adopted(tmp_path / "act", tmp_path / "data")


@pytest.mark.parametrize(("flag", "words"), [
    ("--optimizer.lr=1e-5", r"optimizer.lr: each network has its own rate: --policy.critic.lr.* Remove --optimizer.lr."),
    ("--optimizer.weight_decay=0.1", r"optimizer.weight_decay: .*--policy.critic.weight_decay"),
    ("--optimizer.grad_clip_norm=1", r"optimizer.grad_clip_norm: .*--policy.critic.grad_clip_norm"),
    ("--optimizer.type=adamw", r"optimizer.type: serl_sac has an AdamW of its own for each network"),
    ("--scheduler.type=diffuser", r"scheduler.type: .*--policy.lr_schedule=cosine"),
    ("--use_policy_training_preset=false", r"use_policy_training_preset: serl_sac has an AdamW of its own"),
])  # fmt: skip
def test_flags_of_lerobots_optimizer_are_refused_with_the_setting_that_does_it(monkeypatch, flag, words):
    """LeRobot replaced what they say by the policy's preset, without a word."""
    monkeypatch.setattr(sys, "argv", ["lerobot-train", "--policy.type=serl_sac", flag])
    with pytest.raises(ValueError, match=words):
        check_train_command(command(), has_cameras=True, batch_size=256)


def test_an_optimizer_in_a_configuration_file_is_refused_too_and_not_in_a_runs_own(monkeypatch, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("policy: {type: serl_sac}\noptimizer: {type: adam, lr: 0.1}\n")
    monkeypatch.setattr(sys, "argv", ["lerobot-train", f"--config_path={path}", "--use_policy_training_preset=true"])
    with pytest.raises(ValueError, match=r"optimizer.type: serl_sac has"):
        check_train_command(command(), has_cameras=True, batch_size=256)
    resumed = command()
    resumed.resume = True
    check_train_command(resumed, has_cameras=True, batch_size=256)
