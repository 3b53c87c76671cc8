"""Plans one after another: ages, delays, seams, and planners that fail."""

import threading
import time
from itertools import pairwise

import pytest
import torch

from lerobot_serl.base.base_policy import Plan
from lerobot_serl.base.plan_maker import Beside, PlannerError, PlayedDelay
from lerobot_serl.base.planner import MOST_REFUSED, Planner
from lerobot_serl.execution import Execution


def plan_of(observation, steps=30):
    """A plan whose actions tell for which step it was made, and which of its actions they are."""
    step = float(observation["step"])
    return Plan(torch.stack([torch.full((steps,), step), torch.arange(float(steps))], -1).unsqueeze(0), torch.zeros(1, 0))


def walk(planner, steps, moved=()):
    """What is carried out: for each step the action, None where the robot holds; and the ages at the decisions."""
    actions, ages, queue = [], [], []
    planner.reset()
    for step in range(steps):
        planner.see({"step": torch.tensor(step)})
        if step in moved:
            planner.forget()
            queue.clear()
            actions.append(None)
            continue
        if not queue:
            piece = planner.next()
            if piece is None:
                actions.append(None)
                continue
            ages.append(piece.age)
            queue += piece.base[0, : piece.span].tolist()
        actions.append(queue.pop(0))
    return actions, ages


