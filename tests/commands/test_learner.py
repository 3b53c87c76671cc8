"""The learner inside `lerobot-train`: real commands, in their own processes."""

import csv
import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from act_checkpoints import CAMERAS, random_observations, save_act, small_act_config
from hub_server import HubServer
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.configs.train import TrainPipelineConfig
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from safetensors import safe_open
from safetensors.torch import load_file
from small_data import make_recording
from small_policy import small_agent, small_config
from test_hub import client

from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.envs.gl_platform import choose_gl_platform
from lerobot_serl.label_settings import LabelSettings
from lerobot_serl.networks.image_encoder import LATENT_SIZE
from lerobot_serl.online.feature_cache import cache_features
from lerobot_serl.online.learner import Learner
from lerobot_serl.policy.checkpoint_files import LEARNER_STATE, first_flaw
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.policy.parts import ActorConfig, OnlineConfig, StartupConfig
from lerobot_serl.policy.progress import Progress
from lerobot_serl.record.own_expert import record_expert
from lerobot_serl.replay.demonstrations import EpisodeReader
from lerobot_serl.replay.store import EpisodeStore, online_features

pytestmark = pytest.mark.slow
SMALL = (
    "--policy.device=cpu", "--policy.push_to_hub=false", "--policy.batch_size=32", "--policy.critic.members=2",
    "--policy.critic.hidden_sizes=[32,32]", "--policy.actor.hidden_sizes=[32,32]", "--policy.startup.critic_updates=6",
    "--batch_size=1", "--num_workers=0", "--env_eval_freq=0", "--log_freq=5", "--seed=3",
)  # fmt: skip


def command(module, *flags, check=True):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", module, *flags], capture_output=True, text=True, env=environment, timeout=300)
    if check:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def train(*flags, check=True):
    return command("lerobot.scripts.lerobot_train", *flags, check=check)


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """Two small datasets and an ACT whose statistics are the first one's."""
    root = tmp_path_factory.mktemp("ground")
    for name, seed in (("demos", 0), ("others", 50)):
        record_expert(FrankaSimEnv(), f"local/{name}", root / name, n_episodes=3, seed=seed)
    statistics = LeRobotDatasetMetadata("local/demos", root=root / "demos").stats
    tensors = {key: {name: torch.as_tensor(value) for name, value in named.items()} for key, named in statistics.items()}
    save_act(root / "act", small_act_config(0), tensors)
    return root


def counters_of(checkpoint):
    with safe_open(checkpoint / "training_state" / LEARNER_STATE, framework="pt") as file:
        return json.loads(file.metadata()["counters"])


def dataset(ground, name):
    return (f"--dataset.repo_id=local/{name}", f"--dataset.root={ground / name}")


@pytest.mark.parametrize("setting", [None, True, False])
def test_a_takeover_ends_the_policys_part_unless_switched_off(demonstrations, tmp_path, setting):
    config = small_config(online=OnlineConfig(takeover_is_failure=setting), metrics_dir=str(tmp_path))
    learner = Learner(small_agent(config), config, Progress(config), demonstrations.meta)
    demonstrated = len(learner.demonstrations)
    by_hand = torch.tensor([False, False, True, True, False, False])
    for recording in (
        make_recording(6, "truncated", intervention=by_hand),
        make_recording(4, "truncated", intervention=torch.zeros(4, dtype=torch.bool)),
    ):
        learner.remember(cache_features(learner.agent, recording, 64))
    assert len(learner.online) == 5 + 3  # transitions of the truncated episodes, cut or not
    assert len(learner.demonstrations) == demonstrated + 2
    ends = learner.online.sample(400, torch.Generator().manual_seed(0)).discount == 0
    if setting is False:
        assert learner.online.episodes == 2
        assert not ends.any()
    else:  # the demonstrations' rewards are 0 and 1
        assert learner.online.episodes == 3 + 1
        assert 0.1 < ends.float().mean() < 0.4  # from 2 of the 8 steps the end is at most three steps away


@pytest.fixture(scope="module")
def offline_run(ground):
    """Twenty offline updates, checkpoints at 10 and 20."""
    train(
        "--policy.type=serl_sac", f"--policy.act_path={ground / 'act'}", *dataset(ground, "demos"), *SMALL,
        f"--output_dir={ground / 'offline'}", "--steps=20", "--save_freq=10",
    )  # fmt: skip
    return ground / "offline" / "checkpoints"


