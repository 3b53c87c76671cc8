"""The replay memory against a naive reference."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_serl.replay.episode import Episode
from lerobot_serl.replay.memory import ReplayMemory

GAMMA = 0.9


def make_episode(identity, frames, end, horizon):
    """Every number names its episode and frame: feature = 1000 * identity + frame, action = feature + 0.5."""
    mark = 1000.0 * identity + torch.arange(frames, dtype=torch.float32)
    return Episode(
        observation={},
        cached={"features": mark.unsqueeze(-1), "base": (-mark).reshape(-1, 1, 1).repeat(1, horizon, 1)},
        action=(mark + 0.5).unsqueeze(-1),
        reward=mark / 1e4,
        intervention=torch.arange(frames) % 3 == 1,
        terminated=end == "terminated",
        truncated=end == "truncated",
    )


def expected_window(episode, t, horizon, n_step):
    """Brute force: walk the episode from ``t``."""
    reward, length, terminal = 0.0, 0, False
    while length < n_step and t + length < episode.steps:
        reward += GAMMA**length * episode.reward[t + length].item()
        length += 1
    terminal = episode.terminated and t + length == len(episode)
    discount = 0.0 if terminal else GAMMA**length
    executed = min(length, horizon)
    actions = episode.action[t : t + executed].flatten().tolist()
    intervention = [index < executed and bool(episode.intervention[t + index]) for index in range(horizon)]
    padding = episode.cached["base"][t, executed:].flatten().tolist()
    return (
        reward,
        discount,
        length,
        actions + padding,
        intervention,
        None if terminal else episode.cached["features"][t + length].item(),
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_windows_equal_a_naive_reference(data):
    horizon = data.draw(st.integers(1, 5))
    n_step = data.draw(st.none() | st.integers(horizon, 9))
    capacity = data.draw(st.integers(12, 40))
    memory, stored = ReplayMemory(capacity, horizon, GAMMA, n_step), []
    for identity in range(1, data.draw(st.integers(1, 9)) + 1):
        end = data.draw(st.sampled_from(["terminated", "truncated", "data end"]))
        episode = make_episode(identity, data.draw(st.integers(2, 12)), end, horizon)
        memory.add(episode)
        stored.append(episode)
    batch = memory.sample(400, torch.Generator().manual_seed(0))
    seen = set()
    for i in range(400):
        identity, t = divmod(int(batch.features[i].item()), 1000)
        episode = stored[identity - 1]
        seen.add((identity, t))
        reward, discount, length, chunk, intervention, after = expected_window(episode, t, horizon, n_step or horizon)
        assert t < episode.steps
        assert batch.index[i].item() == sum(e.steps for e in stored[: identity - 1]) + t
        assert batch.length[i].item() == length
        assert batch.reward[i].item() == pytest.approx(reward, abs=1e-4)
        assert batch.discount[i].item() == pytest.approx(discount, abs=1e-5)
        assert batch.chunk[i].flatten().tolist() == pytest.approx(chunk)
        assert batch.intervention[i].tolist() == intervention
        assert batch.previous[i].item() == episode.action[max(t - 1, 0)].item()
        if after is not None:
            assert batch.next_features[i].item() == after
            assert batch.next_base[i, 0].item() == -after
    kept = stored[-memory.episodes :]
    assert memory.frames == sum(len(e) for e in kept) <= capacity
    assert len(memory) == sum(e.steps for e in kept)
    assert {identity for identity, _ in seen} <= {stored.index(e) + 1 for e in kept}


def held(memory):
    """Identities of the episodes in it, all of them intact."""
    batch = memory.sample(2000, torch.Generator().manual_seed(0))
    actions = batch.chunk.flatten(1)[:, 0]
    torch.testing.assert_close(actions, batch.features.flatten() + 0.5)
    return sorted(set((batch.features.flatten() // 1000).int().tolist()))


@pytest.mark.parametrize(
    ("capacity", "lengths", "kept"),
    [
        (10, (5, 5), [1, 2]),  # fits to the last frame
        (15, (5, 5, 5, 5), [2, 3, 4]),  # takes the place of the oldest, and of no other
        (12, (7, 5, 7, 6), [4]),  # the second one, left behind the new end when the third went in front, is older than the third
    ],
)
def test_no_more_episodes_go_than_have_to(capacity, lengths, kept):
    memory = ReplayMemory(capacity, 1, GAMMA)
    for identity, frames in enumerate(lengths, start=1):
        memory.add(make_episode(identity, frames, "terminated", 1))
        assert memory.frames == sum(lengths[identity - memory.episodes : identity])
    assert held(memory) == kept


def test_every_step_of_every_kept_episode_can_start_a_window():
    memory = ReplayMemory(100, 3, GAMMA)
    memory.add(make_episode(1, 5, "terminated", 3))
    memory.add(make_episode(2, 4, "truncated", 3))
    batch = memory.sample(1000, torch.Generator().manual_seed(0))
    starts = set(batch.features.flatten().int().tolist())
    assert starts == {1000, 1001, 1002, 1003, 1004, 2000, 2001, 2002}


def test_the_three_ends_of_an_episode():
    for end, frames_used, last_discount in (("terminated", 3, 0.0), ("truncated", 2, GAMMA), ("data end", 2, GAMMA)):
        memory = ReplayMemory(100, 1, GAMMA)
        memory.add(make_episode(1, 3, end, 1))
        batch = memory.sample(200, torch.Generator().manual_seed(0))
        last = batch.features.flatten() == 1000 + frames_used - 1
        assert batch.features.max().item() == 1000 + frames_used - 1
        assert batch.discount[last].unique().tolist() == pytest.approx([last_discount])
        if last_discount:
            assert batch.next_features[last].unique().tolist() == [1002.0]


@pytest.mark.parametrize(("end", "bootstraps"), [("terminated", False), ("truncated", True), ("data end", True)])
def test_one_action_with_three_step_returns(end, bootstraps):
    """SERL's case: a window near the end is shorter, and what it is discounted by is its own length."""
    memory = ReplayMemory(100, 1, GAMMA, n_step=3)
    episode = make_episode(1, 5, end, 1)
    memory.add(episode)
    batch = memory.windows(torch.arange(len(memory)), torch.Generator())
    reward = episode.reward
    assert batch.chunk.flatten().tolist() == episode.action[: len(memory)].flatten().tolist()
    if not bootstraps:
        assert batch.length.tolist() == [3, 3, 3, 2, 1]
        assert batch.discount.tolist() == pytest.approx([GAMMA**3, GAMMA**3, 0.0, 0.0, 0.0])
        assert batch.reward[3].item() == pytest.approx((reward[3] + GAMMA * reward[4]).item())
    else:
        assert batch.length.tolist() == [3, 3, 2, 1]
        assert batch.discount.tolist() == pytest.approx([GAMMA**3, GAMMA**3, GAMMA**2, GAMMA])
        assert batch.next_features.flatten().tolist() == [1003, 1004, 1004, 1004]
        assert batch.reward[2].item() == pytest.approx((reward[2] + GAMMA * reward[3]).item())


