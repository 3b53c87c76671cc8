"""Settings: what is refused, and with which words; and that a checkpoint's file gives them back."""

import json
from pathlib import Path

import draccus
import pytest
import torch
from draccus.utils import DecodingError
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig

from lerobot_serl import SerlSacConfig
from lerobot_serl.policy.bounds import BACKBONES, BOUNDS, LARGEST_IMAGE, LARGEST_VECTOR, MOST_FEATURES, MOST_LAYERS, WIDEST_LAYER


def parse(*flags):
    return draccus.parse(SerlSacConfig, None, args=["--device=cpu", "--push_to_hub=false", *flags])


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--horizon=0", r"policy.horizon=0: expected a number greater than 0"),
        (
            "--n_step=9",
            r"policy.n_step=9: expected a whole number from policy.horizon, 10, to 10000, or nothing. A critic judges whole chunks",
        ),
        ("--n_step=10001", r"policy.n_step=10001: expected a whole number from policy.horizon, 10, to 10000"),
        ("--memory_device=gpu", r"policy.memory_device='gpu': expected one of cpu, cuda, auto"),
        ("--base=act --horizon=101", r"policy.horizon=101: expected at most ACT's chunk_size, 100. Lower --policy.horizon"),
        ("--discount=1.5", r"policy.discount=1.5: expected a number between 0 and 1"),
        ("--demo_fraction=1.0", r"policy.demo_fraction=1.0: expected a number from 0 to below 1"),
        ("--utd=0", r"policy.utd=0"),
        ("--features=pixels", r"policy.features='pixels': expected one of auto, state, act, both, cnn"),
        ("--value_range=[1,0]", r"policy.value_range=\(1.0, 0.0\): expected two numbers, the smaller first"),
        ("--actor.init_std=2", r"policy.actor.init_std=2.0: expected between min_std 0.05 and max_std 0.6"),
        ("--actor.explore=-1", r"policy.actor.explore=-1.0: expected a probability"),
        ("--critic.subset=9", r"policy.critic.subset=9: expected 1 to members, 4"),
        ("--critic.hidden_sizes=[]", r"policy.critic.hidden_sizes"),
        ("--critic.activation=gelu", r"policy.critic.activation='gelu': expected relu, silu or tanh"),
        ("--gripper=discreet", r"policy.gripper='discreet': expected one of edit, discrete, base"),
        ("--grasp.epsilon=2", r"policy.grasp.epsilon=2.0: expected a probability"),
        ("--grasp.penalty=-1", r"policy.grasp.penalty=-1.0: expected a number of at least 0"),
        ("--grasp.moments=0", r"policy.grasp.moments=0: expected a whole number from 1 to 100"),
        ("--temperature.init=0", r"policy.temperature.init=0.0: expected a number greater than 0"),
        ("--startup.scale_fraction=0", r"policy.startup.scale_fraction=0.0"),
        ("--guard.window=9", r"policy.guard.window=9: expected at least 10 episodes"),
        ("--guard.margin=1", r"policy.guard.margin=1.0: expected a share from 0 to below 1"),
        ("--online.host=''", r"policy.online.host='': expected an address"),
        ("--online.certificate=me.pem", r"policy.online.certificate='me.pem': expected a file beside certificate_key, None. Give both"),
        ("--online.port=70000", r"policy.online.port=70000: expected a port number"),
        ("--online.root=/data", r"policy.online.root='/data': expected policy.online.repo_id beside it"),
        ("--utd=inf", r"policy.utd=inf: expected a number greater than 0"),
        ("--critic.lr=nan", r"policy.critic.lr=nan: expected a number greater than 0"),
        ("--actor.anchor=inf", r"policy.actor.anchor=inf: expected a number of at least 0"),
        ("--actor.edit_scale=[]", r"policy.actor.edit_scale=\(\): expected numbers from above 0 to 2, or nothing"),
        ("--temperature.target_entropy=nan", r"policy.temperature.target_entropy=nan: expected a finite number, or nothing"),
        (
            "--labels.ends=dnoe",
            r"policy.labels.ends='dnoe': expected one of auto, terminated, success, reward, done, last, never. See docs/data.md",
        ),
        ("--labels.reward=1", r"policy.labels.reward='1': expected one of auto, recorded, success"),
        ("--labels.shift=nan", r"policy.labels.shift=nan: expected a finite number"),
        ("--schema_version=2", r"policy.schema_version=2: expected 1. Upgrade"),
        ("--base=diffusion", r"policy.base='diffusion': expected act, none or lerobot"),
        ("--base=lerobot", r"policy.base='lerobot': expected a policy at --policy.base_path"),
        ("--base=none --act_path=a", r"policy.base='none': expected 'act' beside policy.act_path='a'. Leave policy.base out"),
        ("--act_path=a --base_path=b", r"policy.base_path='b': expected nothing beside policy.act_path='a'"),
        ("--actor.anchor=0.5", r"policy.actor.anchor=0.5: expected 0.0 with policy.base=none"),
        ("--actor.edit_scale=0.3", r"policy.actor.edit_scale=0.3: expected 1.0 with policy.base=none"),
        ("--features=both", r"policy.features='both': expected auto, state or cnn with policy.base=none"),
        ("--act_alone=true", r"policy.act_alone=True: expected false with policy.base=none"),
    ],
)
def test_unusable_values_are_refused_with_name_expectation_and_remedy(flag, words):
    with pytest.raises(DecodingError, match=words):  # of which LeRobot shows the text, and nothing else
        parse(*flag.split())


