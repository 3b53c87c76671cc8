"""The agent: who moves whom, how a chunk is chosen, what the losses do."""

from dataclasses import replace

import pytest
import torch
from act_checkpoints import random_observations, save_act, small_act_config, statistics_for

from lerobot_serl import SerlSacConfig, sac
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.policy.progress import Progress
from lerobot_serl.policy.proposal import BASE, MEAN, SAMPLE
from lerobot_serl.replay.batch import Batch

BATCH = 64


@pytest.fixture(scope="module")
def act_directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("act")
    save_act(directory, small_act_config(0))
    return directory


def make_agent(act_directory, **actor):
    torch.manual_seed(0)
    config = SerlSacConfig(act_path=str(act_directory), device="cpu", push_to_hub=False, horizon=5)
    for name, value in actor.items():
        setattr(config.actor, name, value)
    config.critic.prior_steps = 0
    agent = SerlSacPolicy(config, dataset_stats=statistics_for(small_act_config(0))).agent
    agent.begin_learning(Progress(config), seed=0)
    return agent


def seeded(agent, seed):
    """The agent, whose next noise is that of the seed."""
    agent.learning.generator.manual_seed(seed)
    return agent


def observed(agent, count=BATCH, seed=1):
    return agent.cache_features(random_observations(small_act_config(0), count, seed))


def make_batch(agent, terminal=False):
    features, base = observed(agent)
    next_features, next_base = observed(agent, seed=2)
    generator = torch.Generator().manual_seed(3)
    return Batch(
        features=features,
        base=base,
        chunk=(base + 0.1 * torch.randn(base.shape, generator=generator)).clamp(-1, 1),
        reward=torch.rand(BATCH, generator=generator),
        discount=torch.full((BATCH,), 0.0 if terminal else 0.9),
        next_features=next_features,
        next_base=next_base,
        length=torch.full((BATCH,), 5),
        intervention=torch.zeros(BATCH, base.shape[1], dtype=torch.bool),
        is_demo=torch.arange(BATCH) < BATCH // 2,
    )


def gradients(module):
    return [p.grad for p in module.parameters()]


def test_the_critic_loss_moves_the_critics_only(act_directory):
    agent = make_agent(act_directory)
    agent.config.value_range = (0.0, 1.0)
    loss, metrics = agent.critic_loss(make_batch(agent))
    loss.backward()
    assert all(g is not None and g.abs().sum() > 0 for g in gradients(agent.critic))
    for other in (agent.actor, agent.act, agent.critic_target):
        assert all(g is None for g in gradients(other))
    assert agent.raw_temperature.grad is None
    assert {"critic_loss", "q_data", "q_demo", "q_online"} <= metrics.keys()


def test_the_actor_loss_moves_actor_and_temperature_only(act_directory):
    agent = make_agent(act_directory)
    loss, _ = seeded(agent, 0).actor_loss(make_batch(agent))
    loss.backward()
    assert all(g is None for g in gradients(agent.critic))
    assert agent.actor.head.weight.grad.abs().sum() > 0
    assert agent.raw_temperature.grad.abs() > 0


def test_weights_say_how_much_a_window_counts(act_directory):
    agent, zeros = make_agent(act_directory), torch.zeros(BATCH)
    agent.config.critic.prior_steps = 0
    batch = make_batch(agent, terminal=True)
    plain, ones, none, first = (
        seeded(agent, 0).critic_loss(replace(batch, weight=weight))[0].item()
        for weight in (None, zeros + 1, zeros, (torch.arange(BATCH) == 0).float())
    )
    error = (agent.critic(batch.features, batch.chunk) - batch.reward).square()
    assert plain == ones
    assert none == 0.0
    assert first == pytest.approx(error[:, 0].mean().item() / BATCH, rel=1e-5)


def test_the_target_equals_the_equation(act_directory):
    """With terminal windows the target is the reward, so the loss can be written down."""
    agent = make_agent(act_directory)
    batch = make_batch(agent, terminal=True)
    loss, metrics = seeded(agent, 0).critic_loss(batch)
    q = agent.critic(batch.features, batch.chunk)
    assert loss.item() == pytest.approx((q - batch.reward).square().mean().item(), rel=1e-5)
    assert metrics["target_q"].item() == pytest.approx(batch.reward.mean().item(), rel=1e-5)


