"""A reward classifier that the real lerobot-train made, as the judge of a robot's episodes."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from act_checkpoints import save_act, small_act_config
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from poisoned_checkpoints import poison
from safetensors.torch import load_file, save_file
from transformers import ResNetConfig, ResNetModel

from lerobot_serl.actor.judges import RewardModelJudge, Verdict
from lerobot_serl.actor.world import WorldError
from lerobot_serl.replay.episode import Decider

pytestmark = pytest.mark.slow
DOCUMENT = Path(__file__).parents[2] / "docs" / "rewards.md"
LEROBOT_TRAIN = Path(sys.executable).parent / "lerobot-train"
CAMERA = "observation.images.front"
PIXELS = 128  # LeRobot's classifier assumes a feature map of 4 x 4, which this gives behind a stride of 32
FEATURES = {"joint.pos": float, "front": (PIXELS, PIXELS, 3)}
SUCCESS = Verdict(True, Decider.REWARD_MODEL)
PREPROCESSOR = "classifier_preprocessor.json"


def picture(bright, seed=0):
    """Noise of the same kind, above or below the middle grey."""
    noise = np.random.default_rng(seed).integers(0, 60, (PIXELS, PIXELS, 3))
    return (noise + 190 * bright).astype(np.uint8)


def seen(bright, seed=0, camera="front"):
    """An observation of a robot."""
    return {"joint.pos": 0.5, camera: picture(bright, seed)}


def documented_flags():
    """Of the training command in docs/rewards.md."""
    text = DOCUMENT.read_text(encoding="utf-8").replace("\\\n", " ")
    command = next(line for line in text.splitlines() if line.startswith("    lerobot-train --reward_model.type="))
    return dict(flag.split("=", 1) for flag in shlex.split(command)[1:])


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Trained by the command in docs/rewards.md on two episodes that are dark until the success."""
    root = tmp_path_factory.mktemp("reward_model")
    features = {
        CAMERA: {"dtype": "image", "shape": (PIXELS, PIXELS, 3), "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": (1,), "names": ["joint.pos"]},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    }
    dataset = LeRobotDataset.create("test/reward", fps=10, features=features, root=root / "data", use_videos=False)
    for episode in range(2):
        for t in range(16):
            frame = {CAMERA: picture(t >= 8, 100 * episode + t), "action": np.zeros(1, np.float32), "task": "brighten"}
            dataset.add_frame({**frame, "next.reward": np.array([t >= 8], np.float32)})
        dataset.save_episode()
    dataset.finalize()
    # The default backbone lies on the Hub; a random one of the same family tells bright from dark as well.
    torch.manual_seed(0)
    architecture = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic")
    ResNetModel(architecture).save_pretrained(root / "backbone")
    flags = documented_flags() | {
        "--reward_model.model_name": str(root / "backbone"), "--dataset.repo_id": "test/reward", "--dataset.root": str(root / "data"),
        "--output_dir": str(root / "run"), "--steps": "40", "--save_freq": "40", "--log_freq": "20", "--dataset.use_imagenet_stats": "false",
        "--reward_model.learning_rate": "1e-2", "--reward_model.dropout_rate": "0",
    }  # fmt: skip
    done = subprocess.run(
        [str(LEROBOT_TRAIN), *(f"{name}={value}" for name, value in flags.items())],
        capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return root / "run" / "checkpoints" / "last" / "pretrained_model"


@pytest.fixture
def copy_of_model(model, tmp_path) -> Path:
    """To be damaged."""
    return Path(shutil.copytree(model, tmp_path / "copy"))


def make_judge(path, features=FEATURES, rename_map=None, threshold=0.5, consecutive=3):
    return RewardModelJudge(str(path), "arm", features, threshold, consecutive, rename_map or {}, "cpu")


def test_success_is_given_after_so_many_positives_in_a_row_and_not_before(model):
    judge = make_judge(model)
    judge.begin()
    assert [judge.judge(seen(True, t)) for t in range(3)] == [None, None, SUCCESS]


def test_one_negative_in_between_starts_the_count_again(model):
    judge = make_judge(model)
    judge.begin()
    brightness = [True, True, False, True, True, True]
    assert [judge.judge(seen(bright, t)) for t, bright in enumerate(brightness)] == [None] * 5 + [SUCCESS]


def test_dark_images_are_never_a_success(model):
    judge = make_judge(model, consecutive=1)
    judge.begin()
    assert [judge.judge(seen(False, t)) for t in range(10)] == [None] * 10


def test_positives_of_one_episode_do_not_count_in_the_next(model):
    judge = make_judge(model)
    judge.begin()
    assert judge.judge(seen(True, 0)) is None
    assert judge.judge(seen(True, 1)) is None
    judge.begin()
    assert [judge.judge(seen(True, t)) for t in range(2, 5)] == [None, None, SUCCESS]


def test_a_threshold_that_no_probability_reaches_is_never_passed(model):
    judge = make_judge(model, threshold=1.0, consecutive=1)
    judge.begin()
    assert [judge.judge(seen(True, t)) for t in range(5)] == [None] * 5


def test_images_are_normalised_with_the_statistics_that_the_model_was_trained_with(model, monkeypatch):
    """Bright and dark as it learnt them are of both signs; raw pixels are all positive."""
    judge = make_judge(model)
    given = []
    predict = judge._model.predict
    monkeypatch.setattr(judge._model, "predict", lambda images: (given.append(images[0]), predict(images))[1])
    judge.judge(seen(False))
    judge.judge(seen(True))
    dark, bright = (image.mean().item() for image in given)
    assert (dark, bright) == (pytest.approx(-1.0, abs=0.2), pytest.approx(1.0, abs=0.2))


def test_with_other_statistics_in_its_preprocessor_the_same_model_answers_otherwise(copy_of_model):
    statistics = copy_of_model / "classifier_preprocessor_step_0_normalizer_processor.safetensors"
    tensors = load_file(statistics)
    tensors[f"{CAMERA}.mean"] += 0.75  # everything now looks as dark as the dark images did
    save_file(tensors, statistics)
    judge = make_judge(copy_of_model, consecutive=1)
    judge.begin()
    assert judge.judge(seen(True)) is None


def test_a_camera_of_another_name_is_found_through_the_rename_map(model):
    judge = make_judge(model, {"top": (PIXELS, PIXELS, 3)}, {"observation.images.top": CAMERA}, consecutive=1)
    judge.begin()
    assert judge.judge(seen(False, camera="top")) is None
    assert judge.judge(seen(True, camera="top")) == SUCCESS


def assert_refused(path, *words, features=FEATURES):
    """Exactly one message: which flag, what is wrong, what to do."""
    with pytest.raises(ValueError, match=r"^--reward\.path=") as refusal:
        make_judge(path, features)
    text = str(refusal.value)
    assert "\n" not in text
    assert not [word for word in words if word not in text], text


def test_a_missing_camera_names_the_rename_map(model):
    assert_refused(model, f"the reward model needs the image '{CAMERA}'", "--rename_map=", features={"top": (PIXELS, PIXELS, 3)})


def test_a_camera_of_another_size_names_both_sizes(model):
    assert_refused(model, "(64, 64, 3)", "the reward model expects (3, 128, 128)", features={"front": (64, 64, 3)})


def test_a_camera_that_stops_giving_images_ends_the_session(model):
    judge = make_judge(model)
    with pytest.raises(WorldError, match="camera 'front' gave"):
        judge.judge({"joint.pos": 0.5})


@pytest.mark.parametrize("name", [PREPROCESSOR, "classifier_preprocessor_step_0_normalizer_processor.safetensors"])
def test_a_missing_preprocessor_or_its_statistics_are_named(copy_of_model, name):
    (copy_of_model / name).unlink()
    assert_refused(copy_of_model, name, "missing", "whole checkpoint directory")


def test_a_preprocessor_that_is_no_json_is_named(copy_of_model):
    (copy_of_model / PREPROCESSOR).write_text("{")
    assert_refused(copy_of_model, PREPROCESSOR, "no usable JSON", "whole checkpoint directory")


def test_a_class_in_the_preprocessor_is_never_imported_or_called(copy_of_model, tmp_path):
    poison(copy_of_model, marker := tmp_path / "marker", PREPROCESSOR)
    assert_refused(copy_of_model, f"{PREPROCESSOR}: step 0 names the class 'subprocess.run', which LeRobot's loader would import and call")
    assert not marker.exists()


def test_a_step_that_loads_a_further_model_is_refused(copy_of_model):
    poison(copy_of_model, copy_of_model, PREPROCESSOR, registry_name="reward_classifier_processor", config={"pretrained_path": "some/body"})
    assert_refused(copy_of_model, "step 0, 'reward_classifier_processor', would load a model that its config names, and Python code")


def test_weights_that_are_not_finite_are_named(copy_of_model):
    tensors = load_file(copy_of_model / "model.safetensors")
    name = next(name for name in sorted(tensors) if name.endswith("weight"))
    save_file({**tensors, name: torch.full_like(tensors[name], torch.nan)}, copy_of_model / "model.safetensors")
    assert_refused(copy_of_model, f"model.safetensors: tensor '{name}' holds", "NaN or infinite", "whole checkpoint directory")


def test_a_configuration_that_is_cut_off_is_named(copy_of_model):
    (copy_of_model / "config.json").write_text('{"type": "reward_classifier", ')
    assert_refused(copy_of_model, "config.json: no usable JSON", "whole checkpoint directory")


@pytest.mark.parametrize("content", [None, b"no tensors at all"])
def test_missing_or_broken_weights_are_named(copy_of_model, content):
    weights = copy_of_model / "model.safetensors"
    weights.unlink()
    if content:
        weights.write_bytes(content)
    words = "could not be loaded" if content is None else "model.safetensors: 17 bytes with a header of"
    assert_refused(copy_of_model, words, "whole checkpoint directory")


def test_an_unreachable_backbone_is_named(copy_of_model):
    change_config(copy_of_model, model_name="nobody/no-backbone")
    assert_refused(copy_of_model, "could not be loaded", "backbone 'nobody/no-backbone'")


def test_a_model_trained_without_images_is_refused(copy_of_model):
    change_config(copy_of_model, input_features={})
    assert_refused(copy_of_model, "was trained without images", "--reward_model.input_features")


def change_config(path, **changes):
    config = path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))


@pytest.mark.parametrize("name", ["nowhere/at-all", "empty"])
def test_a_path_without_a_reward_model_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert_refused(name, "no LeRobot reward model there", "lerobot-train --reward_model.type=")


def test_a_policy_is_no_reward_model(tmp_path):
    save_act(tmp_path / "act", small_act_config(0))
    assert_refused(tmp_path / "act", "no LeRobot reward model there", "'act'", "lerobot-train --reward_model.type=")
