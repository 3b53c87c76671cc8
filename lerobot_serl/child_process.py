"""How this package starts other Python processes."""

import sys
from collections.abc import Sequence


def module_command(module: str, *arguments: str) -> Sequence[str]:
    """Command line that runs a module, by this interpreter.

    ``-P`` keeps the working directory off the path: a file lying there would be imported in the place of a module of that name, even one of
    Python's own.
    """
    return (sys.executable, "-P", "-m", module, *arguments)
