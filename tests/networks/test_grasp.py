"""The grasp critics: what they begin as, what a window tells them, and that they unlearn a wrong grip."""

import copy

import pytest
import torch

from lerobot_serl import grasp, sac
from lerobot_serl.networks.grasp_critic import BASE, HIGH, LOW, GraspCritic, joint_decisions

HORIZON = 3
OPEN, CLOSED = -1.0, 1.0
# The chain: the tool is over the object in one cell; a gripper that closes before it pushes the object away, one that is open there misses it.
CELLS, OBJECT = 12, 6
LATE = 3


def make_critic(grippers=(1,), horizon=HORIZON, action_dim=2, moments=1, feature_size=CELLS, members=2):
    torch.manual_seed(0)
    return GraspCritic(feature_size, horizon, action_dim, grippers, moments, (32, 32), members)


@pytest.mark.parametrize(("grippers", "decisions"), [((1,), 3), ((0, 2), 9)])
def test_it_begins_as_the_reference_policy(grippers, decisions):
    critic = make_critic(grippers, action_dim=4)
    features, base = torch.randn(50, CELLS), torch.rand(50, HORIZON, 4) * 2 - 1
    q = critic(features, base)
    assert q.shape == (2, 50, decisions)
    assert not q.any()
    for margin in (0.0, 0.5):
        chosen = sac.choose_candidate(q, margin)
        assert torch.equal(critic.carried_out(base, chosen), base)


def test_a_decision_that_nobody_tried_is_worth_what_the_reference_policy_is():
    """Whatever the rewards: of targets above 0 and below 0 alike."""
    for value in (1.0, -1.0):
        critic = make_critic()
        features, base = torch.randn(64, CELLS), torch.zeros(64, HORIZON, 2)
        only_base = torch.tensor([[True, False, False]]).expand(64, -1)
        optimizer = torch.optim.Adam(critic.parameters(), 1e-2)
        for _ in range(50):
            optimizer.zero_grad()
            grasp.grasp_loss(critic(features, base), torch.full((64,), value), only_base).backward()
            optimizer.step()
        q = critic(features, base)
        assert (q.mean() - value).abs() < 0.2
        assert torch.equal(q[..., 1:], q[..., :1].expand(-1, -1, 2))
        assert not sac.choose_candidate(q, 0.0).any()


def test_decisions_command_one_position_from_their_moment_on():
    critic = make_critic(horizon=6, moments=2)
    critic.positions.copy_(torch.tensor([[-0.8], [0.7]]))
    base = torch.rand(1, 6, 2)
    options = critic.options(base)[0, ..., 0]
    own = base[0, :, 1]
    expected = {
        (BASE, 0): own,
        (LOW, 0): torch.full((6,), -0.8),
        (HIGH, 0): torch.full((6,), 0.7),
        (LOW, 3): torch.cat([own[:3], torch.full((3,), -0.8)]),
        (HIGH, 3): torch.cat([own[:3], torch.full((3,), 0.7)]),
    }
    assert [tuple(decision[0]) for decision in joint_decisions(1, 2, 6)] == list(expected)
    torch.testing.assert_close(options, torch.stack(list(expected.values())))
    for index, commands in enumerate(options):
        chunk = critic.carried_out(base, torch.tensor([index]))
        assert torch.equal(chunk[0, :, 1], commands)
        assert torch.equal(chunk[..., 0], base[..., 0]), "the other entries are not the grippers'"


def test_two_grippers_are_decided_together():
    decisions = joint_decisions(2, 1, 5)
    assert decisions[0] == [(BASE, 0), (BASE, 0)]
    assert sorted({tuple(position for position, _ in joint) for joint in decisions}) == sorted(
        (left, right) for left in (BASE, LOW, HIGH) for right in (BASE, LOW, HIGH)
    )
    assert len(joint_decisions(2, 3, 2)) == (1 + 2 * 2) ** 2, "a chunk of two steps has two moments"


