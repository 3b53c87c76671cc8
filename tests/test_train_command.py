"""What lerobot-train is asked for and serl_sac does not do is refused by name when the policy is made, or said to have no effect."""

import json
import logging
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
