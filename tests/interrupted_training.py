"""``lerobot-train`` with a signal at a chosen instant: ``python interrupted_training.py EVENT FLAGS``.

EVENT is ``SIGTERM@7`` (in the middle of update 7), ``SIGINT@waiting`` (when the learner first waits for the robot), or ``SIGKILL@saving`` (in
the second checkpoint, half of it written). Only the instant is chosen here; the signals are real, and so is everything that they meet.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from lerobot.common import train_utils
from lerobot.scripts import lerobot_train

from lerobot_serl.online.collection import Collection
from lerobot_serl.policy.agent import Agent


def before(owner: Any, name: str, number: int, call: int) -> None:
    """Send the signal to this process just before the given call of a function, counted from 1."""
    function: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), number)
        return function(*args, **kwargs)

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    signal_name, _, instant = sys.argv.pop(1).partition("@")
    sent = getattr(signal, signal_name)
    if instant == "waiting":
        before(Collection, "remind", sent, 1)
    elif instant == "saving":
        before(train_utils, "save_optimizer_state", sent, 2)
    else:
        before(Agent, "critic_loss", sent, int(instant))
    lerobot_train.main()