@pytest.mark.slow
def test_what_marks_demonstrations_is_not_taken_for_a_good_edit(act_directory):
    """Demonstrations succeed and lie beside ACT's chunk, ACT's own attempts fail half of the time: the penalty keeps that from becoming a slope."""
    advantages = {}
    for weight in (0.0, 0.1):
        torch.manual_seed(0)
        agent = make_agent(act_directory)
        agent.config.critic.prior_steps, agent.learning.known_steps = (300, 2700) if weight else (0, 0)
        agent.grow_edits(1.0)
        with torch.no_grad():
            agent.actor.head.bias[:] = 0.55  # an actor that has found it: 0.2 tanh(0.55) = 0.1
        features, base = observed(agent, 256)
        zeros, demo = torch.zeros(256), torch.arange(256) < 128
        beside = (base + 0.1 * torch.ones(base.shape)).clamp(-1, 1)
        chunk, reward = torch.where(demo[:, None, None], beside, base), torch.where(demo, 1.0, 0.5)
        nobody = torch.zeros(256, base.shape[1], dtype=torch.bool)
        batch = Batch(features, base, chunk, reward, zeros, features, base, zeros.long() + 5, nobody, demo)
        optimizer = torch.optim.Adam(agent.critic.parameters(), 1e-3)
        for _ in range(200):
            loss, metrics = agent.critic_loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        values = agent.critic(features[~demo], torch.stack([base, (base + 0.1).clamp(-1, 1)], 1)[~demo])
        advantages[weight] = (values[..., 1] - values[..., 0]).mean().item()
        assert bool(metrics["advantage_penalty"] > 0) is (weight > 0)
        assert metrics["critic_loss"] < 0.01
    assert 0 < advantages[0.1] < 0.8 * advantages[0.0], advantages


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_the_target_bootstraps_from_the_better_of_act_and_edit(act_directory, margin):
    """Next values by hand, from the target critics that the generator draws."""
    agent = make_agent(act_directory, margin=margin, knots=None)
    with torch.no_grad():
        agent.actor.head.bias.copy_(torch.randn_like(agent.actor.head.bias))
        agent.actor.head.weight.normal_(0.0, 0.2)  # an edit that depends on the observation
        agent.critic.head_bias.add_(1.0)  # the critics are not their targets
    batch = make_batch(agent)
    generator = torch.Generator().manual_seed(0)
    members = torch.randperm(agent.config.critic.members, generator=generator)[: agent.config.critic.subset]
    mean, std = agent.actor(batch.next_features, batch.next_base)
    edit, _ = sac.tanh_gaussian(mean, std, torch.randn(mean.shape, generator=generator))
    edited = (batch.next_base + agent.edit_scale * edit.unflatten(-1, (5, 4))).clamp(-1, 1)
    values = torch.stack([agent.critic_target(batch.next_features, c)[members] for c in (batch.next_base, edited)], -1)
    advantage = values[..., 1] - values[..., 0]
    better = (advantage.mean(0) > margin * advantage.std(0, correction=0)).long()
    picked = values[:, torch.arange(BATCH), better].min(0).values
    expected = (batch.reward + batch.discount * picked).mean().item()
    _, metrics = seeded(agent, 0).critic_loss(batch)
    assert metrics["target_q"].item() == pytest.approx(expected, rel=1e-4)
    assert 0 < better.float().mean() < 1  # both kinds occur


