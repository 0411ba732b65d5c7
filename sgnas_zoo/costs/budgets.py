"""What a user may bound. Arguments, options, rows of cards and lines of docstrings come from this registry."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sgnas_zoo.registry import Registry
from sgnas_zoo.units import milliseconds, number_of_bytes

Call = TypeVar("Call", bound=Callable[..., Any])


@dataclass(frozen=True)
class Budget:
    """A cost that a user may bound.

    Args:
        name: Its keyword, option and objective: "flops".
        cost: Name of the cost, and of the entry of a record that says what a network has: "macs".
        title: What it is, for cards.
        told: What a bound of it is, for help texts and docstrings.
        example: An amount as people write it.
        unit: Unit in which people read it.
        scale: Plain amount of one such unit.
        read: Reads an amount that is written with its unit, in Python too, from name and text; None where amounts are
            plain counts.
        profiled: Whether a device profile prices it: everything else is counted.
    """

    name: str
    cost: str
    title: str
    told: str
    example: str
    unit: str
    scale: float = 1e6
    read: Callable[[str, object], float] | None = None
    profiled: bool = False

    @property
    def recorded(self) -> str:
        """Its name among the budgets of a record: with the unit, where it has one."""
        return self.cost if self.read else self.name

    def in_words(self, amount: float) -> str:
        """An amount with its unit: "349.9M MACs", "19.94 ms"."""
        gap = " " if self.scale == 1 else ""
        return f"{amount / self.scale:.4g}{gap}{self.unit}"

    def shown(self, amount: float) -> str:
        """An amount as people would write it: "350M", "20ms"."""
        return f"{amount / self.scale:.4g}{self.unit.partition(' ')[0]}"


BUDGETS: Registry[Budget] = Registry("budget")
for _budget in (
    Budget("flops", "macs", "FLOPs (MACs)", "Most FLOPs (MACs, as NAS papers count them)", "350M", "M MACs"),
    Budget("params", "params", "parameters", "Most parameters", "6M", "M parameters"),
    Budget("latency", "latency_ms", "latency, ms", "Most time for a batch", "20ms", "ms", 1.0, milliseconds, True),
    Budget("bitops", "bitops", "BitOps", "Most BitOps, in a space of bits", "14G", "M BitOps"),
    Budget("memory", "memory_bytes", "peak memory of activations, bytes", "Most memory for activations at once", "64KB",
           "KB memory", 1e3, number_of_bytes),
    Budget("flash", "flash_bytes", "size of the weights, bytes", "Most bytes of weights", "300KB", "KB flash", 1e3,
           number_of_bytes),
):  # fmt: skip
    BUDGETS.register(_budget.name, _budget)


def counted() -> list[Budget]:
    """The budgets that need no device profile."""
    return [BUDGETS[name] for name in BUDGETS if not BUDGETS[name].profiled]


def takes_budgets(several: bool) -> Callable[[Call], Call]:
    """Let signature and docstring of a function that takes budgets as keywords (its last, ``**``) name each of them.

    ``{budgets}`` in the docstring is where their lines go.

    Args:
        several: Whether it takes several amounts of each.
    """

    def decorate(function: Call) -> Call:
        signature, named = inspect.signature(function), [BUDGETS[name] for name in BUDGETS]
        *parameters, rest = signature.parameters.values()
        first = [parameter.kind == parameter.KEYWORD_ONLY for parameter in parameters].index(True)
        hint, number = ("Amount | None", "; one or N") if several else ("float | str | None", "")
        own = [inspect.Parameter(b.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint) for b in named]
        parameters[first:first] = own
        parameters += [rest] if rest.name != "budgets" else []
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        if function.__doc__:  # none with -OO
            lines = [f"{b.name}: {b.told}{number}, such as {_python(b)}." for b in named]
            function.__doc__ = function.__doc__.replace("{budgets}", "\n        ".join(lines))
        return function

    return decorate


def _python(budget: Budget) -> str:
    """An amount as Python code."""
    if budget.read:
        return f'"{budget.example}"'
    return budget.example[:-1] + {"K": "e3", "M": "e6", "G": "e9"}[budget.example[-1]]
