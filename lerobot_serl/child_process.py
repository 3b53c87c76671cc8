"""How this package starts other Python processes."""

import os
import sys
from collections.abc import Mapping, Sequence

# Set in the processes that this package starts.
STARTED = "LEROBOT_SERL_STARTED"


def module_command(module: str, *arguments: str) -> Sequence[str]:
    """Command line that runs a module, by this interpreter.

    ``-P`` keeps the working directory off the path: a file lying there would be imported in the place of a module of that name, even one of
    Python's own.
    """
    return (sys.executable, "-P", "-m", module, *arguments)


def child_environment() -> Mapping[str, str]:
    """Of such a process: this one's, and that we started it."""
    return {**os.environ, STARTED: "1"}
