"""Grippers in the agent: what acting does with them in each mode, who moves the grasp critics, and what the robot gets of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lerobot.configs import PreTrainedConfig
from small_data import frames_of
from small_policy import small_agent, small_config

from lerobot_serl.actor.received_policy import ReceivedPolicy
from lerobot_serl.networks.grasp_critic import HIGH
from lerobot_serl.online.intervention_report import InterventionReport
from lerobot_serl.online.learner import Learner
from lerobot_serl.online.weights import WeightPublisher
from lerobot_serl.policy.agent import Agent
from lerobot_serl.policy.grippers import name_grippers
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.policy.parts import CriticConfig, GraspConfig, StartupConfig
from lerobot_serl.policy.progress import Progress
from lerobot_serl.replay.batch import Batch
from lerobot_serl.transport import MessageError, decode

GRIPPER, BATCH, HORIZON = 1, 32, 3
MODES = pytest.mark.parametrize("gripper", ["discrete", "base"])


def config_with(gripper, **grasp):
    settings = GraspConfig(names=("action_1",), entries=(GRIPPER,), hidden_sizes=(16,), members=2, **grasp)
    return small_config(
        gripper=gripper, grasp=settings, discount=0.9, startup=StartupConfig(0, 0, 1), critic=CriticConfig(hidden_sizes=(16,))
    )


def new_agent(gripper, **grasp):
    """As a run begins."""
    torch.manual_seed(0)
    return Agent(config_with(gripper, **grasp))


def learnt_agent(gripper, **grasp):
    """Whose actor has learnt, and whose grasp critics want the gripper high, at any observation."""
    agent = small_agent(config_with(gripper, **grasp))
    agent.edit_scale.fill_(0.2)
    if agent.grasp_critic is not None:
        with torch.no_grad():
            for network in agent.grasp_critic.networks:
                network.head.weight.add_(0.01 * torch.randn_like(network.head.weight))
                network.head.bias[HIGH] = 1.0
        agent.grasp_target.load_state_dict(agent.grasp_critic.state_dict())
    return agent


def seen(agent, count=BATCH, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, agent.features.size, generator=generator)
    return features, torch.rand(count, HORIZON, 2, generator=generator) * 1.6 - 0.8


def make_batch(agent, **changes):
    (features, base), (next_features, next_base) = seen(agent), seen(agent, seed=1)
    generator = torch.Generator().manual_seed(2)
    batch = Batch(
        features=features, base=base, chunk=base, reward=torch.rand(BATCH, generator=generator),
        discount=torch.full((BATCH,), 0.7), next_features=next_features, next_base=next_base,
        length=torch.full((BATCH,), HORIZON), intervention=torch.zeros(BATCH, HORIZON, dtype=torch.bool),
        is_demo=torch.arange(BATCH) % 2 == 0, previous=base[:, 0],
    )  # fmt: skip
    return replace(batch, **changes)


@MODES
def test_step_zero_is_the_base_policy(gripper):
    agent = new_agent(gripper)
    features, base = seen(agent)
    assert agent.is_act
    assert torch.equal(agent.propose(features, base).chunk, base)


@MODES
def test_the_actor_leaves_the_gripper_alone(gripper):
    agent = learnt_agent(gripper)
    features, base = seen(agent)
    samples = agent.explore(features, base, learning=False, generator=torch.Generator().manual_seed(0)).chunk
    moved = (samples - agent.reference(features, base, torch.Generator().manual_seed(0))).abs().amax((0, 1))
    assert moved[1 - GRIPPER] > 0.01
    assert agent.actor.along_chunk(torch.ones(1, agent.actor.knots))[..., GRIPPER].abs().max() == 0
    assert agent.actor.edits.tolist() == [True, False]


def test_with_edit_the_gripper_is_an_entry_as_any_other():
    agent = learnt_agent("edit")
    features, base = seen(agent)
    samples = agent.explore(features, base, learning=False, generator=torch.Generator().manual_seed(0)).chunk
    assert ((samples - base).abs().amax((0, 1)) > 0.01).all()
    assert agent.grasp_critic is None
    assert "grasp_critic" not in agent.networks.learning


def test_base_keeps_the_base_policys_command_whatever_was_learnt():
    """Also by people's corrections, which discrete follows."""
    kept, followed = learnt_agent("base"), learnt_agent("discrete", margin=1e6)
    for agent in (kept, followed):
        with torch.no_grad():
            agent.corrector.head.bias.fill_(0.3)
        features, base = seen(agent)
        for chunk in (agent.propose(features, base).chunk, agent.explore(features, base, True, torch.Generator()).chunk):
            assert not torch.allclose(chunk[..., 1 - GRIPPER], base[..., 1 - GRIPPER])
        assert torch.equal(agent.propose(features, base).chunk[..., GRIPPER], base[..., GRIPPER]) == (agent is kept)