def test_act_is_executed_unless_the_critics_prefer_the_edit(act_directory):
    agent = make_agent(act_directory)
    features, base = observed(agent)
    assert torch.equal(agent.propose(features, base).chunk, base)
    with torch.no_grad():
        agent.actor.head.bias[: agent.actor.knots * 4] = 2.0
        agent.edit_scale.fill_(0.2)
    proposal = agent.propose(features, base)
    edited = (base + 0.2 * torch.tensor(2.0).tanh()).clamp(-1, 1)
    chosen = sac.choose_candidate(agent.critic(features, torch.stack([base, edited], 1)), agent.config.actor.margin).bool()
    assert 0 < chosen.float().mean() < 1
    torch.testing.assert_close(proposal.chunk[chosen], edited[chosen], atol=1e-5, rtol=0)
    assert torch.equal(proposal.chunk[~chosen], base[~chosen])
    assert proposal.choice.tolist() == chosen.long().tolist()


def test_no_candidate_of_the_deployed_policy_repeats_its_noise(act_directory):
    """With fixed noise the same bias came in every chunk: practice never showed that to the critics, and they promised much for it."""
    agent = make_agent(act_directory, margin=-1e6)  # whatever is not the reference wins
    features, base = observed(agent)
    with torch.no_grad():
        agent.actor.head.bias.normal_(std=0.5)
        for seed in range(10):
            torch.manual_seed(seed)
            agent.critic.head_bias.normal_()
            for weight in agent.critic.parameters():
                weight.add_(0.1 * torch.randn_like(weight))  # critics that like something else each time
            proposal = agent.propose(features, base)
            mean_edit = agent._edited(base, agent.actor(features, base)[0].tanh())
            assert torch.equal(proposal.chunk, mean_edit)
            assert (proposal.choice == MEAN).all()


def test_an_edit_goes_straight_from_knot_to_knot(act_directory):
    agent = make_agent(act_directory, knots=3, edit_scale=0.2)
    agent.grow_edits(1.0)
    at_knots = torch.tensor([0.0, 1.0, -0.5]).view(3, 1).expand(3, 4).flatten()
    edited = agent._edited(torch.zeros(1, 5, 4), at_knots.unsqueeze(0))[0, :, 0]
    torch.testing.assert_close(edited, 0.2 * torch.tensor([0.0, 0.5, 1.0, 0.25, -0.5]))


def test_the_actor_maximises_the_score_by_which_edits_are_chosen(act_directory):
    """Policy loss by hand: mean over critics of the advantage over ACT's chunk, less so many standard deviations."""
    agent = make_agent(act_directory, pessimism=1.5, anchor=0.0)
    with torch.no_grad():
        agent.actor.head.bias.normal_()
    batch = make_batch(agent)
    mean, std = agent.actor(batch.features, batch.base)
    edit, log_prob = sac.tanh_gaussian(mean, std, torch.randn(mean.shape, generator=torch.Generator().manual_seed(3)))
    advantage = agent.critic(batch.features, agent._edited(batch.base, edit)) - agent.critic(batch.features, batch.base)
    score = advantage.mean(0) - 1.5 * advantage.std(0, correction=0)
    alpha = sac.temperature_of(agent.raw_temperature)
    expected = (alpha * log_prob / mean.shape[-1] - score).mean()
    _, metrics = seeded(agent, 3).actor_loss(batch)
    assert metrics["actor_loss"].item() == pytest.approx(expected.item(), rel=1e-4)
    hopeful = make_agent(act_directory, pessimism=0.0, anchor=0.0)
    hopeful.load_state_dict(agent.state_dict())
    assert seeded(hopeful, 3).actor_loss(batch)[1]["actor_loss"].item() != pytest.approx(metrics["actor_loss"].item(), rel=1e-3)


