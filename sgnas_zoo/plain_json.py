"""JSON from other people, read strictly: it is plain, finite and of moderate depth, and fits types that say bounds."""

from __future__ import annotations

import json
import math
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

MAX_DEPTH = 200
"""Configs are a few levels deep; whatever walks deeper ones may run out of stack."""


def parse_json(text: str | bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: If it is none, holds a number that is not finite (``NaN``, ``1e400``), or is nested too deeply.
        RecursionError: If it is nested beyond what can be looked at.
    """
    value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    if _depth(value) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return value


def checked(value: object, kind: type[T]) -> T:
    """What JSON gave as a value of a type that says bounds with ``msgspec.Meta``; unknown fields are ignored.

    What lies between two fields is left to who asks, or to ``__post_init__``.

    Args:
        value: Plain data.
        kind: A dataclass, a ``msgspec.Struct``, or any other type that msgspec knows.

    Raises:
        ValueError: If a field is missing, of another type or out of bounds. It says which and why, in one line; the
            reader of a file adds its name and the next step.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason, _, field = str(error).partition(" - at `$")
        field = field.rstrip("`").lstrip(".")
        raise ValueError(f"{field}: {reason}" if field else reason) from None
    except UnicodeEncodeError:  # JSON may write \\ud800, which is none of UTF-8
        raise ValueError("half a character stands where a name has to be") from None


def fits(value: object, kind: Any) -> bool:
    """Whether ``checked`` takes a value."""
    try:
        checked(value, kind)
    except ValueError:
        return False
    return True


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text[:40])


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)
