"""Which policies can be a base policy, and the sentence for each that cannot; nothing that a checkpoint names is run."""

import json
from dataclasses import dataclass, field

import pytest
import torch
from act_checkpoints import ACTION, ENVIRONMENT, STATE, save_act, small_act_config, statistics_for
from diffusion_checkpoints import save_diffusion, small_diffusion_config
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature, PreTrainedConfig
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.policies.factory import make_policy
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import make_default_pre_post_processors
from owned_act import REPO, own_dataset
from poisoned_checkpoints import poison, witnessed
from torch import nn

from lerobot_serl.base.lerobot import LerobotBase
from lerobot_serl.base.policy_config import TRIED, UNFIT, as_document, base_policy_config
from lerobot_serl.base.rehearsal import require_plans
from lerobot_serl.message_header import MessageError
from lerobot_serl.policy.configuration_serl_sac import SerlSacConfig
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy


@PreTrainedConfig.register_subclass("serl_test_linear")
@dataclass
class LinearConfig(PreTrainedConfig):
    """A plugin's policy: one product."""

    chunk_size: int = 4
    fault: str = ""
    text_encoder: str = ""
    normalization_mapping: dict[str, NormalizationMode] = field(default_factory=lambda: {"STATE": NormalizationMode.MEAN_STD})

    observation_delta_indices = action_delta_indices = reward_delta_indices = None

    def get_optimizer_preset(self):
        raise NotImplementedError

    def get_scheduler_preset(self):
        return None

    def validate_features(self):
        pass


class LinearPolicy(PreTrainedPolicy):
    config_class, name = LinearConfig, "serl_test_linear"

    def __init__(self, config, **kwargs):
        super().__init__(config)
        self.linear = nn.Linear(config.input_features[STATE].shape[0], config.chunk_size * 4)
        self.calls = 0

    def predict_action_chunk(self, batch, **kwargs):
        self.calls += 1
        chunk = self.linear(batch[STATE]).unflatten(-1, (-1, 4))
        return {
            "": lambda: chunk,
            "single": lambda: chunk[:, 0],
            "memory": lambda: chunk + self.calls,
            "batch": lambda: chunk + chunk.mean(0),
            "nan": lambda: chunk * torch.nan,
            "chance": lambda: chunk + torch.bernoulli(torch.full_like(chunk, 0.5)),
            "none": self.refuse,
        }[self.config.fault]()

    def refuse(self):
        raise NotImplementedError("single actions only")

    def select_action(self, batch, **kwargs):
        return self.predict_action_chunk(batch)[:, 0]

    def reset(self):
        pass

    def get_optim_params(self):
        return {}

    def forward(self, batch):
        return torch.zeros(()), None


LinearConfig.__module__ = f"{__name__}.configuration_linear"  # where LeRobot expects it: beside modeling_linear


@pytest.fixture(autouse=True)
def _plugin(monkeypatch):
    """LeRobot finds the class of a registered policy by the name of the module of its configuration."""
    found = {"serl_test_linear": LinearPolicy}
    stock = __import__("lerobot.policies.factory", fromlist=["get_policy_class"]).get_policy_class
    for module in ("lerobot_serl.base.lerobot", "lerobot_serl.policy.owner"):
        monkeypatch.setattr(f"{module}.get_policy_class", lambda name: found.get(name) or stock(name))


def linear_config(**changes):
    return LinearConfig(
        input_features={STATE: PolicyFeature(FeatureType.STATE, (4,))},
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (4,))},
        device="cpu", push_to_hub=False, **changes,
    )  # fmt: skip


def save_linear(directory, **changes):
    config = linear_config(**changes)
    torch.manual_seed(0)
    policy = LinearPolicy(config)
    for part in (policy, *make_default_pre_post_processors(config, statistics_for(config))):
        part.save_pretrained(directory)
    return policy


def based_on(path, **settings):
    return SerlSacPolicy(SerlSacConfig(base_path=str(path), device="cpu", push_to_hub=False, **{"horizon": 4, **settings})).eval()


def edit_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_every_policy_type_of_lerobot_is_tried_or_refused_with_a_reason():
    theirs = {name for name, kind in PreTrainedConfig.get_known_choices().items() if kind.__module__.startswith("lerobot.policies")}
    assert theirs == {*TRIED, *UNFIT} - {"serl_sac"}


def test_a_plugins_policy_proposes(tmp_path):
    policy = save_linear(tmp_path)
    ours = based_on(tmp_path)
    state = torch.randn(3, 4)
    statistics = statistics_for(policy.config)[STATE]
    expected = policy.predict_action_chunk({STATE: (state - statistics["mean"]) / (statistics["std"] + 1e-8)})
    assert torch.allclose(ours.predict_action_chunk({STATE: state}), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("none", r"config.json: the policy predicts no chunks \(NotImplementedError: single actions only\)"),
        ("single", r"plans actions of shape \(3, 4\), expected \(3, steps, 4\) for 3 observations"),
        ("memory", "plans something else each time it sees the same observation"),
        ("chance", "plans something else each time it sees the same observation"),
        ("batch", "plans something else for an observation when others are in the batch"),
        ("nan", "plans actions that are NaN or infinite"),
    ],
)
def test_what_cannot_propose_is_refused_when_the_policy_is_made(tmp_path, fault, words):
    save_linear(tmp_path, fault=fault)
    with pytest.raises(ValueError, match=words) as refused:
        based_on(tmp_path)
    assert "\n" not in str(refused.value)
    assert "policy.base_path=" in str(refused.value)


