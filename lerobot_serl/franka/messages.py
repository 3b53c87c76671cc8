"""The JSON that the server accepts. Everything in it is hostile until it has passed here."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Body = Mapping[str, Any]
LONGEST_INT = 1000


def parse_body(data: bytes) -> dict[str, Any]:
    """Parse a request's body; an empty one is an empty object.

    Raises:
        ValueError: not UTF-8, not JSON, not an object, NaN or infinity, or nested too deeply.
    """
    if not data.strip():
        return {}
    try:
        body = json.loads(data.decode(), parse_constant=_refuse_constant, parse_int=_short_int)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError("the body is not JSON; send an object such as {} in UTF-8") from error
    if not isinstance(body, dict):
        raise ValueError(f"the body is a JSON {type(body).__name__}, expected an object such as {{}}")
    return body


def _refuse_constant(name: str) -> float:
    raise ValueError(f"the body contains {name}, expected finite numbers")


def _short_int(digits: str) -> int:
    if len(digits) > LONGEST_INT:
        raise ValueError(f"the body contains a number of {len(digits)} digits, expected finite numbers")
    return int(digits)


def number(body: Body, name: str, default: float | None = None) -> float:
    """Return a finite number.

    Raises:
        ValueError: it is missing and has no default, or is no finite number.
    """
    if name not in body and default is not None:
        return default
    return _finite(_required(body, name), name)


def whole_number(body: Body, name: str) -> int | None:
    """Return an integer, None where it is missing or null.

    Raises:
        ValueError: it is something else.
    """
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"{name} is {_short(value)}, expected a whole number")
    return value


def vector(body: Body, name: str, size: int) -> NDArray[np.float64]:
    """Return (size,) finite numbers.

    Raises:
        ValueError: it is missing, has another length, or contains something else.
    """
    values = _required(body, name)
    if not isinstance(values, list) or len(values) != size:
        got = f"a list of {len(values)}" if isinstance(values, list) else _short(values)
        raise ValueError(f"{name} is {got}, expected a list of {size} numbers")
    return np.array([_finite(value, f"{name}[{i}]") for i, value in enumerate(values)])


def _required(body: Body, name: str) -> Any:
    if name not in body:
        raise ValueError(f"the body lacks {name!r}; it has {sorted(body)[:16]}")
    return body[name]


def _finite(value: Any, name: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            if math.isfinite(value):
                return float(value)
        except OverflowError:
            pass
    raise ValueError(f"{name} is {_short(value)}, expected a finite number")


def _short(value: Any) -> str:
    """A hostile value must not fill the answer, nor raise when printed (integers of more than 4300 digits do)."""
    if isinstance(value, str | bool | float) or value is None:
        return repr(value)[:40]
    return f"a JSON {type(value).__name__}"