def test_decisions_are_followed_once_the_actor_learns():
    """Before that the deployed policy is the base policy's, and exploring tries the others by chance."""
    young, old = new_agent("discrete", epsilon=0.5), learnt_agent("discrete", epsilon=0.5)
    young.grasp_critic.load_state_dict(old.grasp_critic.state_dict())
    features, base = seen(old)
    own, high = base[..., GRIPPER], old.grasp_critic.positions[1, 0]
    assert torch.equal(young.propose(features, base).chunk, base)
    assert (old.propose(features, base).chunk[..., GRIPPER] == high).all()
    for agent, learning, usual in ((young, False, own), (old, True, high.expand_as(own))):
        explored = agent.explore(features, base, learning, torch.Generator().manual_seed(0)).chunk[..., GRIPPER]
        as_usual = (explored == usual).all(-1).float().mean()
        assert 0.4 < as_usual < 0.9  # half of the chunks at random, of which every third the same
    assert torch.equal(old.act_alone(base).chunk, base)


def test_the_edit_critics_value_what_the_grippers_will_do():
    """The chunk after a window has the gripper where it is decided to be: so a changed decision changes the target."""
    agent = learnt_agent("discrete")
    batch = make_batch(agent)
    with_high = agent.critic_loss(batch)[1]["target_q"]
    with torch.no_grad():
        for network in agent.grasp_critic.networks:
            network.head.bias.zero_()
    assert with_high != agent.critic_loss(batch)[1]["target_q"]


def test_its_loss_moves_the_grasp_critics_only():
    agent = learnt_agent("discrete")
    batch = make_batch(agent)
    batch.features.requires_grad_()  # as with an encoder, which the edit critics' loss moves
    loss, metrics = agent.gripping.loss(batch, agent.corrected, is_active=True)
    loss.backward()
    assert batch.features.grad is None
    moved = {name.partition(".")[0] for name, parameter in agent.named_parameters() if parameter.grad is not None}
    assert moved == {"grasp_critic"}
    assert metrics["grasp_taught"] == 1
    assert metrics["grasp_chosen"] == 1


def test_the_loss_is_the_equation():
    """With the base policy's own commands executed, and a change at the window's start."""
    agent = learnt_agent("discrete", penalty=0.1)
    batch = make_batch(agent)
    critic = agent.grasp_critic
    batch = replace(batch, previous=-batch.base[:, 0])
    following = agent.grasp_target(batch.next_features, batch.next_base)[..., HIGH].mean(0)
    side = torch.cat([batch.previous.unsqueeze(1), batch.base], 1)[..., GRIPPER] > critic.middle
    cost = 0.1 * ((side[:, 1:] != side[:, :-1]) * 0.9 ** torch.arange(HORIZON)).sum(-1)
    y = batch.reward - cost + 0.7 * following
    same = (critic.options(batch.base)[..., 0] > critic.middle) == (batch.base[..., GRIPPER] > critic.middle).unsqueeze(1)
    q = critic(batch.features, batch.base)
    expected = (q - y.unsqueeze(-1)).square().mean(0)[same.all(-1)].mean()
    torch.testing.assert_close(agent.gripping.loss(batch, agent.corrected, is_active=True)[0], expected)


def test_no_target_lies_above_the_range_of_values():
    agent = learnt_agent("discrete")
    batch = make_batch(agent)
    agent.config.value_range = (0.0, 0.25)
    assert agent.gripping.loss(batch, agent.corrected, is_active=True)[1]["grasp_target"] <= 0.25
    agent.config.value_range = None
    assert agent.gripping.loss(batch, agent.corrected, is_active=True)[1]["grasp_target"] > 0.25


