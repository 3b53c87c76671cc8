"""Episodes that had to be dropped: how many in a row, and what happens until the next one."""

import logging
import time
from collections.abc import Callable

from .world import EpisodeSpoilt, World, WorldError

SPOILT_IN_A_ROW = 3
# A bus that was unplugged needs about so long to be there again.
RETRY_AFTER_S = 2.0
HOLD_PERIOD_S = 0.1


class DroppedEpisodes:
    """Counts them. An episode that came to its end, or that the person discarded, sets the count back.

    Args:
        world: holds still until the next attempt.
        is_over: whether the person wants to stop.
        retry_after_s: until the next attempt.
    """

    def __init__(self, world: World, is_over: Callable[[], bool], retry_after_s: float = RETRY_AFTER_S) -> None:
        self._world = world
        self._is_over = is_over
        self._retry_after_s = retry_after_s
        self._count = 0

    def forget(self) -> None:
        """An episode came to its end."""
        self._count = 0

    def add(self, error: EpisodeSpoilt) -> None:
        """Say why one was dropped, hold still, and wait until whatever it was may have passed.

        Raises:
            WorldError: it was the third in a row.
        """
        self._count += 1
        if self._count >= SPOILT_IN_A_ROW:
            raise WorldError(
                f"{error} That was the third attempt in a row to fail, so the process ends; finished episodes are kept."
            ) from error
        logging.warning(f"Episode dropped: {error} Next attempt in {self._retry_after_s:.0f} s.")
        until_s = time.monotonic() + self._retry_after_s
        while time.monotonic() < until_s and not self._is_over():
            self._hold()
            time.sleep(HOLD_PERIOD_S)

    def _hold(self) -> None:
        """Again and again: what could not be said to a base that rolls has to be said as soon as it hears."""
        try:
            self._world.hold()
        except WorldError as error:
            logging.debug(f"Not held still: {error}")
