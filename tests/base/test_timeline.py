"""With which plan each frame of an episode is looked at."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_serl.base.base_policy import Plan
from lerobot_serl.base.plan_maker import PlayedDelay
from lerobot_serl.base.planner import Planner
from lerobot_serl.base.timeline import Timeline, drawn_ages
from lerobot_serl.execution import Execution
from lerobot_serl.replay.frame_columns import NO_PLAN


def plans_of(starts, steps):
    """Each action tells for which frame its plan was made, and which of its actions it is."""
    return torch.stack([starts.float().unsqueeze(-1).expand(-1, steps), torch.arange(float(steps)).expand(len(starts), -1)], -1)


def slices_of(timeline, steps, recorded=None):
    starts = timeline.starts()
    recorded = torch.full((len(timeline.start), 2), torch.nan) if recorded is None else recorded
    return timeline.slices(starts, plans_of(starts, steps), recorded)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 4), st.integers(0, 50), st.integers(0, 6), st.booleans())
def test_recorded_plans_are_what_the_policy_decided_about(frames, horizon, factor, extra, delay, in_loop):
    """The memory sees at every decision of an episode what the planner gave, to the number; between decisions what goes on from there."""
    execution = Execution(horizon, horizon * factor + extra % horizon)
    steps = execution.n_action_steps
    make = lambda seen: Plan(plans_of(torch.tensor([int(seen["step"])]), steps), torch.zeros(1, 0))  # noqa: E731
    planner = Planner(PlayedDelay(make, delay if in_loop else min(delay, steps - 1), in_loop), execution)
    ages, planned, decisions, queue = [], [], {}, []
    for frame in range(frames):
        planner.see({"step": torch.tensor(frame)})
        if not queue and (piece := planner.next()) is not None:
            decisions[frame] = piece
            queue += [(piece.base[0, k], piece.age + k) for k in range(piece.span)]
        action, age = queue.pop(0) if queue else (torch.zeros(2), NO_PLAN)
        planned.append(action)
        ages.append(age)
    timeline = Timeline.of(torch.tensor(ages), execution, is_recorded=True)
    slices = slices_of(timeline, steps, torch.stack(planned))
    assert timeline.span.min() >= 1
    for frame, piece in decisions.items():
        if not execution.is_open or ((delay or not in_loop) and frame + piece.span > frames):
            continue  # what was not recorded is planned again, for the frame at which the plan's actions began
        if int(timeline.age[frame]) != piece.age:
            assert not in_loop  # it came late: what is left is looked at with a new plan
            continue
        assert int(timeline.span[frame]) == piece.span
        torch.testing.assert_close(slices[frame, : piece.span], piece.base[0, : piece.span])
        if in_loop and not delay:
            torch.testing.assert_close(slices[frame], piece.base[0])


def test_without_open_plans_every_frame_has_its_own():
    timeline = Timeline.of(torch.arange(9) % 3, Execution(3, 3), is_recorded=True)
    assert timeline.starts().tolist() == list(range(9))
    assert timeline.span.tolist() == [3] * 9
    assert slices_of(timeline, 3)[:, :, 0].tolist() == [[float(t)] * 3 for t in range(9)]


def test_frames_without_a_plan_get_one():
    ages = torch.tensor([0, 1, 2, 3, NO_PLAN, NO_PLAN, 0, 1])
    timeline = Timeline.of(ages, Execution(2, 10), is_recorded=True)
    assert timeline.start.tolist() == [0, 0, 0, 0, 4, 5, 6, 6]
    assert timeline.age.tolist() == [0, 1, 2, 3, 0, 0, 0, 1]
    # What a person cut off is planned again from where the plan was made.
    assert timeline.starts().tolist() == [0, 4, 5, 6]


def test_plans_that_nobody_recorded_begin_at_the_first_frame_and_spread_their_offsets():
    ages = [drawn_ages(40, 10, number) for number in range(200)]
    assert all(int(age[0]) == 0 for age in ages)
    at_20 = torch.stack(ages)[:, 20].bincount(minlength=10)
    assert at_20.min() >= 15
    for age in ages:
        assert set((age[1:] - age[:-1]).tolist()) <= {1, *(-step for step in range(10))}
    assert torch.equal(drawn_ages(5, 10, 3), drawn_ages(9, 10, 3)[:5])


@pytest.mark.parametrize("ages", [[5, 6, 7], [2**62, -(2**62), 3], [-7, 0, 100]])
def test_ages_that_cannot_be_are_no_plans(ages):
    timeline = Timeline.of(torch.tensor(ages), Execution(2, 10), is_recorded=True)
    assert ((timeline.start >= 0) & (timeline.start <= torch.arange(3))).all()
    assert ((timeline.age >= 0) & (timeline.age < 10)).all()
    assert slices_of(timeline, 10, torch.zeros(3, 2)).isfinite().all()
