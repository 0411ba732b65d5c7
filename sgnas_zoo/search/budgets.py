"""Budgets as users state them: a number or several, of one cost or of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.errors import BudgetError, shown, unknown_name
from sgnas_zoo.units import MOST, count

Amount = float | str | Sequence[float] | Sequence[str]
"""One budget, or N of them; a latency has a unit: "20ms"."""


MOST_OF_A_RANGE = 1000
"""More amounts than anybody asks for at once; a step without its unit makes as many."""


def check_budget_name(name: str) -> None:
    """Refuse the name of a budget that there is not.

    Raises:
        UnknownNameError: With near matches, or all names.
    """
    if name not in BUDGETS:
        raise unknown_name("cost", name, BUDGETS)


def stated(**budgets: Amount | None) -> dict[str, Any]:
    """The budgets that were given; those written with a unit as numbers, latencies in milliseconds.

    Raises:
        BudgetError: If one that needs a unit has none.
    """
    given = {name: value for name, value in budgets.items() if value is not None}
    for name, value in given.items():
        if read := BUDGETS[name].read:
            given[name] = [read(name, v) for v in value] if isinstance(value, list | tuple) else read(name, value)
    return given


def asked_of(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The budgets among keywords, as ``stated`` gives them.

    Raises:
        BudgetError: As ``stated``.
    """
    return stated(**{name: keywords.get(name) for name in BUDGETS})


def broadcast(budgets: Mapping[str, Any]) -> dict[str, list[float]]:
    """Budgets as lists of one length, each a positive finite number.

    Raises:
        BudgetError: If there is none, a value is not such a number, or lists differ in length.
    """
    lists = {name: [_number(name, value) for value in _several(name, values)] for name, values in budgets.items()}
    if not lists or not all(lists.values()):
        raise BudgetError("No budget was given; say for example flops=350e6 or params=5e6.")
    number = max(len(values) for values in lists.values())
    if any(len(values) not in (1, number) for values in lists.values()):
        counts = " and ".join(f"{len(values)} {name}" for name, values in lists.items())
        raise BudgetError(f"Lists of {counts} do not pair up; give lists of one length, or one value for all.")
    return {name: values * (number // len(values)) for name, values in lists.items()}


def _several(name: str, value: Any) -> list[Any]:
    """The budgets of one cost as a list: a list, tuple or range of them, an array or tensor with one axis, or one.

    Raises:
        BudgetError: If it has more axes.
    """
    if isinstance(value, np.generic) or (hasattr(value, "tolist") and hasattr(value, "ndim")):
        if (
            value.ndim > 1
            or str(getattr(value, "device", "")) == "meta"
            or np.dtype(type(value) if isinstance(value, np.generic) else object).kind in "mM"
        ):
            raise _no_budget(name, value)
        value = value.tolist()
    return list(value) if isinstance(value, list | tuple | range) else [value]


def _number(name: str, value: Any) -> float:
    """A budget in plain counts, or in milliseconds.

    Raises:
        BudgetError: If it is none.
    """
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0 and not isinstance(value, np.timedelta64):
        value = value.item()  # a number of numpy or torch
    try:
        if isinstance(value, Real | Decimal) and not isinstance(value, bool | np.timedelta64) and 0 < value <= MOST:  # type: ignore[operator]
            return float(value)
    except ArithmeticError:  # a Decimal that is not a number
        pass
    raise _no_budget(name, value)


def _no_budget(name: str, value: object) -> BudgetError:
    return BudgetError(f"{name}={shown(value)} is not a budget; give a positive number such as {name}=350e6.")


def single(budgets: Mapping[str, Any]) -> dict[str, float]:
    """The budgets of one model.

    Raises:
        BudgetError: As ``broadcast``, or if there are several of one cost.
    """
    lists = broadcast(budgets) if budgets else {}
    if any(len(values) > 1 for values in lists.values()):
        raise BudgetError("One model takes one budget of a kind; ask sgnas_zoo.generate for several.")
    return {name: values[0] for name, values in lists.items()}


def listed(name: str, text: str) -> list[float] | list[str]:
    """Several amounts as people write them: "2M,3M,4M", ranges with both ends such as "25M:85M:5M", or both.

    Args:
        name: Name of the budget.
        text: The amounts.

    Returns:
        Plain counts; of a budget that is written with a unit, texts with it.

    Raises:
        BudgetError: If one is not an amount, or a range has another form.
    """
    budget, parts = BUDGETS[name], [part.strip() for part in text.split(",")]
    if budget.read is None:
        return [amount for part in parts for amount in (_spread(name, part) if ":" in part else [count(part)])]
    unit, written = budget.unit.partition(" ")[0], list[str]()
    for part in parts:
        amounts = _spread(name, part) if ":" in part else []
        written += [f"{amount / budget.scale:.12g}{unit}" for amount in amounts] or [part]
    return written


def _spread(name: str, text: str) -> list[float]:
    """The amounts of a range.

    Raises:
        BudgetError: If it has another form.
    """
    budget = BUDGETS[name]
    ends = [budget.read(name, part) if budget.read else count(part) for part in text.split(":")]
    if wrong := _wrong_range(ends):
        example = ":".join(budget.shown(number * budget.scale) for number in (25, 85, 5))
        raise BudgetError(f"{text!r} is not a valid range: {wrong}; write one such as {example}.")
    first, last, step = ends
    return [*(round(first + number * step, 6) for number in range(round((last - first) / step))), last]


def _wrong_range(ends: Sequence[float]) -> str:
    """What is wrong with a range, or nothing."""
    if len(ends) != 3:
        return "it takes a first amount, a last one and a step"
    first, last, step = ends
    steps = (last - first) / step
    if steps < 0:
        return "its last amount is below its first"
    if steps >= MOST_OF_A_RANGE:
        return f"it has more than {MOST_OF_A_RANGE:,} amounts"
    return "" if abs(steps - round(steps)) < 1e-6 else "its step does not lead from its first amount to its last"


def plain(number: float) -> float:
    """A count as an integer where it is one."""
    return int(number) if number.is_integer() else number