def described(executed, base, length=None, **critic):
    critic = make_critic(horizon=len(base), **critic)
    chunk = torch.tensor(base, dtype=torch.float32).reshape(1, len(base), 1).repeat(1, 1, 2)
    commands = torch.tensor(executed, dtype=torch.float32).reshape(1, len(base), 1)
    found = grasp.described(commands, critic.options(chunk), critic.middle, torch.tensor([length or len(base)]))
    return [
        tuple(decision[0])
        for decision, has in zip(joint_decisions(1, (critic.start.max() and 2) or 1, len(base)), found[0], strict=True)
        if has
    ]


def test_a_window_carried_out_what_it_did():
    o, c = OPEN, CLOSED
    assert described([o, o, c, c], [o, o, c, c]) == [(BASE, 0)]
    assert described([c, c, c, c], [o, o, c, c]) == [(HIGH, 0)]
    assert described([0.2, 0.2, 0.2, 0.2], [o, o, c, c]) == [(HIGH, 0)], "a command counts by the side on which it lies"
    assert described([o, o, o, o], [o, o, c, c]) == [(LOW, 0)]
    assert described([c, c, c, c], [c, c, c, c]) == [(BASE, 0), (HIGH, 0)], "the same commands by two decisions"
    assert described([c, o, c, o], [o, o, c, c]) == [], "nothing that could be decided"


def test_only_executed_steps_count():
    o, c = OPEN, CLOSED
    assert described([c, c, o, o], [o, o, c, c], length=2) == [(HIGH, 0)]
    assert described([o, o, o, o], [o, o, c, c], length=2) == [(BASE, 0), (LOW, 0)]


def test_one_step_in_ten_may_differ():
    """ACT, asked again a step later, may switch a step later."""
    base = [OPEN] * 5 + [CLOSED] * 5
    assert described([OPEN] * 6 + [CLOSED] * 4, base) == [(BASE, 0)]
    assert described([OPEN] * 7 + [CLOSED] * 3, base) == []
    assert described([CLOSED] * 10, [OPEN] + [CLOSED] * 9) == [(HIGH, 0)], "though the base policy's differ in no more than one"


def test_both_grippers_have_to_agree():
    critic = make_critic((0, 1))
    base = torch.full((1, HORIZON, 2), OPEN)
    executed = base.clone()
    executed[..., 1] = CLOSED
    found = grasp.described(executed, critic.options(base), critic.middle, torch.tensor([HORIZON]))[0]
    carried_out = [
        tuple(position for position, _ in joint) for joint, has in zip(joint_decisions(2, 1, HORIZON), found, strict=True) if has
    ]
    assert carried_out == [(BASE, HIGH), (LOW, HIGH)]


def test_changes_are_counted_from_the_command_before_the_window():
    gamma, middle = 0.9, torch.zeros(2)
    executed = torch.tensor([[[OPEN, OPEN], [CLOSED, OPEN], [CLOSED, OPEN], [OPEN, CLOSED]]])
    same, other = torch.tensor([[OPEN, OPEN]]), torch.tensor([[CLOSED, OPEN]])
    count = lambda previous, length: grasp.changes(executed, previous, middle, torch.tensor([length]), gamma).item()  # noqa: E731
    assert count(same, 1) == 0
    assert count(other, 1) == 1
    assert count(same, 3) == pytest.approx(gamma)
    assert count(other, 4) == pytest.approx(1 + gamma + 2 * gamma**3)


def test_the_target_is_double_dqns():
    """The decision comes from the networks that learn, its value from the target networks; a terminated window has none."""
    next_q = torch.tensor([[[0.0, 5.0, 0.5]] * 2, [[0.0, 5.0, 0.1]] * 2])
    reward, penalty, discount = torch.tensor([0.2, 0.2]), torch.tensor([0.02, 0.0]), torch.tensor([0.9, 0.0])
    decision = torch.tensor([2, 2])
    arguments = (reward, penalty, discount, next_q, decision)
    torch.testing.assert_close(grasp.grasp_target(*arguments, None), torch.tensor([0.18 + 0.9 * 0.3, 0.2]))
    torch.testing.assert_close(grasp.grasp_target(*arguments, 0.25), torch.tensor([0.25, 0.2]))
    assert not grasp.grasp_target(reward, penalty, discount, next_q.requires_grad_(), decision, None).requires_grad