def test_a_run_of_a_few_seconds_has_a_row_at_its_end(ground, offline_run):
    header, *rows = (ground / "offline" / "metrics" / "learner.csv").read_text().splitlines()
    assert dict(zip(header.split(","), rows[-1].split(","), strict=True))["step"] == "20"


def test_grippers_are_learnt_about_with_one_flag(ground):
    """Found by name, with their positions, in the stock command; the checkpoint goes on where it stopped, and is whole by itself."""
    flags = (*dataset(ground, "demos"), *SMALL, f"--output_dir={ground / 'gripper'}", "--save_freq=10")
    train("--policy.type=serl_sac", f"--policy.act_path={ground / 'act'}", "--policy.gripper=discrete", *flags, "--steps=10")
    last = ground / "gripper" / "checkpoints" / "last"
    assert json.loads((last / "pretrained_model" / "config.json").read_text())["grasp"]["names"] == ["gripper"]
    train(f"--config_path={last / 'pretrained_model' / 'train_config.json'}", "--resume=true", "--steps=20")
    weights = load_file(last / "pretrained_model" / "model.safetensors")
    assert weights["agent.grasp_critic.networks.0.head.bias"].any()
    positions = weights["agent.grasp_critic.positions"][:, 0] * weights["agent.box.half_width"][3] + weights["agent.box.middle"][3]
    assert positions.tolist() == pytest.approx([0.0, 1.0], abs=1e-5)
    header, *rows = (ground / "gripper" / "metrics" / "learner.csv").read_text().splitlines()
    assert float(dict(zip(header.split(","), rows[-1].split(","), strict=True))["grasp_loss"]) > 0


def test_offline_training_moves_what_it_should(ground, offline_run):
    early, late = (load_file(offline_run / step / "pretrained_model" / "model.safetensors") for step in ("000010", "000020"))
    counters = counters_of(offline_run / "000020")
    assert counters["updates"] == 20
    with safe_open(offline_run / "000020" / "training_state" / LEARNER_STATE, framework="pt") as file:
        assert file.get_tensor("optimizer.actor.0.step") == 7  # updates 6, 8, ... 18
    for name in early:
        same = torch.equal(early[name], late[name])
        if name.startswith(("agent.act.", "agent.box.", "agent.features.")):
            assert same, name
        elif name.startswith(("agent.actor.", "agent.critic.", "agent.critic_target.")) and "norm" not in name:
            assert not same, name
    config = json.loads((offline_run / "000020" / "pretrained_model" / "config.json").read_text())
    assert config["act_path"] is None
    assert config["act"]["dim_model"] == 32
    assert config["value_range"] == [0.0, 1.0]
    assert 0.9 < config["discount"] < 1
    told = json.loads((ground / "offline" / "metrics" / "run.json").read_text())
    assert (told["horizon"], told["fps"]) == (10, 10)
    assert told["command"].startswith("lerobot-train --policy.type=serl_sac ")


def test_resume_is_bit_exact_offline(ground, offline_run, tmp_path):
    """Interrupted at 10 and resumed equals never interrupted."""
    uninterrupted = load_file(offline_run / "000020" / "pretrained_model" / "model.safetensors")
    optimizer = load_file(offline_run / "000020" / "training_state" / LEARNER_STATE)
    assert sum("exp_avg" in name for name in optimizer) > 20
    copy = tmp_path / "run"
    subprocess.run(["cp", "-r", str(offline_run.parent), str(copy)], check=True)
    config = copy / "checkpoints" / "000010" / "pretrained_model" / "train_config.json"
    train(f"--config_path={config}", "--resume=true", f"--output_dir={copy}", f"--policy.metrics_dir={copy}")
    resumed = load_file(copy / "checkpoints" / "000020" / "pretrained_model" / "model.safetensors")
    assert resumed.keys() == uninterrupted.keys()
    for name, value in uninterrupted.items():
        assert torch.equal(value, resumed[name]), name
    resumed_optimizer = load_file(copy / "checkpoints" / "000020" / "training_state" / LEARNER_STATE)
    assert resumed_optimizer.keys() == optimizer.keys()
    assert counters_of(copy / "checkpoints" / "000020") == counters_of(offline_run / "000020")
    for name, value in optimizer.items():
        assert torch.equal(value, resumed_optimizer[name]), name