def test_a_checkpoint_gives_the_settings_back(tmp_path):
    config = parse(
        "--horizon=7", "--critic.members=3", "--online.repo_id=me/x", "--act.dim_model=64", "--value_range=[0,1]", "--labels.ends=done",
        "--gripper=discrete", '--grasp.names=["jaw.pos"]',
    )  # fmt: skip
    assert config.grasp.names == ("jaw.pos",)
    assert config.labels.ends == "done"
    config.save_pretrained(tmp_path)
    assert PreTrainedConfig.from_pretrained(tmp_path) == config


def test_a_saved_configuration_is_not_in_progress(tmp_path):
    """config.json starts a new run (--policy.path=); only train_config.json goes on counting (--resume=true)."""
    config = parse()
    config.in_progress = True
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["in_progress"] is False
    assert draccus.encode(config)["in_progress"] is True


def test_it_is_offline_unless_a_dataset_for_the_episodes_is_named():
    assert not parse().online.enabled
    assert parse("--online.repo_id=me/x").online.enabled


SIZES = [
    (f"{group}{name}".removeprefix("policy."), least, most) for group, names in BOUNDS.items() for name, (least, most) in names.items()
]
ROOM = {"horizon": ("--act.chunk_size=10000",), "act.n_heads": ("--act.dim_model=8192",), "act.dim_model": ("--act.n_heads=1",)}


@pytest.mark.parametrize(("name", "least", "most"), SIZES)
def test_sizes_have_bounds(name, least, most):
    room = ROOM.get(name, ())
    for value in (least, most):
        parse(*room, *(("--horizon=1",) if name == "act.chunk_size" else ()), *(("--critic.subset=1",) if "members" in name else ()),
              f"--{name}={value}")  # fmt: skip
    for value in (least - 1, -(10**9), most + 1, 10**9, 10**18):
        with pytest.raises(DecodingError, match=rf"policy\.[a-z_.]+={value}: expected |policy.critic.subset=2: expected 1 to members"):
            parse(*room, f"--{name}={value}")


