"""The table of episodes against a list of them."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_serl.replay.episode_table import EpisodeTable

EPISODES = st.tuples(st.integers(0, 10**6), st.integers(1, 50), st.integers(0, 50))


def assert_same(table, held, dropped=0):
    """``held`` has (start, frames, steps) of each episode; ``dropped`` transitions went before."""
    assert len(table) == len(held)
    assert table.frames == sum(frames for _, frames, _ in held)
    assert table.steps == sum(steps for _, _, steps in held)
    if held:
        assert table.oldest == held[0]
    expected = [(start + at, at == 0) for start, _, steps in held for at in range(steps)]
    if expected:
        number, *found = table.find(torch.arange(table.steps))
        assert list(zip(*(column.tolist() for column in found), strict=True)) == expected
        assert number.tolist() == list(range(dropped, dropped + table.steps))


@settings(max_examples=100, deadline=None)
@given(actions=st.lists(EPISODES | st.none(), max_size=60))
def test_it_holds_what_a_list_would(actions):
    """None drops the oldest, if there is one."""
    table, held, dropped = EpisodeTable(), [], 0
    for episode in actions:
        if episode is not None:
            table.append(*episode)
            held.append(episode)
        elif held:
            table.drop_oldest()
            dropped += held.pop(0)[2]
        assert_same(table, held, dropped)


def test_it_grows_and_reuses_its_room():
    table, held = EpisodeTable(), []
    for number in range(1000):
        episode = (number * 7, 7, 6)
        table.append(*episode)
        held.append(episode)
        if number >= 300:
            table.drop_oldest()
            held.pop(0)
    assert_same(table, held, dropped=6 * 700)
    assert table._table.shape[1] <= 1200


def test_a_draw_may_come_in_any_order():
    table = EpisodeTable()
    table.append(10, 3, 2)
    table.append(20, 1, 0)
    table.append(30, 4, 4)
    number, frame, is_first = table.find(torch.tensor([5, 0, 2, 0]))
    assert number.tolist() == [5, 0, 2, 0]
    assert frame.tolist() == [33, 10, 30, 10]
    assert is_first.tolist() == [False, True, True, True]