def interrupted(event, *flags):
    """`lerobot-train` that a signal meets; see interrupted_training.py."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    script = str(Path(__file__).parents[1] / "interrupted_training.py")
    return subprocess.run([sys.executable, script, event, *flags], capture_output=True, text=True, env=environment, timeout=300)


def assert_same_checkpoint(one, two):
    """Weights, counters, random generator and optimizer, to the bit; and the next run reads the same settings."""
    for name in ("pretrained_model/model.safetensors", f"training_state/{LEARNER_STATE}"):
        ours, theirs = load_file(one / name), load_file(two / name)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert torch.equal(value, theirs[key]), key
    assert counters_of(one) == counters_of(two)
    for name in ("training_state/training_step.json", "training_state/optimizer_param_groups.json"):
        assert json.loads((one / name).read_text()) == json.loads((two / name).read_text())


def test_interrupted_online_from_the_hub_and_waiting_equals_never_interrupted(ground, offline_run, tmp_path):
    """One run goes from update 10 to 20, beginning from a checkpoint of the Hub; another is interrupted by SIGTERM on the way. Nobody is
    connected: the online dataset pays for the updates. When they are used up, Ctrl-C ends the wait, again with a checkpoint."""
    recordings = [
        make_recording(
            20, "terminated", intervention=torch.arange(20) >= start, action=0.1 * torch.ones(20, 4),
            observation={"observation.state": torch.randn(20, 18), "observation.environment_state": torch.randn(20, 3)},
        )
        for start in (20, 12, 20)
    ]  # fmt: skip
    meta = LeRobotDatasetMetadata("local/demos", root=ground / "demos")
    store = EpisodeStore("local/waiting", str(tmp_path / "online"), meta.fps, online_features(meta.features, False), False)
    store.append([(f"uuid-{index}", recording) for index, recording in enumerate(recordings)])
    online = (
        "--resume=true", "--policy.online.repo_id=local/waiting", f"--policy.online.root={tmp_path / 'online'}", "--policy.online.port=0",
        "--policy.startup.collect_steps=0", "--save_freq=20", "--steps=100",
    )  # fmt: skip
    start = offline_run / "000010"
    with HubServer() as hub:
        files = {str(path.relative_to(start.parents[1])): path.read_bytes() for path in start.rglob("*") if path.is_file()}
        hub.repositories["me/run"] = files
        whole = client(
            hub, tmp_path / "home", "lerobot.scripts.lerobot_train", "--config_path=me/run", *online, "--steps=20",
            f"--output_dir={tmp_path / 'whole'}",
        )  # fmt: skip
    assert "Checkpoint policy after step 20" in whole.stderr

    first = interrupted(
        "SIGTERM@5", f"--config_path={start / 'pretrained_model' / 'train_config.json'}", *online, f"--output_dir={tmp_path / 'run'}"
    )
    written = tmp_path / "run" / "checkpoints" / "000015"
    config = written / "pretrained_model" / "train_config.json"
    assert first.returncode == 143, first.stderr[-3000:]
    assert f"Checkpoint written to {written}; go on with: lerobot-train --resume=true --config_path={config}" in first.stderr
    assert "Traceback" not in first.stderr.partition("Checkpoint policy after step")[2]
    assert json.loads(config.read_text())["save_freq"] == 20

    second = interrupted("SIGINT@waiting", f"--config_path={config}", *online[:1])
    assert second.returncode == 130, second.stderr[-3000:]
    assert_same_checkpoint(tmp_path / "run" / "checkpoints" / "000020", tmp_path / "whole" / "checkpoints" / "000020")
    last = (tmp_path / "run" / "checkpoints" / "last").resolve()
    assert last.name == "000066"  # all that 60 environment steps pay for
    assert counters_of(last)["updates"] == 66
    assert first_flaw(last) is None


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(ground, tmp_path):
    killed = interrupted(
        "SIGKILL@saving", "--policy.type=serl_sac", f"--policy.act_path={ground / 'act'}", *dataset(ground, "demos"), *SMALL,
        f"--output_dir={tmp_path / 'run'}", "--steps=6", "--save_freq=2",
    )  # fmt: skip
    assert killed.returncode == -9
    checkpoints = tmp_path / "run" / "checkpoints"
    assert (checkpoints / "last").resolve().name == "000002"
    assert first_flaw(checkpoints / "000002") is None
    half = checkpoints / "000004" / "pretrained_model"
    config = TrainPipelineConfig.from_pretrained(half)
    with pytest.raises(ValueError, match=r"optimizer_state.safetensors is missing.*The newest whole one is 000002: --config_path=.*000002"):
        SerlSacPolicy.from_pretrained(half, config=config.policy)


def test_policy_path_starts_anew_and_keeps_act(ground, offline_run, tmp_path):
    """--policy.path= on another dataset: counters restart, ACT's output does not change, act_path is gone."""
    checkpoint = offline_run / "000020" / "pretrained_model"
    train(
        f"--policy.path={checkpoint}", *dataset(ground, "others"), "--policy.push_to_hub=false", "--batch_size=1", "--num_workers=0",
        "--env_eval_freq=0", f"--output_dir={tmp_path / 'run'}", "--steps=4", "--policy.startup.critic_updates=100",
        "--policy.clipped_share=1",
    )  # fmt: skip
    continued = SerlSacPolicy.from_pretrained(tmp_path / "run" / "checkpoints" / "last" / "pretrained_model")
    before = SerlSacPolicy.from_pretrained(checkpoint)
    assert counters_of(tmp_path / "run" / "checkpoints" / "last")["updates"] == 4
    observations = random_observations(small_act_config(0), 50)
    for ours, theirs in zip(continued.agent.cache_features(observations), before.agent.cache_features(observations), strict=True):
        assert torch.equal(ours, theirs)


