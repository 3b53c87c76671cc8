"""Configuration files that come with the project: LeRobot takes them, flags win over them, and a policy is made of each."""

import sys

import draccus
import pytest
import torch
import yaml
from lerobot.configs import FeatureType, PolicyFeature, parser
from lerobot.configs.train import TrainPipelineConfig

from lerobot_serl import SerlSacConfig
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.presets import missing_preset, presets
from lerobot_serl.run.recipe import RecipeError, load_recipe
from lerobot_serl.typed_flags import hints

PRESETS = {path.stem: path for path in presets("policy")}
STATISTICS = {"min": -1.0, "max": 1.0, "mean": 0.0, "std": 0.5}
SMALL_ACT = [f"--policy.act.{flag}" for flag in ("dim_model=16", "n_heads=1", "dim_feedforward=16", "n_encoder_layers=1", "latent_dim=4")]


def parsed(monkeypatch, *flags):
    """What ``lerobot-train`` makes of a command line."""

    @parser.wrap()
    def configuration(command: TrainPipelineConfig) -> TrainPipelineConfig:
        command.validate()
        return command

    monkeypatch.setattr(sys, "argv", ["lerobot-train", "--dataset.repo_id=me/task", *flags])
    return configuration()


def test_the_presets_are_those_that_are_promised():
    assert set(PRESETS) == {"act_edit", "serl", "rlpd", "so101", "franka", "camera_gpu"}
    assert [path.stem for path in presets("train")] == ["franka_sim_pick_cube"]


@pytest.mark.parametrize("name", PRESETS)
def test_lerobot_takes_it_and_the_policy_is_made(name, monkeypatch, tmp_path):
    document = yaml.safe_load(PRESETS[name].read_text())
    flags = [] if document["policy"].get("base") == "none" else ["--policy.base=act", *SMALL_ACT]
    command = parsed(monkeypatch, f"--config_path={PRESETS[name]}", "--policy.device=cpu", f"--output_dir={tmp_path / 'out'}", *flags)
    config = command.policy
    assert isinstance(config, SerlSacConfig)
    assert (command.batch_size, command.num_workers) == (1, 0)
    config.input_features = {"observation.state": PolicyFeature(FeatureType.STATE, (5,))} | {
        f"observation.images.{place}": PolicyFeature(FeatureType.VISUAL, (3, 64, 64)) for place in ("front", "wrist")
    }
    config.output_features = {"action": PolicyFeature(FeatureType.ACTION, (6,))}
    features = config.input_features | config.output_features
    statistics = {
        key: {name: torch.full((*feature.shape[:1], *[1] * (len(feature.shape) - 1)), value) for name, value in STATISTICS.items()}
        for key, feature in features.items()
    }
    policy = SerlSacPolicy(config, dataset_stats=statistics)
    observation = {key: torch.rand(1, *feature.shape) for key, feature in config.input_features.items()}
    action = policy.select_action(observation)
    assert action.shape == (1, 6)
    assert action.isfinite().all()


def test_flags_win(monkeypatch):
    flags = ("--policy.critic.members=7", "--policy.n_step=40", "--steps=3")
    command = parsed(monkeypatch, f"--config_path={PRESETS['act_edit']}", *flags)
    assert (command.policy.critic.members, command.policy.n_step, command.steps) == (7, 40, 3)


def test_act_edit_spells_the_defaults_out(monkeypatch):
    command = parsed(monkeypatch, f"--config_path={PRESETS['act_edit']}")
    plain = SerlSacConfig(push_to_hub=False)
    assert draccus.encode(command.policy, SerlSacConfig) == draccus.encode(plain, SerlSacConfig)


def test_a_setting_that_there_is_not_is_named(monkeypatch, tmp_path, capsys):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(PRESETS["act_edit"].read_text().replace("prior_steps", "prior_step"))
    with pytest.raises(SystemExit):
        parsed(monkeypatch, f"--config_path={wrong}")
    assert "`critic`: The fields `prior_step` are not valid for CriticConfig" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["configs/srl.yaml", "srl", "srl.yaml"])
def test_a_preset_that_there_is_not_is_answered_with_those_that_exist(place):
    (said,) = hints(["lerobot-train", f"--config_path={place}", "--dataset.repo_id=me/task"])
    assert said.startswith(f"--config_path={place}: no such file; there are ")
    assert [path.stem for path in PRESETS.values() if f"{path.stem}.yaml" not in said] == []
    assert "franka_sim_pick_cube" not in said


def test_what_exists_or_may_lie_on_the_hub_is_not_answered(tmp_path):
    (tmp_path / "train_config.json").write_text("{}")
    for place in (str(PRESETS["so101"]), "me/run", str(tmp_path), f"{tmp_path}/train_config.json", "outputs/train_config.json"):
        assert missing_preset(place, "policy") is None
        assert hints(["lerobot-train", f"--config_path={place}"]) == []


def test_a_recipe_takes_a_preset(tmp_path):
    path = tmp_path / "recipe.yaml"
    train = {"config_path": "configs/so101.yaml", "policy": {"online": {"repo_id": "me/task_online"}}}
    path.write_text(yaml.safe_dump({"output_dir": "out", "train": train, "actor": {"env": {"type": "franka_sim"}}}))
    assert "--config_path=configs/so101.yaml" in load_recipe(path, []).learner_flags
    with pytest.raises(RecipeError, match=r"A preset of lerobot-train goes into train, as config_path"):
        load_recipe(PRESETS["so101"], [])
    with pytest.raises(RecipeError, match=r"--config_path=.*nowhere.yaml: no such file; there are .*franka_sim_pick_cube.yaml\.$"):
        load_recipe(tmp_path / "nowhere.yaml", [])
