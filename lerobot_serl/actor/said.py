"""What somebody else's code said when it failed, for a sentence of ours."""

import traceback
from pathlib import Path

# Their texts alone, "'axis'" or "'NoneType' object has no attribute 'get_axis'", do not tell where to look.
_OF_PROGRAMS = (LookupError, AttributeError, TypeError, NameError, AssertionError)


def said(error: BaseException) -> str:
    """Kind of the error and its text, on one line; for errors of programs also the line that raised it."""
    text = " ".join(str(error).split()).rstrip(".")
    place = ""
    if isinstance(error, _OF_PROGRAMS) and (frames := traceback.extract_tb(error.__traceback__)):
        place = f", in {Path(frames[-1].filename).name} line {frames[-1].lineno}"
    return f"{type(error).__name__}{f': {text}' if text else ''}{place}"
