"""A learner that is too slow for a robot says so before one moves."""

import time

import pytest

from lerobot_serl.online.frame_time import FrameTime


def test_the_first_frames_count_only_as_long_as_there_are_no_others():
    found = FrameTime()
    assert found.per_frame_s == 0
    with found.of(2):
        time.sleep(0.02)
    assert found.per_frame_s >= 0.01
    found.took(10, 0.01)
    assert found.per_frame_s == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("per_frame_s", "device", "cameras", "apart", "words"),
    [
        (0.01, "cpu", True, True, ()),
        (
            0.025,
            "cpu",
            True,
            True,
            (
                "25 ms",
                "30 frames",
                "75%",
                "25% is left for updates",
                "Use --policy.device=cuda, or smaller pictures, or --policy.features=state;",
            ),
        ),
        (0.5, "cpu", True, False, ("500 ms", "nothing is left for updates", "Use --policy.device=cuda, or smaller pictures;")),
        (0.5, "cpu", False, False, ("Use --policy.device=cuda;",)),
        (0.5, "cuda:0", False, False, ("on cuda:0", "Use a faster machine")),
    ],
)
def test_what_is_left_for_updates_is_said_with_what_would_help(caplog, per_frame_s, device, cameras, apart, words):
    """Where every frame needs a plan of its own, to see less of it saves nothing."""
    found = FrameTime()
    found.took(100, 100 * per_frame_s)
    found.report(30, device, cameras, apart)
    assert bool(caplog.records) == bool(words)
    assert all(word in caplog.text for word in words)
