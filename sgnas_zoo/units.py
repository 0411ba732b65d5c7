"""Amounts as people write them: 350M for a count, 20ms for a time, 64KB for a size."""

from __future__ import annotations

import re

from sgnas_zoo.errors import BudgetError, shown

COUNTS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
"""Suffixes of counts."""

TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}
"""Units of time, in milliseconds."""

SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "KiB": 2**10, "MiB": 2**20}
"""Units of memory, in bytes."""

FEWEST_BYTES = 1000
"""Fewer without a unit are kilobytes whose unit was forgotten."""

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
        raise BudgetError(f"{text!r} is not a budget; write a positive count such as 350M.")
    if number < 10_000 and match and not match[2]:
        raise BudgetError(f"{text} is too small for a network; did you mean {text}M?")
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
    raise BudgetError(f"{name}={shown(text)} is not a {name}; give a time with its unit, such as {hint}.")


def number_of_bytes(name: str, amount: object) -> float:
    """A size such as "64KB", "1.5MiB" or 65536 in bytes. A KB is 1,000 bytes and a KiB 1,024.

    Args:
        name: What it is the size of, for the error.
        amount: The size: text, or a number of bytes.

    Raises:
        BudgetError: If it is none, or so small that its unit was forgotten.
    """
    text = str(amount) if isinstance(amount, int | float) and not isinstance(amount, bool) else amount
    match = (
        re.fullmatch(r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?) ?([KM]i?B|B|)", text.strip(), re.IGNORECASE)
        if isinstance(text, str) else None
    )  # fmt: skip
    unit = next((unit for unit in SIZES if match and unit.lower() == match[2].lower()), "")
    number = float(match[1]) * SIZES[unit] if match else 0.0
    if match and not unit and 0 < number < FEWEST_BYTES:
        raise BudgetError(f"{name}={shown(amount)} is {number:g} bytes; did you mean {match[1]}KB?")
    if not 0 < number < MOST:
        raise BudgetError(f"{name}={shown(amount)} is not a size; give one with its unit, such as 64KB or 64KiB.")
    return number