@pytest.mark.parametrize("kind", [kind for kind in UNFIT if kind != "serl_sac"])
def test_unfit_types_are_refused_by_their_reason(tmp_path, kind):
    save_act(tmp_path, small_act_config(0))
    edit_config(tmp_path, type=kind)
    with pytest.raises(ValueError, match=f"is of type '{kind}', expected a policy whose chunks can be edited: ") as refused:
        based_on(tmp_path)
    assert UNFIT[kind] in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": "act_smooth"}, "is of type 'act_smooth', which neither LeRobot nor an installed plugin registers"),
        ({"text_encoder": "you/encoder"}, "has text_encoder='you/encoder', which names a place to load from"),
        ({"chunk_size": 1_000_000}, "has chunk_size=1000000, expected at most 10000"),
        ({"n_layers": 65}, "has n_layers=65, expected at most 64 layers"),
        ({"cross_attention": True}, "fields that the installed LeRobot's serl_test_linear does not have: cross_attention='True'"),
        ({"n_obs_steps": 0}, "has n_obs_steps=0, expected 1 to 64 frames"),
        ({"output_features": {}}, "no input features, or no output feature named 'action'"),
        ({"chunk_size": 5}, "model.safetensors: tensor 'linear.bias' has the shape"),
        ({"use_peft": True}, "is of an adapter, which is merged into ACT only"),
    ],
)
def test_bad_configurations_are_named(tmp_path, changes, words):
    save_linear(tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=words):
        based_on(tmp_path)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "policy_preprocessor.json"])
def test_missing_files_are_named(tmp_path, missing):
    save_linear(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises((FileNotFoundError, ValueError), match=missing):
        based_on(tmp_path)


def test_a_processor_that_needs_a_tokenizer_is_named_and_nothing_is_run(tmp_path):
    save_linear(tmp_path / "tokens")
    poison(tmp_path / "tokens", tmp_path / "ran", registry_name="tokenizer_processor", config={"tokenizer_name": "you/tokens"})
    with pytest.raises(ValueError, match=r"extra steps \['tokenizer_processor'\]"):
        based_on(tmp_path / "tokens")
    save_linear(tmp_path / "poison")
    poison(tmp_path / "poison", tmp_path / "ran")
    with witnessed() as seen, pytest.raises(ValueError, match=r"names the class 'subprocess.run'"):
        based_on(tmp_path / "poison")
    assert not [event for event in seen if event[0].startswith(("subprocess", "os.", "socket"))]
    assert not (tmp_path / "ran").exists()


def test_other_features_than_the_datasets_are_named(tmp_path):
    own_dataset(tmp_path / "data")
    meta = LeRobotDatasetMetadata(REPO, root=tmp_path / "data")
    config = linear_config()
    config.input_features = {STATE: PolicyFeature(FeatureType.STATE, (5,)), "observation.force": PolicyFeature(FeatureType.STATE, (3,))}
    for part in (LinearPolicy(config), *make_default_pre_post_processors(config, statistics_for(config))):
        part.save_pretrained(tmp_path / "linear")
    settings = SerlSacConfig(base_path=str(tmp_path / "linear"), device="cpu", push_to_hub=False, horizon=4)
    with pytest.raises(ValueError, match=r"does not fit owner/pick: 'observation.state': serl_test_linear has STATE\(5,\), the dataset"):
        make_policy(settings, ds_meta=meta)


def test_a_horizon_longer_than_the_plan_and_a_missing_package_are_named(tmp_path, monkeypatch):
    save_linear(tmp_path)
    with pytest.raises(ValueError, match=r"policy.horizon=5: expected at most policy.n_action_steps, 4"):
        based_on(tmp_path, horizon=5)

    def absent(name):
        raise ImportError("'diffusers' is required but not installed")

    monkeypatch.setattr("lerobot_serl.base.lerobot.get_policy_class", absent)
    with pytest.raises(ValueError, match=r"needs a package that is not installed here. 'diffusers' is required"):
        based_on(tmp_path)


def test_a_document_says_the_same_again_and_nothing_of_training():
    config = linear_config(chunk_size=6)
    document = as_document(config)
    assert as_document(base_policy_config(document)) == document
    assert not {"device", "push_to_hub", "repo_id", "pretrained_path"} & document.keys()


@pytest.mark.parametrize(
    "document", [{}, {"type": 3}, {"type": "serl_test_linear", "input_features": {"a": {"b": {"c": {"d": {"e": {"f": {}}}}}}}}]
)
def test_documents_of_nobody_are_refused(document):
    with pytest.raises(MessageError, match=r"is of type|nested deeper|no configuration"):
        base_policy_config(document)


def test_diffusion_of_cameras_is_a_base_policy(tmp_path):
    pytest.importorskip("diffusers")
    save_diffusion(tmp_path, small_diffusion_config(cameras=1))
    policy = based_on(tmp_path)
    assert isinstance(policy.agent.act, LerobotBase)
    assert policy.agent.act.cameras == ["observation.images.front"]
    assert policy.agent.encoder is not None
    require_plans(policy.agent.act)
    assert ENVIRONMENT not in policy.config.input_features
