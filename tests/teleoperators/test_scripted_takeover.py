"""When the scripted person helps."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_serl.teleoperators.scripted_takeover import ScriptedTakeover


@dataclass
class Attempt:
    """A record of an attempt, one moment of it."""

    n_attempts_begun: int = 1
    attempt_time_s: float = 0.0
    success: bool = False


def times_helped(takeover, until_s=10, attempt=1, lifted_at_s=None):
    """Whole seconds at which it helps."""
    moments = [Attempt(attempt, t, lifted_at_s is not None and t >= lifted_at_s) for t in range(until_s)]
    return [moment.attempt_time_s for moment in moments if takeover.is_due(moment)]


def test_it_helps_from_the_given_time_until_the_cube_is_lifted():
    takeover = ScriptedTakeover(share=1.0, after_s=3, for_s=0, seed=0)
    assert times_helped(takeover, lifted_at_s=6) == [3, 4, 5]
    assert times_helped(takeover, attempt=2, lifted_at_s=2) == []


def test_it_lets_go_after_the_given_time():
    assert times_helped(ScriptedTakeover(share=1.0, after_s=3, for_s=4, seed=0)) == [3, 4, 5, 6]


def test_it_waits_until_it_is_needed_and_does_not_ask_again():
    takeover = ScriptedTakeover(share=1.0, after_s=1, for_s=3, seed=0)
    needed = [True, False, False, True, False, False, False, True]
    assert [takeover.is_due(Attempt(1, t), is_needed) for t, is_needed in enumerate(needed)] == [False] * 3 + [True] * 3 + [False] * 2
    assert not takeover.is_due(Attempt(2, 5), is_needed=False)
    assert takeover.is_due(Attempt(2, 6), is_needed=True)


def test_a_cube_that_was_dropped_again_stays_with_the_policy():
    takeover = ScriptedTakeover(share=1.0, after_s=3, for_s=0, seed=0)
    assert [takeover.is_due(Attempt(1, t, t == 1)) for t in range(6)] == [False] * 6
    assert takeover.is_due(Attempt(2, 5))


def test_share_of_zero_never_helps():
    takeover = ScriptedTakeover(share=0.0, after_s=0, for_s=0, seed=0)
    assert not any(takeover.is_due(Attempt(n, 5)) for n in range(1, 200))


@given(seed=st.integers(0, 2**32))
def test_which_attempts_are_helped_follows_from_seed_and_number_alone(seed):
    forward, backward = (ScriptedTakeover(share=0.5, after_s=0, for_s=0, seed=seed) for _ in range(2))
    helped = {n: forward.is_due(Attempt(n)) for n in range(1, 9)}
    assert {n: backward.is_due(Attempt(n)) for n in reversed(range(1, 9))} == helped


def test_the_share_is_met():
    takeover = ScriptedTakeover(share=0.3, after_s=0, for_s=0, seed=5)
    helped = sum(takeover.is_due(Attempt(n)) for n in range(1, 2001))
    assert helped / 2000 == pytest.approx(0.3, abs=0.04)