def test_before_the_actor_learns_the_base_policy_is_what_is_valued():
    agent = learnt_agent("discrete")
    batch = make_batch(agent)
    _, metrics = agent.gripping.loss(batch, agent.corrected, is_active=False)
    assert metrics["grasp_chosen"] == 0
    assert metrics["grasp_target"] < agent.gripping.loss(batch, agent.corrected, is_active=True)[1]["grasp_target"]


def test_an_update_moves_them_and_their_target_and_says_so():
    agent = learnt_agent("discrete")
    agent.begin_learning(Progress(agent.config), seed=0)
    before = {name: value.clone() for name, value in agent.state_dict().items() if name.startswith("grasp")}
    metrics = agent.update(make_batch(agent))
    still = {name for name, value in before.items() if torch.equal(value, agent.state_dict()[name])}
    assert still == {"grasp_critic.positions", "grasp_target.positions"}
    assert {"grasp_loss", "grasp_target", "grasp_taught", "grasp_changes", "grasp_advantage", "grasp_chosen"} <= metrics.keys()
    assert metrics["grasp_critic_grad_norm"] > 0
    assert metrics["grasp_chosen"] == 1, "the actor has learnt, so decisions are followed"


def test_nothing_moves_where_their_loss_is_not_finite():
    agent = learnt_agent("discrete")
    learning = agent.begin_learning(Progress(agent.config), seed=0)
    with torch.no_grad():
        agent.grasp_target.networks[0].head.bias.fill_(torch.nan)
    before = {name: parameter.clone() for name, parameter in agent.named_parameters() if parameter.requires_grad}
    agent.update(make_batch(agent))
    assert all(torch.equal(value, dict(agent.named_parameters())[name]) for name, value in before.items())
    assert "grasp_loss" in learning.optimizers.take_bad_terms()


def test_the_robot_gets_the_critics_and_refuses_weights_without_them():
    agent = learnt_agent("discrete")
    publisher = WeightPublisher(agent, agent.config, fps=10)
    publisher.publish("collect", 0, 0)
    snapshot = publisher.wait_for_newer(0, 0)
    header, tensors = decode(publisher.message(snapshot, whole_policy=True))
    policy = ReceivedPolicy(header, tensors, "cpu", 0)
    received = policy.practice.agent
    assert torch.equal(received.grasp_critic.networks[1].head.bias, agent.grasp_critic.networks[1].head.bias)
    assert not any(name.startswith("grasp_target") for name in tensors)
    weights, newer = decode(publisher.message(snapshot, whole_policy=False))
    policy.load(weights, newer)
    without = {name: tensor for name, tensor in newer.items() if not name.startswith("grasp_critic")}
    with pytest.raises(MessageError, match="lack grasp_critic"):
        policy.load(weights, without)
    whole = {name: tensor for name, tensor in tensors.items() if not name.startswith("grasp_critic")}
    with pytest.raises(MessageError, match="grasp_critic"):
        ReceivedPolicy(header, whole, "cpu", 0)


@pytest.mark.parametrize("entries", [(), (2,), (-1,), (1, 1), (0, 1)])
@MODES
def test_a_policy_with_odd_grippers_is_refused(gripper, entries):
    config = config_with(gripper)
    config.grasp.entries = entries
    with pytest.raises(ValueError, match=r"policy\.grasp\.entries"):
        config.validate_features()


def test_too_many_decisions_are_refused():
    config = GraspConfig(entries=(0, 1, 2), moments=5)
    with pytest.raises(ValueError, match=r"policy\.grasp\.moments=5: expected at most 1000 decisions; 3 grippers have 1331"):
        config.require_fit(action_dim=9)
    GraspConfig(entries=(0, 1), moments=5).require_fit(action_dim=9)


def test_a_rollback_sets_them_back():
    restored = {name.partition(".")[0] for name in new_agent("discrete").networks.restored()}
    assert {"grasp_critic", "grasp_target"} <= restored


NAMES = ["arm", "left_Gripper"]


def gripper_frames(frames, mark, closes_at):
    episode = frames_of(frames, mark, next_reward=[t == frames - 1 for t in range(frames)])
    for t, frame in enumerate(episode):
        frame["action"] = np.array([t / frames, 30.0 if t < closes_at else 2.0], np.float32)
    return episode