def test_entropies_are_per_dimension_of_the_action(act_directory):
    agent = make_agent(act_directory)
    batch = make_batch(agent)
    mean, std = agent.actor(batch.features, batch.base)
    _, log_prob = sac.tanh_gaussian(mean, std, torch.randn(mean.shape, generator=torch.Generator().manual_seed(3)))
    alpha = sac.temperature_of(agent.raw_temperature)
    expected = sac.temperature_loss(alpha, log_prob / mean.shape[-1], agent.target_entropy)
    _, metrics = seeded(agent, 3).actor_loss(batch)
    assert metrics["temperature_loss"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert metrics["entropy"].item() == pytest.approx(-log_prob.mean().item() / mean.shape[-1], rel=1e-5)


@pytest.mark.parametrize("backup", ["soft", "serl"])
def test_entropy_in_the_target_is_per_dimension_too(act_directory, backup):
    agent = make_agent(act_directory, candidates=False)
    with torch.no_grad():
        agent.raw_temperature.fill_(sac.raw_temperature_of(0.5))
    batch = make_batch(agent)
    generator = torch.Generator().manual_seed(3)
    torch.randperm(agent.config.critic.members, generator=generator)
    mean, std = agent.actor(batch.next_features, batch.next_base)
    _, log_prob = sac.tanh_gaussian(mean, std, torch.randn(mean.shape, generator=generator))
    targets = {}
    for agent.config.backup_entropy in ("none", backup):
        targets[agent.config.backup_entropy] = seeded(agent, 3).critic_loss(batch)[1]["target_q"].item()
    weight = batch.discount if backup == "soft" else 1.0
    bonus = -0.5 * (weight * log_prob / mean.shape[-1]).mean().item()
    assert targets[backup] - targets["none"] == pytest.approx(bonus, rel=1e-3)


def test_an_insurmountable_margin_keeps_act(act_directory):
    agent = make_agent(act_directory, margin=1e6)
    features, base = observed(agent)
    with torch.no_grad():
        agent.actor.head.bias[: agent.actor.knots * 4] = 2.0
    assert torch.equal(agent.propose(features, base).chunk, base)


def test_without_candidates_the_mean_edit_is_executed(act_directory):
    agent = make_agent(act_directory, candidates=False)
    features, base = observed(agent)
    with torch.no_grad():
        agent.actor.head.bias[: agent.actor.knots * 4] = 2.0
    proposal = agent.propose(features, base)
    assert (proposal.choice == MEAN).all()
    assert not torch.equal(proposal.chunk, base)


@pytest.mark.parametrize("candidates", [False, True])
def test_before_the_actor_learns_episodes_that_explore_sample_every_chunk(act_directory, candidates):
    """Critics that nothing has taught would choose at random; the other half of the episodes is ACT's."""
    agent = make_agent(act_directory, candidates=candidates, margin=1e6)
    features, base = observed(agent)
    proposal = agent.explore(features, base, False, torch.Generator().manual_seed(4))
    assert (proposal.choice == SAMPLE).all()
    assert ((proposal.chunk - base).abs().amax(dim=(1, 2)) > 0).all()


def test_once_the_actor_learns_sampled_edits_compete_or_are_all_there_is(act_directory):
    keen = make_agent(act_directory, margin=-1e6, explore=0.0)  # whatever is no reference wins
    alone = make_agent(act_directory, candidates=False)
    for agent, least in ((keen, 0.7), (alone, 1.0)):
        choice = agent.explore(*observed(agent), True, torch.Generator().manual_seed(4)).choice
        assert (choice == SAMPLE).float().mean() >= least


@pytest.mark.parametrize("learning", [False, True])
def test_exploration_is_reproducible_bounded_and_mixed(act_directory, learning):
    agent = make_agent(act_directory, explore=0.5)
    features, base = observed(agent)
    one = agent.explore(features, base, learning, torch.Generator().manual_seed(4))
    two = agent.explore(features, base, learning, torch.Generator().manual_seed(4))
    assert torch.equal(one.chunk, two.chunk)
    assert ((one.chunk - base).abs() <= agent.edit_scale + 1e-6).all()
    assert set(one.choice.tolist()) == ({BASE, SAMPLE} if learning else {SAMPLE})
    assert torch.equal(one.chunk[one.choice == BASE], base[one.choice == BASE])


def test_exploration_noise_has_the_asked_correlation_along_the_chunk(act_directory):
    agent = make_agent(act_directory, noise_correlation=0.5, knots=None)
    noise = agent._noise(4000, torch.zeros(1, 20), torch.Generator().manual_seed(0)).unflatten(-1, (5, 4)).squeeze(1)
    assert noise.std().item() == pytest.approx(1.0, abs=0.02)
    assert (noise[:, 0] * noise[:, 3]).mean().item() == pytest.approx(0.5, abs=0.05)
    assert (noise[:, 0, 0] * noise[:, 0, 1]).mean().item() == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("scale", [0.2, (0.1, 0.2, 0.3, 0.4)])
def test_edits_grow_and_never_shrink(act_directory, scale):
    agent = make_agent(act_directory, edit_scale=scale)
    whole = torch.tensor(scale).expand(4)
    torch.testing.assert_close(agent.edit_scale, whole * agent.config.startup.scale_fraction)
    agent.grow_edits(0.5)
    agent.grow_edits(0.2)
    torch.testing.assert_close(agent.edit_scale, 0.5 * whole)


def test_a_checkpoints_edits_are_held_to_a_smaller_scale_of_a_later_run(act_directory):
    """The remedy that the alarm names was read, printed, and without effect."""
    before = make_agent(act_directory, edit_scale=0.2)
    before.grow_edits(1.0)
    after = make_agent(act_directory, edit_scale=(0.1, 0.3, 0.1, 0.3))
    after.load_state_dict(before.state_dict())
    after.grow_edits(0.0)
    torch.testing.assert_close(after.edit_scale, torch.tensor([0.1, 0.2, 0.1, 0.2]))
    after.grow_edits(1.0)
    torch.testing.assert_close(after.edit_scale, torch.tensor([0.1, 0.3, 0.1, 0.3]))


def test_each_entry_of_the_action_has_its_own_reach(act_directory):
    agent = make_agent(act_directory, edit_scale=(0.1, 0.2, 0.3, 0.4))
    agent.grow_edits(1.0)
    base = torch.zeros(3, agent.horizon, 4)
    edited = agent._edited(base, torch.ones(3, agent.actor.knots * 4))
    torch.testing.assert_close(edited, torch.tensor([0.1, 0.2, 0.3, 0.4]).expand_as(edited))


def test_as_many_scales_as_the_action_has_entries(act_directory):
    with pytest.raises(ValueError, match="has 3 numbers, an action has 4"):
        make_agent(act_directory, edit_scale=(0.1, 0.2, 0.3))


def test_the_initial_entropy_is_the_target(act_directory):
    """So that the temperature does not drift at the start."""
    agent = make_agent(act_directory)
    batch = make_batch(agent)
    entropies = [seeded(agent, i).actor_loss(batch)[1]["entropy"].item() for i in range(20)]
    assert sum(entropies) / 20 == pytest.approx(agent.target_entropy, abs=0.02)


@pytest.mark.slow
def test_it_learns_which_way_to_edit(act_directory):
    """A bandit: moving joints 0 and 2 up and joints 1 and 3 down is worth more, learnt from random data, critics first."""
    agent = make_agent(act_directory, anchor=0.0)
    agent.grow_edits(1.0)
    optimizer = torch.optim.Adam([*agent.critic.parameters(), *agent.actor.parameters()], lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    features, base = observed(agent, 256)
    direction = torch.tensor([1.0, -1.0, 1.0, -1.0])
    zeros = torch.zeros(256)
    for update in range(200):
        chunk = (base + 0.4 * torch.rand((256, 1, 4), generator=generator) - 0.2).clamp(-1, 1)
        reward = ((chunk - base) * direction).mean((1, 2)) + 0.5
        nobody = torch.zeros(256, base.shape[1], dtype=torch.bool)
        batch = Batch(features, base, chunk, reward, zeros, features, base, zeros.long() + 5, nobody, zeros.bool())
        loss = agent.critic_loss(batch)[0]
        if update >= 100:
            loss = loss + agent.actor_loss(batch)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    edit = (agent.propose(features, base).chunk - base).mean((0, 1))
    assert (edit * direction).min() > 0.05


def test_the_corrector_learns_what_people_did_without_a_bound(act_directory):
    agent = make_agent(act_directory)
    batch = make_batch(agent)
    correction = torch.tensor([0.7, -0.9, 0.05, 0.0])
    intervention = torch.zeros(BATCH, agent.horizon, dtype=torch.bool)
    intervention[:, :3] = True
    batch = replace(
        batch,
        chunk=(batch.base + correction).clamp(-1, 1),
        intervention=intervention,
        is_demo=torch.zeros(BATCH, dtype=torch.bool),
    )
    optimizer = torch.optim.Adam(agent.corrector.parameters(), lr=3e-3)
    first = agent.corrector_loss(batch)[0].item()
    for _ in range(400):
        optimizer.zero_grad()
        agent.corrector_loss(batch)[0].backward()
        optimizer.step()
    assert agent.corrector_loss(batch)[0].item() < 0.02 * first
    change = 2 * agent.corrector(batch.features, batch.base)
    torch.testing.assert_close(change[:, :3].mean((0, 1)), (batch.chunk - batch.base)[:, :3].mean((0, 1)), atol=0.05, rtol=0)
    assert change[:, 3:].abs().mean() < 0.3  # nobody showed these steps
    assert all(parameter.grad is None for parameter in agent.actor.parameters())


def test_demonstrations_count_as_what_people_did_but_only_beside_corrections(act_directory):
    agent = make_agent(act_directory)
    batch = make_batch(agent)
    assert not agent.corrector_loss(batch)[1]  # half of it are demonstrations
    intervention = torch.zeros(BATCH, agent.horizon, dtype=torch.bool)
    intervention[-1, 0] = True
    batch = replace(batch, intervention=intervention, length=torch.full((BATCH,), 2))
    demonstrated = torch.zeros(BATCH, agent.horizon, dtype=torch.bool)
    demonstrated[: BATCH // 2, :2] = True
    with torch.no_grad():
        agent.corrector.head.bias.fill_(0.3)
    squares = ((batch.chunk - batch.base) / 2 - torch.tensor(0.3).tanh()).square().mean(-1)
    loss, takes_part = agent.corrector_loss(batch)
    assert takes_part
    assert loss.item() == pytest.approx(squares[demonstrated | intervention].mean().item(), rel=1e-4)


def test_what_people_taught_is_what_is_edited(act_directory):
    agent = make_agent(act_directory, margin=0.0)
    features, base = observed(agent)
    assert agent.reference(features, base) is base
    with torch.no_grad():
        agent.corrector.head.bias.fill_(0.4)
    corrected = (base + 2 * torch.tensor(0.4).tanh()).clamp(-1, 1)
    torch.testing.assert_close(agent.propose(features, base).chunk, corrected)
    with torch.no_grad():
        agent.actor.head.bias[: 5 * 4] = -2.0
        agent.edit_scale.fill_(0.2)
    edited = (corrected - 0.2 * torch.tensor(2.0).tanh()).clamp(-1, 1)
    chunks = torch.stack([corrected, edited], 1)
    chosen = agent.critic(features, chunks).mean(0).argmax(-1)
    assert 0 < chosen.float().mean() < 1
    torch.testing.assert_close(agent.propose(features, base).chunk, chunks[torch.arange(BATCH), chosen], atol=1e-5, rtol=0)
    explored = agent.explore(features, base, True, torch.Generator().manual_seed(0))
    torch.testing.assert_close(explored.chunk[explored.choice == BASE], corrected[explored.choice == BASE])
    assert (explored.chunk - corrected).abs().max() <= 0.2 + 1e-5


def test_losses_are_those_of_an_agent_whose_act_does_what_people_taught(act_directory):
    agent = make_agent(act_directory)
    batch = make_batch(agent)
    with torch.no_grad():
        agent.actor.head.bias.normal_()
    changed = [(each + 2 * torch.tensor(0.4).tanh()).clamp(-1, 1) for each in (batch.base, batch.next_base)]
    expected = replace(batch, base=changed[0], next_base=changed[1])

    def losses(batch):
        return [seeded(agent, 0).critic_loss(batch)[0].item(), agent.actor_loss(batch)[0].item()]

    wanted = losses(expected)
    with torch.no_grad():
        agent.corrector.head.bias.fill_(0.4)
    assert losses(batch) == pytest.approx(wanted, rel=1e-5)
    seeded(agent, 0).actor_loss(batch)[0].backward()
    assert all(gradient is None for gradient in gradients(agent.corrector))
