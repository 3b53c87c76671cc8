"""What the action box cuts off is said, and beyond a share refused."""

import logging

import pytest
import torch

from lerobot_serl.online.clipping import Clipping
from lerobot_serl.replay.episode import Episode
from lerobot_serl.replay.memory import BASE


def episode(actions, plans):
    plan = torch.tensor(plans)[:, None, None].expand(-1, 3, 1)
    flags = torch.zeros(len(actions), dtype=torch.bool)
    return Episode({}, torch.tensor(actions)[:, None], torch.zeros(len(actions)), flags, True, False, cached={BASE: plan})


def test_nothing_is_said_of_what_lies_inside(caplog):
    clipping = Clipping(0.01)
    clipping.add(episode([0.83, -0.83, 0.999], [0.5, 0.9, -0.99]))
    clipping.report("you/pick")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_few_are_said(caplog):
    clipping = Clipping(0.5)
    clipping.add(episode([1.0, 0.0, 0.5, 0.0], [0.5, 0.0, 0.0, 0.0]))
    with caplog.at_level(logging.WARNING):
        clipping.report("you/pick")
    assert "you/pick: 25.00% of the demonstrations' actions lie outside the action box" in caplog.text


@pytest.mark.parametrize(("actions", "plans", "words"), [
    ([1.0, -1.0, 0.0, 0.0], [0.0] * 4, "50.00% of the demonstrations' actions lie"),
    ([0.0] * 4, [1.0, -1.0, -1.0, 0.0], "75.00% of ACT's plans lie"),
])  # fmt: skip
def test_more_than_a_share_is_refused(actions, plans, words):
    clipping = Clipping(0.3)
    clipping.add(episode(actions, plans))
    with pytest.raises(ValueError, match=rf"{words}.*--policy.act_path.*--policy.clipped_share=0.[69]"):
        clipping.report("you/pick")