@pytest.fixture(scope="module")
def gripping_dataset(make_dataset):
    action = {"action": {"dtype": "float32", "shape": (2,), "names": NAMES}}
    return make_dataset([gripper_frames(12, mark, 7) for mark in (1, 2)], action)


def made(dataset, gripper, **grasp):
    config = small_config(gripper=gripper, grasp=GraspConfig(hidden_sizes=(16,), **grasp))
    return SerlSacPolicy(config, dataset_stats=dataset.meta.stats, dataset_meta=dataset.meta)


@MODES
def test_creation_finds_grippers_and_their_positions(gripping_dataset, gripper):
    policy = made(gripping_dataset, gripper)
    assert policy.config.grasp.entries == (1,)
    assert policy.config.grasp.names == ("left_Gripper",)
    if gripper == "discrete":
        agent = policy.agent
        raw = agent.box.unnormalize(torch.stack([torch.zeros(2), agent.grasp_critic.positions[:, 0]], dim=-1))[:, 1]
        torch.testing.assert_close(raw, torch.tensor([2.0, 30.0]))
        assert torch.equal(agent.grasp_critic.positions, agent.grasp_target.positions)


def test_the_learner_learns_about_grippers_and_does_not_ask_for_longer_edits_of_them(gripping_dataset, tmp_path):
    policy = made(gripping_dataset, "discrete")
    policy.config.metrics_dir = str(tmp_path)
    learner = Learner(policy.agent, policy.config, policy.progress, gripping_dataset.meta)
    learner.step()
    assert policy.agent.grasp_critic.networks[0].head.bias.any()
    corrections = torch.tensor([0.0, 1.0]).expand(60, 2)
    learner.interventions.add(corrections, torch.zeros(60, HORIZON, 2), torch.ones(60, dtype=torch.bool))
    assert learner.interventions.shares() == {"arm": 0.0, "left_Gripper": 0.0}
    report = InterventionReport(torch.tensor([0.2, torch.inf]), ["arm", "hand"])
    report.add(torch.ones(60, 2), torch.zeros(60, HORIZON, 2), torch.ones(60, dtype=torch.bool))
    assert "Edits reach 0.2;" in report.text()


def test_a_checkpoint_keeps_its_grippers(gripping_dataset, tmp_path):
    policy = made(gripping_dataset, "discrete")
    policy.save_pretrained(tmp_path)
    loaded = SerlSacPolicy.from_pretrained(tmp_path)
    assert loaded.config.grasp.entries == (1,)
    assert torch.equal(loaded.agent.grasp_critic.positions, policy.agent.grasp_critic.positions)
    with pytest.raises(ValueError, match=r"as in the checkpoint; found \(0,\)"):
        name_grippers(loaded.config, {"action": {"shape": (2,), "names": ["left_Gripper", "arm"]}})


@pytest.mark.parametrize(("saved", "asked"), [("edit", "discrete"), ("discrete", "edit"), ("discrete", "base")])
def test_a_checkpoint_does_not_go_on_with_other_networks(gripping_dataset, tmp_path, saved, asked):
    made(gripping_dataset, saved).save_pretrained(tmp_path)
    config = PreTrainedConfig.from_pretrained(tmp_path)
    SerlSacPolicy.from_pretrained(tmp_path, config=config)
    config.gripper = asked
    with pytest.raises(ValueError, match=f"policy.gripper is '{saved}', not '{asked}'.*Leave out --policy.gripper={asked}"):
        SerlSacPolicy.from_pretrained(tmp_path, config=config)


@pytest.mark.parametrize(
    ("gripper", "names", "said"),
    [
        ("discrete", ("jaw",), r"policy.grasp.names=\['jaw'\]: expected names of the action's entries"),
        ("base", ("jaw",), "jaw"),
        ("discrete", ("arm",), r"'arm' is at one of two .* in \d+% of the demonstrations' frames"),
    ],
)
def test_what_does_not_fit_the_dataset_is_refused_at_creation(gripping_dataset, gripper, names, said):
    with pytest.raises(ValueError, match=said):
        made(gripping_dataset, gripper, names=names)


def test_discrete_without_a_gripper_is_refused(demonstrations):
    with pytest.raises(ValueError, match=r"none of the action's entries, .*has 'gripper' in its name"):
        made(demonstrations, "discrete")
