"""Updates whose loss or gradient is not finite: the optimizers skip them; here they are counted, explained, and end training if they go on."""

import logging
from collections.abc import Callable, Iterable, Mapping

from ..policy.learning import Learning
from ..replay.memory import ReplayMemory

# Updates between two looks. A look waits for the device; between them it is left alone.
LOOK_EVERY = 50
# In a row, before training stops. One or two are bad luck that Adam outlives; ten are a state that no further update leaves.
MOST_BAD_UPDATES = 10
LOOK_AT = (
    "Look at learner.csv: numbers that grew over many rows mean that learning diverges (lower --policy.critic.lr and --policy.actor.lr); "
    "numbers that broke off from one row to the next mean bad data (a sensor or a camera that sent NaN) or failing memory."
)


class UpdateGuard:
    """Looks now and then at what the optimizers skipped.

    Args:
        learning: whose optimizers skip updates, and whose counters tell.
        memories: name -> where the batches come from.
        stop: takes the reason why training has to stop.
    """

    def __init__(self, learning: Learning, memories: Mapping[str, ReplayMemory], stop: Callable[[str], None]) -> None:
        self._learning = learning
        self._memories = memories
        self._stop = stop
        self._seen = 0
        self._since_look = 0
        self._explained = False

    def after_update(self) -> None:
        """Look, if it is time to."""
        self._since_look += 1
        if self._since_look >= LOOK_EVERY:
            self.look()

    def look(self) -> None:
        """Count what was skipped since the last look; stop training after too many in a row."""
        self._since_look = 0
        optimizers, progress = self._learning.optimizers, self._learning.progress
        skipped = int(optimizers.skipped) - self._seen
        if not skipped:
            return
        self._seen += skipped
        progress.updates -= skipped
        progress.skipped_updates += skipped
        self._say(skipped, optimizers.take_bad_terms())
        if (in_a_row := int(optimizers.in_a_row)) >= MOST_BAD_UPDATES:
            self._stop(
                f"Training stops: {in_a_row} updates in a row were not finite. The weights are those of the last good update. {LOOK_AT}"
            )

    def _say(self, skipped: int, terms: Iterable[str]) -> None:
        bad = [f"{column} of {name}" for name, memory in self._memories.items() for column in memory.bad_columns()]
        data = f"The memory itself holds NaN or infinity in {', '.join(bad)}." if bad else "The data in the memory are finite."
        advice = "" if self._explained else f" {LOOK_AT}"
        updates = f"{skipped} updates were" if skipped > 1 else "An update was"
        logging.warning(
            f"{updates} skipped, after {self._learning.progress.updates}: not finite: {', '.join(terms)}. No weight was changed. {data}{advice}"
        )
        self._explained = True
