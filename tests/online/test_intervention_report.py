"""Whether people's interventions lie within reach of the edits."""

import logging

import pytest
import torch

from lerobot_serl.online.intervention_report import InterventionReport


def reach(*scales):
    return torch.tensor(scales or (0.1, 0.1))


def add(report, frames, away=(0.0, 0.0), by_hand=None, horizon=3):
    """An episode in which the person is so far from ACT's first step; the later steps of the chunk lie elsewhere."""
    base = torch.zeros(frames, horizon, 2)
    base[:, 1:] = 77.0
    intervention = torch.ones(frames, dtype=torch.bool) if by_hand is None else torch.arange(frames) < by_hand
    report.add(torch.tensor(away).expand(frames, 2), base, intervention)


def test_the_share_outside_is_counted_for_each_entry():
    report = InterventionReport(reach(), ["joint_3", "joint_4"])
    add(report, 10, (0.05, 0.05))
    add(report, 30, (-0.3, 0.1))
    assert report.shares() == {"joint_3": 0.75, "joint_4": 0.0}  # exactly at the bound is within reach


def test_only_corrected_frames_count():
    report = InterventionReport(reach(), ["a", "b"])
    add(report, 10, (0.5, 0.0), by_hand=0)
    assert (report.shares(), report.text()) == ({}, "")
    add(report, 10, (0.5, 0.0), by_hand=4)
    assert report.shares() == {"a": 1.0, "b": 0.0}
    assert "of 4 intervention frames" in report.text()


def test_it_is_said_with_share_and_remedy_once_there_is_enough(caplog):
    report = InterventionReport(reach(), ["joint_3", "joint_4"])
    add(report, 19, (0.0, 0.0))
    add(report, 20, (0.0, 0.5))
    assert caplog.text == ""  # 39 frames are too few
    add(report, 11, (0.05, 0.0))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "joint_4: 40 % of 50 intervention frames lie outside" in record.getMessage()
    assert "joint_3" not in record.getMessage()
    assert "Edits reach 0.1; what lies farther off is learnt by imitation alone" in record.getMessage()


def test_it_is_not_said_again_and_again(caplog):
    report = InterventionReport(reach(), ["a", "b"])
    for _ in range(20):
        add(report, 50, (0.5, 0.5))
    assert len(caplog.records) == 5  # at 50, 100, 200, 400 and 800 frames


def test_it_is_not_said_when_the_bound_is_large_enough(caplog):
    report = InterventionReport(reach(), ["a", "b"])
    add(report, 300, (0.0, 0.0))
    add(report, 100, (0.5, 0.5))
    assert report.shares() == {"a": 0.25, "b": 0.25}
    assert caplog.text == ""


def test_entries_without_names_are_numbered():
    report = InterventionReport(reach(), ())
    add(report, 60, (0.0, 0.5))
    assert report.shares() == {"action[0]": 0.0, "action[1]": 1.0}
    assert "action[1]: 100 %" in report.text()


@pytest.mark.parametrize("names", [("a", "b"), ()])
def test_the_worst_comes_first(names):
    report = InterventionReport(reach(), names)
    add(report, 50, (0.5, 0.5))
    add(report, 50, (0.0, 0.5))
    text = report.text()
    assert text.index("100 %") < text.index("50 %")


def test_every_entry_has_its_own_bound():
    report = InterventionReport(reach(0.1, 0.4), ["a", "b"])
    add(report, 60, (0.3, 0.3))
    assert report.shares() == {"a": 1.0, "b": 0.0}
    assert "Edits reach 0.1 to 0.4;" in report.text()
