"""JSON from other people, read strictly: what it gives is plain, finite and of moderate depth."""

from __future__ import annotations

import json
import math
from typing import Any

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


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text[:40])


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)
