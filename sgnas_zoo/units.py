"""Amounts as people write them: 350M for a count, 20ms for a time."""

from __future__ import annotations

import re

from sgnas_zoo.errors import BudgetError, shown

COUNTS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
"""Suffixes of counts."""

TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}
"""Units of time, in milliseconds."""

MOST = 1e18
"""Beyond any network, and still exact enough as a float."""


def count(text: str) -> float:
    """A count written 350M, 1.2G or 350e6.

    Raises:
        BudgetError: If it is none, or so small that its suffix was forgotten.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)([KMG]?)", text.strip(), re.IGNORECASE)
    number = float(match[1]) * COUNTS[match[2].upper()] if match else 0.0
    if not 0 < number < float("inf"):
        raise BudgetError(f"{text!r} is no budget; write a positive count such as 350M.")
    if number < 10_000 and match and not match[2]:
        raise BudgetError(f"{text} is no network's budget; did you mean {text}M?")
    return number


def milliseconds(name: str, text: object) -> float:
    """A time such as "20ms", "900us" or "1.5s" in milliseconds.

    Args:
        name: What it is the time of, for the error.
        text: The time.

    Raises:
        BudgetError: If it is none.
    """
    match = (
        re.fullmatch(r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?) ?(us|ms|s)", text.strip()) if isinstance(text, str) else None
    )
    if match and 0 < float(match[1]) < MOST:
        return float(match[1]) * TIMES[match[2]]
    written = shown(text).strip("'")
    hint = f"{written}ms" if re.fullmatch(r"[0-9]*\.?[0-9]+", written) else "20ms"
    raise BudgetError(f"{name}={shown(text)} is no {name}; give a time with its unit, such as {hint}.")