@pytest.mark.parametrize("network", ["actor", "corrector", "critic", "grasp"])
@pytest.mark.parametrize(
    "sizes", ["[8193]", "[1000000000]", "[256,0]", str([16] * 17), pytest.param(str([16] * 100_000), marks=pytest.mark.slow)]
)
def test_networks_have_bounds(network, sizes):
    parse(f"--{network}.hidden_sizes={[8192] * 16}")
    with pytest.raises(DecodingError, match=rf"policy\.{network}\.hidden_sizes="):
        parse(f"--{network}.hidden_sizes={sizes}")


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--act.n_heads=3", "policy.act.n_heads=3: expected a divisor of dim_model, 512"),
        ("--act.n_heads=16 --act.chunk_size=10000", r"chunk_size=10000: expected n_heads \* chunk_size \*\* 2 of at most 1000000000, with 16"),
        ("--act.vision_backbone=vgg16", "policy.act.vision_backbone='vgg16': expected one of resnet18, resnet34"),
        ("--act.vision_backbone=resnet18_weights", "policy.act.vision_backbone"),
        ("--act.feedforward_activation=tanh", "policy.act.feedforward_activation='tanh': expected one of relu, gelu, glu"),
        ("--act.chunk_size=10001", r"policy.act.chunk_size=10001: expected a whole number from 1 to 10000. Choose another --policy.act.chunk_size"),
    ],
)  # fmt: skip
def test_an_architecture_is_one_that_there_is(flag, words):
    with pytest.raises(DecodingError, match=words):
        parse(*flag.split())


def test_every_backbone_is_one_of_torchvisions():
    import torchvision

    assert all(callable(getattr(torchvision.models, name)) for name in BACKBONES)


LARGE = {f"observation.x{index}": PolicyFeature(FeatureType.STATE, (100_000,)) for index in range(63)}
CAMERA = PolicyFeature(FeatureType.VISUAL, (3, 4096, 4096))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"observation.y{index}": CAMERA for index in range(2)}, "input_features='65 features': expected at most 64"),
        ({"x" * 201: CAMERA}, "expected a name of printable letters"),
        ({"a\x1b[31m": CAMERA}, "expected a name of printable letters"),
        ({"": CAMERA}, "expected a name of printable letters"),
        *(({"c": PolicyFeature(FeatureType.VISUAL, shape)}, r"input_features.c=.*: expected 1 to 4 sizes of at least 1, at most 50331648")
          for shape in ((3, 4096, 4097), (), (3, 0, 5), (3, -1, -1), (1, 1, 1, 1, 1), (2**40, 2**40, 2**40), (1.5, 2))),
        *(({"s": PolicyFeature(FeatureType.STATE, shape)}, r"input_features.s=.*: expected 1 to 4 sizes of at least 1, at most 100000 n")
          for shape in ((100_001,), (10**18,), (1000, 101))),
    ],
)  # fmt: skip
def test_features_have_bounds_when_they_are_given_and_when_they_are_found(changes, words):
    SerlSacConfig(device="cpu", input_features={**LARGE, "observation.images.front": CAMERA})
    with pytest.raises(DecodingError, match=words):
        SerlSacConfig(device="cpu", input_features={**LARGE, **changes})
    config = SerlSacConfig(device="cpu", output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))})
    config.input_features = {**LARGE, **changes}  # LeRobot fills them in from a dataset
    with pytest.raises(ValueError, match=words):
        config.validate_features()


@pytest.mark.parametrize("change", [{"act": {"dim_model": 10**9}}, {"critic": {"members": 10**9}}, {"horizon": 10**9}])
def test_a_checkpoint_obeys_the_bounds(tmp_path, change):
    parse().save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    for name, value in change.items():
        document[name] = {**document[name], **value} if isinstance(value, dict) else value
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(DecodingError, match="=1000000000: expected"):
        PreTrainedConfig.from_pretrained(tmp_path)


def test_the_document_has_the_same_bounds():
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    for name, _, most in SIZES:
        (row,) = [row for row in rows if f"`{name}`" in row.split("|")[1]]
        assert f"{most:,}" in row, row
    for most in (MOST_LAYERS, MOST_FEATURES, WIDEST_LAYER, LARGEST_VECTOR, LARGEST_IMAGE):
        assert f" {most:,}" in text


def test_a_device_that_is_missing_is_said_with_what_it_costs(caplog):
    assert not torch.backends.mps.is_available()
    assert SerlSacConfig(device="mps", push_to_hub=False).device != "mps"
    first, *later = (record.getMessage() for record in caplog.records)
    assert first.startswith("policy.device='mps' is not available here: PyTorch")
    assert "updates a second" in first
    assert any(text.startswith("Device 'mps' is not available.") for text in later), "LeRobot's, after ours"