def test_a_batch_without_a_decision_has_no_loss():
    q = torch.ones(2, 4, 3, requires_grad=True)
    loss = grasp.grasp_loss(q, torch.zeros(4), torch.zeros(4, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert not q.grad.any()


def test_exploring_takes_any_decision_with_probability_epsilon():
    generator = torch.Generator().manual_seed(0)
    chosen = torch.full((6000,), 1)
    assert torch.equal(grasp.explored(chosen, 3, 0.0, generator), chosen)
    drawn = grasp.explored(chosen, 3, 0.3, generator)
    shares = torch.bincount(drawn, minlength=3) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.8, 0.1]), atol=0.02, rtol=0)


class Chain:
    """A tool moves one cell a step. Each gripper has to be open before its object and closed at it and from there on; the first wrong
    command ends the attempt.

    Args:
        late: of each gripper, by how many steps the base policy closes it too late.
    """

    def __init__(self, late):
        self.late = torch.tensor(late)

    def base(self, cells):
        """``(B,)`` -> ``(B, h, 1 + G)``: a motion, and the grippers."""
        ahead = cells.unsqueeze(-1) + torch.arange(HORIZON)
        commands = torch.where(ahead.unsqueeze(-1) >= OBJECT + self.late, CLOSED, OPEN)
        return torch.cat([torch.zeros(*ahead.shape, 1), commands], dim=-1)

    @staticmethod
    def features(cells):
        return torch.nn.functional.one_hot(cells.clamp_max(CELLS - 1), CELLS).float()

    def right(self, commands):
        """``(n, CELLS, G)`` -> ``(n, CELLS)``."""
        return (commands == torch.where(torch.arange(CELLS).unsqueeze(-1) >= OBJECT, CLOSED, OPEN)).all(-1)

    def attempts(self, critic, count, epsilon, generator):
        """Commands ``(count, CELLS, G)``, a decision for every chunk; what follows a wrong one never happened."""
        commands = []
        for cell in range(0, CELLS, HORIZON):
            cells = torch.full((count,), cell)
            base = self.base(cells)
            with torch.no_grad():
                greedy = sac.choose_candidate(critic(self.features(cells), base), 0.0)
            commands.append(critic.commands(critic.carried_out(base, grasp.explored(greedy, critic.decisions, epsilon, generator))))
        return torch.cat(commands, dim=1)

    def succeeds(self, critic):
        return bool(self.right(self.attempts(critic, 1, 0.0, torch.Generator())).all())


def practise(chain, critic, attempts=600, updates=150):
    """Learn from attempts with random decisions; every window of them counts."""
    discount = 0.95
    generator, target = torch.Generator().manual_seed(1), copy.deepcopy(critic)
    optimizer = torch.optim.Adam(critic.parameters(), 3e-3)
    commands = chain.attempts(critic, attempts, 1.0, generator)
    right = chain.right(commands)
    lasts = torch.where(right.all(-1), CELLS, (~right).int().argmax(-1) + 1)  # steps of each attempt
    for _ in range(updates):
        chosen = torch.randint(attempts, (128,), generator=generator)
        cells = (torch.rand(128, generator=generator) * lasts[chosen]).long()
        length = (lasts[chosen] - cells).clamp_max(HORIZON)
        executed = commands[chosen.unsqueeze(-1), (cells.unsqueeze(-1) + torch.arange(HORIZON)).clamp_max(CELLS - 1)]
        after = cells + length
        ends = after == lasts[chosen]
        reward = (ends & right[chosen].all(-1)).float() * discount ** (length - 1)
        with torch.no_grad():
            following, base = chain.features(after), chain.base(after)
            decision = sac.choose_candidate(critic(following, base), 0.0)
            y = grasp.grasp_target(reward, torch.zeros(128), discount**length * ~ends, target(following, base), decision, 1.0)
        base = chain.base(cells)
        carried_out = grasp.described(executed, critic.options(base), critic.middle, length)
        optimizer.zero_grad()
        grasp.grasp_loss(critic(chain.features(cells), base), y, carried_out).backward()
        optimizer.step()
        sac.update_target(target.parameters(), critic.parameters(), 0.05)