def test_in_the_loop_a_plan_follows_the_other():
    actions, ages = walk(Planner(PlayedDelay(plan_of), Execution(7, 20)), 60)
    assert actions == [[float(t // 20 * 20), float(t % 20)] for t in range(60)]
    assert ages == [0, 7, 14] * 3


def test_the_last_slice_of_a_plan_repeats_its_last_action():
    planner = Planner(PlayedDelay(plan_of), Execution(7, 10))
    for step in range(8):
        planner.see({"step": torch.tensor(step)})
        if step in (0, 7):
            piece = planner.next()
    assert (piece.age, piece.span) == (7, 3)
    assert piece.base[0, :, 1].tolist() == [7, 8, 9, 9, 9, 9, 9]


def test_stop_and_wait_holds_for_each_plan():
    planner = Planner(PlayedDelay(plan_of, delay_steps=4), Execution(10, 20))
    actions, _ = walk(planner, 68)
    # At first the arm rests anyway.
    expected = [[0.0, float(i)] for i in range(20)] + [None] * 4 + [[20.0, float(i)] for i in range(20)] + [None] * 4
    assert actions[:48] == expected
    assert planner.held_steps == 8


def small_plan_of(observation, steps=30):
    """As :func:`plan_of`, within the bounds of action units."""
    plan = plan_of(observation, steps)
    return plan._replace(actions=plan.actions / 1000)


@pytest.mark.parametrize("delay", [1, 4, 9])
@pytest.mark.parametrize("length", [20, 30])
def test_beside_the_loop_nothing_waits_and_actions_begin_where_the_clock_is(delay, length):
    planner = Planner(PlayedDelay(lambda seen: small_plan_of(seen, length), delay, in_loop=False), Execution(3, 20))
    actions, ages = walk(planner, 200)
    assert planner.held_steps == 0
    assert None not in actions
    assert max(ages) < 20
    # Every plan after the first begins at an age that its delay explains, at the latest a decision later.
    firsts = [later for earlier, later in pairwise(ages) if later < earlier]
    assert len(firsts) >= 200 // 20
    assert all(delay <= age < delay + 3 for age in firsts)
    whole = [t for t, (made, _) in enumerate(actions) if abs(1000 * made - round(1000 * made)) < 1e-3]
    assert len(whole) > 60  # the others are fading
    assert all(abs(1000 * actions[t][1] - (t - 1000 * actions[t][0])) < 1e-2 for t in whole)


def test_a_new_plan_begins_where_the_old_one_has_come():
    planner = Planner(PlayedDelay(lambda seen: small_plan_of(seen, 40), 4, in_loop=False), Execution(5, 20))
    actions, _ = walk(planner, 100)
    assert {0.0, 16.0, 32.0} <= {round(1000 * made, 3) for made, _ in actions}
    of_plans, of_steps = (max(abs(later[i] - earlier[i]) for earlier, later in pairwise(actions)) for i in (0, 1))
    assert 1000 * of_plans <= 16 / 11 + 1e-3  # ten steps from a plan to the next
    assert 1000 * of_steps <= 1 + 16 / 11 + 1e-3


@pytest.mark.parametrize("delay", [19, 25])
def test_plans_that_take_longer_than_they_last_let_the_arm_wait(delay):
    """And not for ever."""
    planner = Planner(PlayedDelay(lambda seen: small_plan_of(seen, 20), delay, in_loop=False), Execution(5, 20))
    actions, _ = walk(planner, 200)
    assert planner.held_steps == actions.count(None)
    assert 200 - planner.held_steps >= 60
    first = next(t for t in range(20, 200) if actions[t - 1] is None and actions[t] is not None)
    assert actions[first][1] == 0.0


def test_late_plans_let_the_old_one_go_on_and_then_hold():
    class Late(PlayedDelay):
        steps_ahead = 0

        def __init__(self):
            super().__init__(lambda seen: plan_of(seen, 24), 12, in_loop=False)
            self.steps_ahead = 2

    planner = Planner(Late(), Execution(5, 20))
    actions, _ = walk(planner, 60)
    assert 0 < planner.held_steps == actions.count(None)
    first_hold = actions.index(None)
    assert actions[first_hold - 1] == [0.0, 23.0]  # nothing was left


def test_after_a_takeover_the_arm_holds_until_there_is_a_new_plan():
    planner = Planner(PlayedDelay(plan_of, 3, in_loop=False), Execution(5, 20))
    actions, ages = walk(planner, 30, moved=range(6, 12))
    assert actions[6:12] == [None] * 6
    assert actions[12:15] == [None] * 3
    assert actions[15] == [12.0, 0.0]  # it stood still, and nothing of the plan is out of date
    assert planner.held_steps == 3
    assert ages[:3] == [0, 5, 0]


def test_plans_that_are_not_finite_are_refused_and_counted(caplog):
    bad = iter([True, True, False])

    def make(observation):
        plan = plan_of(observation)
        return plan._replace(actions=plan.actions * float("nan")) if next(bad, False) else plan

    planner = Planner(PlayedDelay(make), Execution(5, 20))
    actions, _ = walk(planner, 10)
    assert caplog.text.count("It is refused") == 2
    assert actions[:3] == [None, None, [2.0, 0.0]]
    assert (planner.refused_plans, planner.held_steps) == (2, 2)


def test_a_plan_whose_features_are_not_finite_is_refused_too():
    """Whatever looked at them would make an edit of them."""
    planner = Planner(PlayedDelay(lambda seen: plan_of(seen)._replace(features=torch.full((1, 2), torch.nan))), Execution(5, 20))
    planner.see({"step": torch.tensor(0)})
    assert planner.next() is None
    assert planner.refused_plans == 1


def test_no_finite_plan_ever_ends_it():
    planner = Planner(PlayedDelay(lambda seen: Plan(torch.full((1, 30, 2), torch.inf), torch.zeros(1, 0))), Execution(5, 20))
    with pytest.raises(PlannerError, match=f"{MOST_REFUSED} plans in a row"):
        walk(planner, 30)


def walk_in_time(planner, steps, period_s):
    planner.reset()
    actions, queue = [], []
    for step in range(steps):
        planner.see({"step": torch.tensor(step)})
        if not queue and (piece := planner.next()) is not None:
            queue += piece.base[0, : piece.span].tolist()
        actions.append(queue.pop(0) if queue else None)
        time.sleep(period_s)
    return actions


def test_a_thread_plans_while_the_loop_goes_on():
    threads = set()

    def make(observation):
        threads.add(threading.current_thread().name)
        time.sleep(0.02)
        return small_plan_of(observation)

    maker = Beside(make, steps_ahead=8, patience_s=5.0)
    planner = Planner(maker, Execution(5, 20))
    actions = walk_in_time(planner, 80, 0.005)
    maker.close()
    assert None not in actions
    assert planner.held_steps == 0
    assert threads == {"planner"}
    assert len({made for made, _ in actions}) > 3
    assert not any(thread.name == "planner" for thread in threading.enumerate())


def test_what_is_left_of_a_forgotten_order_is_no_answer_to_the_next():
    """A plan, or an error, that was under way when an episode ended: the next one begins with its own plan, at once."""
    for left in (plan_of, lambda seen: [][1]):
        gate, begun = threading.Event(), threading.Event()

        def make(observation, left=left, gate=gate, begun=begun):
            if not gate.is_set():
                begun.set()
                gate.wait(20)
                return left(observation)
            return plan_of(observation)

        planner = Planner(Beside(make, steps_ahead=8, patience_s=20.0), Execution(5, 20))
        planner._maker.begin({"step": torch.tensor(7)}, 7)
        assert begun.wait(20)
        planner.reset()
        gate.set()
        planner.see({"step": torch.tensor(100)})
        piece = planner.next()
        assert piece.base[0, 0].tolist() == [100.0, 0.0]
        assert planner.held_steps == 0
        planner._maker.close()


def test_a_dead_planner_is_started_anew_once(caplog):
    calls = iter([None, ValueError("broken pipe"), None, None])

    def make(observation):
        if (error := next(calls, None)) is not None:
            raise error
        return plan_of(observation)

    maker = Beside(make, steps_ahead=2, patience_s=5.0)
    actions = walk_in_time(Planner(maker, Execution(5, 10)), 40, 0.003)
    maker.close()
    assert caplog.text.count("The planner has failed (ValueError: broken pipe). It is started anew") == 1
    assert actions[-1] is not None


def test_a_planner_that_fails_again_ends_it():
    def make(observation):
        raise ValueError("no such device")

    planner = Planner(Beside(make, steps_ahead=2, patience_s=5.0), Execution(5, 10))
    with pytest.raises(PlannerError, match=r"failed again .*no such device"):
        walk_in_time(planner, 200, 0.002)


def test_a_plan_that_never_comes_is_waited_for_only_so_long():
    never = threading.Event()
    planner = Planner(Beside(lambda seen: never.wait() or plan_of(seen), steps_ahead=2, patience_s=0.1), Execution(5, 10))
    with pytest.raises(PlannerError, match=r"no plan came within 0.1 s"):
        walk_in_time(planner, 2000, 0.002)
    never.set()


class Dying:
    """After its first plan it fails as it is told: every plan from then on raises, never comes, or is not finite."""

    def __init__(self, kind):
        self.kind, self.plans, self.never = kind, 0, threading.Event()

    def __call__(self, observation):
        self.plans += 1
        plan = plan_of(observation, 60)
        if self.plans == 1:
            return plan
        if self.kind == "raises":
            raise ValueError("device lost")
        if self.kind == "hangs":
            self.never.wait(20)
        return plan._replace(actions=plan.actions / 0)


def last_words(kind):
    return {"raises": "failed again .*device lost", "hangs": r"failed again .*within 0.3 s", "not finite": "10 plans in a row"}[kind]


@pytest.mark.parametrize("kind", ["raises", "hangs", "not finite"])
def test_what_is_left_of_the_open_plan_is_carried_out_when_no_other_follows(kind, caplog):
    dying = Dying(kind)
    maker = Beside(dying, steps_ahead=38, patience_s=0.3 if kind == "hangs" else 5.0)
    planner, actions = Planner(maker, Execution(5, 40)), []

    def carry_out_everything():
        while True:
            planner.see({"step": torch.tensor(len(actions))})
            piece = planner.next()
            actions.extend(piece.base[0, : piece.span].tolist())
            for step in range(1, piece.span):
                planner.see({"step": torch.tensor(len(actions) - piece.span + step)})
            time.sleep(0.08 if kind == "hangs" else 0.03)

    with pytest.raises(PlannerError, match=last_words(kind)):
        carry_out_everything()
    assert actions == [[0.0, float(t)] for t in range(60)]  # the whole of the first plan, not only 40 steps of it
    assert planner.held_steps == 0
    said = [record.getMessage() for record in caplog.records if "left of the open plan are carried out" in record.getMessage()]
    assert len(said) == 1
    made = {"raises": 3, "hangs": 3, "not finite": 1 + MOST_REFUSED}[kind]
    assert dying.plans == made
    with pytest.raises(PlannerError, match=last_words(kind)):
        planner.next()
    with pytest.raises(PlannerError, match=last_words(kind)):
        planner.reset()  # no episode begins
    assert dying.plans == made
    dying.never.set()
    maker.close()
