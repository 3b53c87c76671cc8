"""What somebody else's code said when it failed, for a sentence of ours."""

import traceback
from pathlib import Path

from ..words import printable

LONGEST_QUOTE = 400
# Their texts alone, "'axis'" or "'NoneType' object has no attribute 'get_axis'", do not tell where to look.
_OF_PROGRAMS = (LookupError, AttributeError, TypeError, NameError, AssertionError)


def quoted(error: BaseException) -> str:
    """Kind of the error and its text, on one line."""
    text = " ".join(printable(str(error), LONGEST_QUOTE, instead=" ").split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place_of(error: BaseException) -> str:
    """File and line that raised it; empty where nothing was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""


def said(error: BaseException) -> str:
    """As :func:`quoted`, to be followed by a full stop; for errors of programs also the line that raised it."""
    place = place_of(error) if isinstance(error, _OF_PROGRAMS) else ""
    return quoted(error).rstrip(".") + (f" ({place})" if place else "")