@pytest.mark.parametrize("late", [(LATE,), (-LATE,)], ids=["three steps late", "three steps early"])
def test_a_wrong_grip_is_unlearnt(late):
    """The base policy never succeeds."""
    chain, critic = Chain(late), make_critic()
    own = chain.base(torch.arange(CELLS))[:, 0, 1:]
    assert torch.equal(chain.attempts(critic, 1, 0.0, torch.Generator())[0], own), "without learning it is the base policy"
    assert not chain.succeeds(critic)
    practise(chain, critic)
    assert chain.succeeds(critic)


def test_of_two_grippers_the_wrong_one_is_changed():
    chain, critic = Chain((0, LATE)), make_critic((1, 2), action_dim=3)
    assert critic.decisions == 9
    assert not chain.succeeds(critic)
    practise(chain, critic, attempts=2000, updates=150)
    assert chain.succeeds(critic)


def test_a_right_grip_stays():
    chain, critic = Chain((0,)), make_critic()
    practise(chain, critic)
    assert chain.succeeds(critic)


def test_a_penalty_keeps_the_gripper_from_being_moved_for_nothing():
    """Every attempt pays, and the base policy moves an open gripper; so staying open is worth more, by the penalty."""
    critic, penalty, length = make_critic(), 0.1, torch.full((64,), HORIZON)
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.one_hot(torch.zeros(64, dtype=torch.long), CELLS).float()
    base = torch.tensor([OPEN, CLOSED, CLOSED])[None, :, None].expand(64, HORIZON, 2)
    optimizer = torch.optim.Adam(critic.parameters(), 3e-3)
    for _ in range(150):
        executed = critic.commands(critic.carried_out(base, torch.randint(critic.decisions, (64,), generator=generator)))
        cost = penalty * grasp.changes(executed, torch.full((64, 1), OPEN), critic.middle, length, 1.0)
        carried_out = grasp.described(executed, critic.options(base), critic.middle, length)
        optimizer.zero_grad()
        grasp.grasp_loss(critic(features, base), 1.0 - cost, carried_out).backward()
        optimizer.step()
    q = critic(features, base).mean((0, 1))
    assert sac.choose_candidate(critic(features, base), 0.0).unique().tolist() == [1]
    torch.testing.assert_close(q, torch.tensor([0.9, 1.0, 0.9]), atol=0.03, rtol=0)


def test_two_states_closing_earlier_is_learnt_where_it_pays():
    """Far from the object closing costs the attempt, at the object it decides it; the base policy closes nowhere."""
    critic = make_critic(feature_size=2)
    generator, states = torch.Generator().manual_seed(0), torch.eye(2)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-2)
    for _ in range(150):
        far, closes = torch.randint(2, (2, 32), generator=generator).bool()
        features, base = states[far.long()], torch.full((32, HORIZON, 2), OPEN)
        executed = torch.where(closes, CLOSED, OPEN)[:, None, None].expand(-1, HORIZON, 1)
        length = torch.full((32,), HORIZON)
        reward = (closes & ~far).float()
        carried_out = grasp.described(executed, critic.options(base), critic.middle, length)
        optimizer.zero_grad()
        grasp.grasp_loss(critic(features, base), reward - 0.02 * closes.float(), carried_out).backward()
        optimizer.step()
    base = torch.full((2, HORIZON, 2), OPEN)
    chosen = critic.carried_out(base, sac.choose_candidate(critic(states, base), 0.0))[..., 1]
    assert torch.equal(chosen, torch.tensor([[CLOSED], [OPEN]]).expand(2, HORIZON))