def test_mistakes_are_told_before_anything_starts(ground, tmp_path):
    done = train(
        "--policy.type=serl_sac", "--policy.act_path=no/such/place", *dataset(ground, "demos"), *SMALL,
        f"--output_dir={tmp_path / 'run'}", "--steps=2", check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "policy.act_path='no/such/place'" in done.stderr
    assert not (tmp_path / "run").exists()


def test_online_run_end_to_end_and_resume(ground, tmp_path):
    """`lerobot-serl-run`: learner and actor as processes; then the run goes on with its memory and counters."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("train: {policy: {type: serl_sac}}\nactor: {env: {type: franka_sim, episode_length: 20}}\n")
    run, online = tmp_path / "run", tmp_path / "online"
    small = [f"--train.{flag.removeprefix('--')}" for flag in SMALL]
    datasets = [f"--train.{flag.removeprefix('--')}" for flag in dataset(ground, "demos")]
    # ACT's plans are of 10 steps: each is decided about three times.
    shared = ["--train.policy.startup.collect_steps=60", "--train.policy.horizon=4", f"--train.policy.online.root={online}"]
    command(
        "lerobot_serl.scripts.lerobot_serl_run", f"--config_path={recipe}", f"--output_dir={run}", *datasets, *small, *shared,
        f"--train.policy.act_path={ground / 'act'}", "--train.policy.online.repo_id=local/online", "--train.steps=20",
        "--train.save_freq=10", "--train.wandb.enable=true", "--train.wandb.mode=offline",
    )  # fmt: skip
    first = counters_of(run / "checkpoints" / "000020")
    dataset_one = LeRobotDataset("local/online", root=online)
    assert first["env_steps"] >= 60 + 14  # 20 updates: 6 before the actor joins, one per step afterwards
    assert dataset_one.num_frames >= first["env_steps"]
    assert not list(online.with_name("online.journal").glob("*"))
    from wandb_offline import wandb_rows  # it takes six seconds to import, which a run of quick tests need not wait for

    rows = wandb_rows(run)
    assert [row["_step"] for row in rows] == [5, 10, 15, 20]
    shown = ("success", "return", "takeovers", "phase", "lead_steps", "alarms", "rollbacks", "critic_loss", "env_steps")
    assert all(f"train/{name}" in row for row in rows for name in shown)
    assert [rows[0]["train/phase"], rows[-1]["train/phase"]] == [1, 2]
    assert {"next.reward", "next.terminated", "next.truncated", "is_intervention", "plan.action"} <= set(dataset_one.features)

    config = run / "checkpoints" / "000010" / "pretrained_model" / "train_config.json"
    command(
        "lerobot_serl.scripts.lerobot_serl_run", f"--config_path={recipe}", f"--output_dir={run}", "--train.resume=true",
        "--train.wandb.enable=false",
        f"--train.config_path={config}", "--train.steps=150", "--actor.seed=77",
    )  # fmt: skip
    second = counters_of(run / "checkpoints" / "000150")
    dataset_two = LeRobotDataset("local/online", root=online)
    assert second["updates"] == 150
    assert second["env_steps"] >= 60 + 144
    assert dataset_two.num_frames > dataset_one.num_frames
    frames = dataset_two.hf_dataset.with_format("numpy")[:]
    assert frames["plan.age"].ravel().tolist() == (frames["frame_index"].ravel() % 10).tolist()  # through the restart too
    episodes = (run / "metrics" / "episodes.csv").read_text().splitlines()
    assert len(episodes) - 1 >= dataset_one.num_episodes
    assert Path(run / "metrics" / "learner.csv").is_file()

    best = run / "checkpoints" / "best" / "pretrained_model"
    assert {path.name for path in (run / "checkpoints" / "000150" / "pretrained_model").iterdir()} - {"success_watch.safetensors"} <= {
        path.name for path in best.iterdir()
    }
    assert SerlSacPolicy.from_pretrained(best).config.act_alone  # episodes of 20 steps: nothing succeeded
    assert "acts as ACT" in (best / "README.md").read_text()
    acted_as = [row["acted_as"] for row in csv.DictReader(episodes)]
    assert {"ACT", "exploring"} <= set(acted_as) <= {"ACT", "exploring", "deployed"}


@pytest.mark.skipif(choose_gl_platform() in (None, "disable"), reason="no OpenGL library to render cameras with")
@pytest.mark.parametrize("features", ["auto", "cnn"])
def test_camera_policies_learn_too(tmp_path, features):
    """Two cameras from recording to a checkpoint: images are decoded and run through ACT once; the critics see what it makes of them, or look
    themselves."""
    side = 32 if features == "auto" else 48
    environment = FrankaSimEnv(obs_type="pixels", observation_height=side, observation_width=side)
    record_expert(environment, "local/pixels", tmp_path / "pixels", n_episodes=2, use_videos=False)
    act_config = small_act_config(2)
    act_config.input_features |= {key: PolicyFeature(FeatureType.VISUAL, (3, side, side)) for key in CAMERAS}
    statistics = LeRobotDatasetMetadata("local/pixels", root=tmp_path / "pixels").stats
    tensors = {key: {name: torch.as_tensor(value) for name, value in named.items()} for key, named in statistics.items()}
    save_act(tmp_path / "act", act_config, tensors)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "train: {policy: {type: serl_sac}}\n"
        f"actor: {{env: {{type: franka_sim, obs_type: pixels, observation_height: {side}, observation_width: {side}, episode_length: 12}}}}\n"
    )
    small = [f"--train.{flag.removeprefix('--')}" for flag in SMALL]
    command(
        "lerobot_serl.scripts.lerobot_serl_run", f"--config_path={recipe}", f"--output_dir={tmp_path / 'run'}", *small,
        f"--train.policy.act_path={tmp_path / 'act'}", "--train.dataset.repo_id=local/pixels", f"--train.dataset.root={tmp_path / 'pixels'}",
        "--train.policy.startup.collect_steps=12", "--train.policy.online.repo_id=local/pixels_online",
        f"--train.policy.online.root={tmp_path / 'online'}", "--train.steps=10", f"--train.policy.features={features}",
        *(["--train.policy.image_size=32"] if features == "cnn" else []),
    )  # fmt: skip
    policy = SerlSacPolicy.from_pretrained(tmp_path / "run" / "checkpoints" / "last" / "pretrained_model")
    assert counters_of(tmp_path / "run" / "checkpoints" / "last")["updates"] == 10
    # State, and from ACT decoder features and the mean feature map of ResNet-18 for each of two cameras.
    assert policy.agent.features.size == 18 + (32 + 2 * 512 if features == "auto" else 0)
    assert policy.agent.picture_shapes == ({} if features == "auto" else dict.fromkeys(CAMERAS, (3, 32, 32)))
    assert policy.agent.critic.feature_size == 18 + (32 + 2 * 512 if features == "auto" else 2 * LATENT_SIZE)
    online = LeRobotDataset("local/pixels_online", root=tmp_path / "online")
    assert online.num_frames >= 12
    assert online[0]["observation.images.wrist"].std() > 0.01


@pytest.mark.parametrize(("changes", "scale"), [([0.1, 0.14], 0.12), ([0.01, 0.02], 0.05), ([0.1, 0.9], 0.2)])
def test_the_demonstrations_decide_how_far_edits_reach(demonstrations, tmp_path, caplog, changes, scale):
    caplog.set_level(logging.INFO)
    config = small_config(metrics_dir=str(tmp_path))
    agent = small_agent(config)
    change = EpisodeReader(demonstrations, list(config.input_features)).action_change
    agent.box.half_width.copy_(torch.from_numpy(change) / torch.tensor(changes))
    Learner(agent, config, Progress(config), demonstrations.meta)
    assert config.actor.edit_scale == pytest.approx(scale)
    torch.testing.assert_close(agent.edit_reach, torch.full((2,), scale))
    torch.testing.assert_close(agent.edit_scale, 0.1 * agent.edit_reach)
    assert f"actor.edit_scale=auto: {scale:g} of half the action's range" in caplog.text


def test_labels_are_printed_as_one_table_and_a_flag_decides_them(demonstrations, tmp_path, caplog):
    caplog.set_level(logging.INFO)

    def learner_of(**labels):
        caplog.clear()
        config = small_config(metrics_dir=str(tmp_path), labels=LabelSettings(**labels))
        return Learner(small_agent(config), config, Progress(config), demonstrations.meta)

    learner = learner_of()
    (table,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Labels of test/tiny: 3 episodes")]
    for words in ("15  14, as transitions", "2 terminate, 1 are truncated, 0 end with the data", "--policy.labels.ends=success"):
        assert words in table
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING and "learnt" in record.getMessage()]
    assert "93.3% of the frames is learnt from: 1 frame (reward 0) at the end of episodes that do not terminate" in warning
    assert len(learner.demonstrations) == 14
    assert learner.config.value_range == (0.0, 1.0)
    assert learner.config.discount == round(0.4 ** (1 / 5), 5)
    learner = learner_of(ends="never")
    assert len(learner.demonstrations) == 12
    assert learner.config.value_range is None
    assert learner.config.online.takeover_is_failure is False
    assert "0.0% of the recorded reward" in caplog.text


def test_practice_is_read_as_recorded_whatever_the_flag_says_of_demonstrations(demonstrations, tmp_path):
    features = online_features(demonstrations.features, use_videos=False)
    store = EpisodeStore("test/online", str(tmp_path / "online"), demonstrations.fps, features, use_videos=False)
    store.append([("a", make_recording(6, "terminated", intervention=torch.zeros(6, dtype=torch.bool)))])
    source = TwoEpisodes()
    source.left, source.existing = [], store.open
    config = small_config(metrics_dir=str(tmp_path), labels=LabelSettings(ends="never", reward="success", shift=-1.0))
    learner = Learner(small_agent(config), config, Progress(config), demonstrations.meta, source)
    assert len(learner.online) == 6
    last = learner.online.sample(200, torch.Generator().manual_seed(0))
    assert set(last.reward[last.discount == 0].gt(0).tolist()) == {True}
    assert (last.reward >= 0).all()


def test_a_given_edit_scale_is_kept(demonstrations, tmp_path):
    config = small_config(metrics_dir=str(tmp_path), actor=ActorConfig(hidden_sizes=(16,), edit_scale=0.07))
    agent = small_agent(config)
    agent.set_reach(config.actor.edit_scales)
    agent.edit_scale.fill_(0.2)  # as loaded from a checkpoint of a run with more
    Learner(agent, config, Progress(config), demonstrations.meta)
    assert config.actor.edit_scale == 0.07
    torch.testing.assert_close(agent.edit_reach, torch.full((2,), 0.07))
    torch.testing.assert_close(agent.edit_scale, torch.full((2,), 0.07))


@pytest.mark.parametrize(
    ("rewards", "said"), [((-1.0, 0.0, 0.0), "from -1 to 0, -1 together"), ((0.5, 0.0, 1.0), "from 0 to 1, 1.5 together")]
)
def test_rewards_that_the_demonstrations_did_not_announce_end_the_run(demonstrations, tmp_path, caplog, rewards, said):
    """Targets were clipped to [0, 1] without a word: with -1 for each step nothing can be learnt then."""
    config = small_config(metrics_dir=str(tmp_path))
    alone = torch.zeros(3, dtype=torch.bool)
    unannounced = make_recording(3, intervention=alone, reward=torch.tensor(rewards))

    def learner_of(*recordings):
        source = TwoEpisodes()
        source.left = list(recordings)
        learner = Learner(small_agent(config), config, Progress(config), demonstrations.meta, source)
        for _ in recordings:
            learner._take(source, wait_s=0.2)
        return learner

    learner = learner_of(make_recording(3, intervention=alone))
    assert not learner.stopping.asked
    config = small_config(metrics_dir=str(tmp_path))
    learner = learner_of(make_recording(3, intervention=alone), unannounced)
    assert (len(learner.online), learner.progress.episodes) == (3, 1)
    with pytest.raises(SystemExit):
        learner.step()
    assert said in caplog.text
    assert "--policy.value_range='[LOWEST, HIGHEST]'" in caplog.text
    config.value_range = (-50.0, 0.0)  # given by a person, who knows
    learner = learner_of(unannounced)
    assert not learner.stopping.asked
    assert len(learner.online) == 3


def test_the_advantage_penalty_counts_for_less_the_more_is_known(demonstrations, tmp_path, monkeypatch):
    """As a prior that is worth 6 recorded steps; the demonstrations count where there is nothing else."""
    config = small_config(metrics_dir=str(tmp_path))
    config.critic.prior_steps = 6
    learner = Learner(small_agent(config), config, Progress(config), demonstrations.meta)
    demonstrated, agent = len(learner.demonstrations), learner.agent

    def weighs(steps):
        learner.step()
        assert learner.learning.known_steps == steps
        loss, metrics = agent.critic_loss(learner._sample())
        added = loss - metrics["critic_loss"]
        assert added > 0.1
        torch.testing.assert_close(added, 6 / (6 + steps) * metrics["advantage_penalty"], atol=1e-3, rtol=1e-3)

    penalty = agent._advantage_penalty
    monkeypatch.setattr(agent, "_advantage_penalty", lambda batch: 1e8 * penalty(batch))  # one that rounding does not hide
    weighs(demonstrated)
    learner.remember(cache_features(agent, make_recording(6), 64))
    weighs(len(learner.online))
    config.critic.prior_steps = 0
    _, metrics = agent.critic_loss(learner._sample())
    assert metrics["advantage_penalty"] == 0.0


class TwoEpisodes:
    """A source in the learner's own process."""

    def __init__(self):
        self.left = [make_recording(12), make_recording(12, "truncated")]
        self.started_with = None

    def existing(self):
        return None

    def start(self, frames, episodes, resumed):
        self.started_with = (frames, episodes, resumed)

    def arrived(self, wait_s):
        return self.left.pop(0) if wait_s and self.left else None

    def ingested(self):
        pass

    after_update = publish = remind = ingested


def test_episodes_may_come_from_this_process(demonstrations, tmp_path):
    """The learner asks when it can not go on, opens no port, and works on an episode without looking at the clock."""
    config = small_config(
        online=OnlineConfig(repo_id="local/here", root=str(tmp_path / "never")), metrics_dir=str(tmp_path),
        startup=StartupConfig(collect_steps=20, critic_updates=2),
    )  # fmt: skip
    progress, source = Progress(config), TwoEpisodes()
    learner = Learner(small_agent(config), config, progress, demonstrations.meta, source)
    assert source.started_with == (0, 0, False)
    assert learner.feature_cache.slice_s == math.inf
    learner.step()
    assert (progress.env_steps, progress.episodes, progress.updates) == (24, 2, 1)
    assert not (tmp_path / "never").exists()


def test_the_corrector_begins_after_enough_takeovers(demonstrations, tmp_path):
    config = small_config(metrics_dir=str(tmp_path), startup=StartupConfig(critic_updates=0))
    learner = Learner(small_agent(config), config, Progress(config), demonstrations.meta)
    by_hand = torch.tensor([False, True, True, False, True, True])

    def terms():
        return learner.agent.update(learner._sample())

    for n_takeovers in range(0, config.corrector.least_takeovers + 2, 2):
        assert learner.learning.takeovers == n_takeovers
        assert ("corrector_loss" in terms()) == (n_takeovers == config.corrector.least_takeovers)
        learner.remember(cache_features(learner.agent, make_recording(6, "truncated", intervention=by_hand), 64))
    config.corrector.least_takeovers = 0
    assert "corrector_loss" not in terms()