def test_without_n_step_the_chunk_is_the_window():
    memories = [ReplayMemory(100, 3, GAMMA), ReplayMemory(100, 3, GAMMA, n_step=3)]
    for memory in memories:
        memory.add(make_episode(1, 20, "terminated", 3))
    one, other = (memory.sample(64, torch.Generator().manual_seed(2)) for memory in memories)
    assert all(torch.equal(getattr(one, item.name), getattr(other, item.name)) for item in fields(one) if "images" not in item.name)


def test_two_cameras_take_at_most_105_kb_per_step():
    memory = ReplayMemory(50, 10, GAMMA)
    episode = make_episode(1, 20, "truncated", 10)
    images = {f"observation.images.{name}": torch.zeros(20, 3, 128, 128, dtype=torch.uint8) for name in ("a", "b")}
    memory.add(replace(episode, cached={**episode.cached, **images}))
    assert memory.bytes_per_frame <= 105_000


def test_same_generator_state_same_batch():
    memory = ReplayMemory(100, 3, GAMMA)
    memory.add(make_episode(1, 20, "truncated", 3))
    one = memory.sample(32, torch.Generator().manual_seed(5))
    two = memory.sample(32, torch.Generator().manual_seed(5))
    assert torch.equal(one.features, two.features)


def test_bad_episodes_are_refused():
    memory = ReplayMemory(10, 3, GAMMA)
    with pytest.raises(ValueError, match="empty"):
        memory.sample(4, torch.Generator())
    with pytest.raises(ValueError, match="raise buffer_capacity"):
        memory.add(make_episode(1, 11, "truncated", 3))
    memory.add(make_episode(1, 5, "truncated", 3))
    with pytest.raises(ValueError, match="differ from those of the replay memory"):
        memory.add(make_episode(1, 5, "truncated", 2))


def test_a_capacity_that_the_machine_refuses_is_named():
    with pytest.raises(
        ValueError, match=r"10,000,000,000,000 frames with 4 bytes each are 40000 GB.*Set a smaller --policy.buffer_capacity"
    ):
        ReplayMemory(10**13, 1, 0.9).add(make_episode(1, 3, "terminated", 1))


def test_all_lies_on_the_device():
    memory = ReplayMemory(10, 1, GAMMA, device=torch.device("meta"))
    for identity in (1, 2):
        memory.add(make_episode(identity, 3, "terminated", 1))
    assert memory.bytes_per_frame == 49
    assert memory.sample(4, torch.Generator()).features.device == torch.device("meta")
