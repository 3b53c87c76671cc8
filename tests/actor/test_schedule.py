"""Which episodes of practice explore."""

from collections import Counter
from itertools import pairwise

import pytest
import torch
from small_data import make_recording

from lerobot_serl.actor.schedule import ACT_EVERY, Schedule
from lerobot_serl.replay.episode import ACTED_AS, ActedAs


def kinds(schedule, count, learning=True, success=None, helped=False):
    """What so many episodes in a row are; they end as ``success`` says."""
    found = []
    for _ in range(count):
        found.append(schedule.next(learning))
        if success is not None:
            by_hand = torch.full((5,), helped)
            schedule.finished(make_recording(success=success, intervention=by_hand, info={ACTED_AS: found[-1].value}))
    return found


def test_before_the_actor_learns_every_second_episode_explores_and_the_first_does_not():
    found = kinds(Schedule(0.2), 12, learning=False)
    assert [kind is ActedAs.EXPLORING for kind in found] == [False, True] * 6


@pytest.mark.parametrize("share", [0.1, 0.2, 0.25, 1.0])
def test_the_share_is_spread_evenly_with_act_among_them(share):
    found = kinds(Schedule(share), 400)
    count = Counter(found)
    assert count[ActedAs.DEPLOYED] + count[ActedAs.ACT] == pytest.approx(400 * share, abs=1)
    assert count[ActedAs.ACT] == pytest.approx(400 * share / ACT_EVERY, abs=1)
    places = [index for index, kind in enumerate(found) if kind is not ActedAs.EXPLORING]
    assert max(b - a for a, b in pairwise(places)) <= round(1 / share) + 1


def test_no_share_is_no_episode_once_the_actor_learns():
    assert set(kinds(Schedule(0.0), 100)) == {ActedAs.EXPLORING}


@pytest.mark.parametrize(("success", "helped", "share"), [(True, False, 0.4), (False, False, 0.2), (True, True, 0.2)])
def test_where_nearly_all_succeed_by_themselves_twice_as_many_are_as_deployed(success, helped, share):
    schedule = Schedule(0.2)
    kinds(schedule, 100, success=success, helped=helped)
    found = kinds(schedule, 100, success=success, helped=helped)
    assert 1 - Counter(found)[ActedAs.EXPLORING] / 100 == pytest.approx(share, abs=0.02)


def test_after_failures_the_share_falls_again():
    schedule = Schedule(0.2)
    kinds(schedule, 100, success=True)
    kinds(schedule, 100, success=False)
    assert 100 - Counter(kinds(schedule, 100, success=False))[ActedAs.EXPLORING] == pytest.approx(20, abs=1)
