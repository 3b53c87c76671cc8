"""LeRobot's sixty lines about torchcodec are one in the processes that this package starts."""

import logging
import os
import subprocess
import sys

import pytest

from lerobot_serl.child_process import STARTED, child_environment
from lerobot_serl.one_line import shorten_torchcodec

SAY = """
import logging, lerobot_policy_serl_sac
logger = logging.getLogger("lerobot.utils.import_utils")
logger.warning("Could not load libtorchcodec. Likely causes:\\n  1. FFmpeg\\n'torchcodec' is installed but cannot be loaded")
logger.warning("something\\nelse")
"""


def test_the_long_message_becomes_one_line_and_others_stay(caplog):
    logger = logging.getLogger("lerobot.utils.import_utils")
    filters = list(logger.filters)
    try:
        shorten_torchcodec()
        shorten_torchcodec()
        assert len(logger.filters) == len(filters) + 1
        logger.warning("%s\n'torchcodec' is installed but cannot be loaded", "Traceback\n" * 60)
        logger.warning("two\nlines")
    finally:
        logger.filters[:] = filters
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("Videos are decoded by pyav: torchcodec finds no FFmpeg here.")
    assert "\n" not in first
    assert second == "two\nlines"


@pytest.mark.parametrize("ours", [True, False])
def test_only_processes_that_we_start_shorten_it(ours):
    plain = {name: value for name, value in os.environ.items() if name != STARTED}
    done = subprocess.run(
        [sys.executable, "-c", SAY], env=child_environment() if ours else plain, capture_output=True, text=True, check=True
    )
    assert ("Likely causes" in done.stderr) is not ours
    assert "something\nelse" in done.stderr
