"""Frozen dataclasses as the configuration of a recipe: each field is an option, and says all there is to say of it.

click reads the command line, as in all of this package. Of the libraries that make one from dataclasses, tyro tells of
unknown options or of bad values, not of both at once, and jsonargparse spells options with underscores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click

from sgnas_zoo.costs import Budget, counted
from sgnas_zoo.terminal import Count, UserPath

Config = TypeVar("Config")

PLAIN: dict[type, click.ParamType[Any]] = {int: click.INT, float: click.FLOAT, str: click.STRING, Path: UserPath()}
"""How a value of a type is read, where the field does not say more."""


def option(
    told: str, default: Any = MISSING, kind: click.ParamType[Any] | None = None, *, free: bool = False
) -> Any:  # fmt: skip
    """A field of a configuration.

    Args:
        told: What it is, with its unit, for ``--help``.
        default: Its value if none is given; without one it has to be given.
        kind: How it is read and what bounds it has; by default what its type tells.
        free: Whether a resumed run may change it, as it does not change what is trained.
    """
    return dataclasses.field(default=default, metadata={"told": told, "kind": kind, "free": free})


def budgets() -> Any:
    """A field that holds budgets in plain counts by name: an option for each of those that need no profile."""
    return dataclasses.field(metadata={"budgets": True})


def group(kind: type[Config], **defaults: Any) -> Config:
    """A field that holds a configuration of several fields.

    Args:
        kind: A dataclass of ``option`` fields.
        defaults: Of some of its fields, where this recipe has its own.

    Raises:
        TypeError: If there is no such field.
    """
    if unknown := defaults.keys() - {field.name for field in dataclasses.fields(kind)}:  # type: ignore[arg-type]
        raise TypeError(f"{kind.__name__} has no field {min(unknown)}; see its fields.")
    made: Config = dataclasses.field(metadata={"defaults": defaults})
    return made


def options(kind: type) -> list[click.Option]:
    """The options of a configuration, those of its groups in between."""
    found: list[click.Option] = []
    for field, hint, default in _leaves(kind):
        found += (
            [budget_option(budget) for budget in counted()] if _is_budgets(field) else [_option(field, hint, default)]
        )
    return found


def build(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Make a configuration, and those in it, from values by the name of the field."""
    hints = get_type_hints(kind)
    made: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if is_dataclass(hints[field.name]):
            made[field.name] = build(hints[field.name], values)
        elif _is_budgets(field):
            made[field.name] = {b.name: values[b.name] for b in counted() if values.get(b.name) is not None}
        else:
            made[field.name] = values[field.name]
    return kind(**made)


def flat(config: Any, *, repeated: bool = False) -> dict[str, Any]:
    """The values of a configuration as plain JSON, by name.

    Args:
        config: A configuration.
        repeated: Only those that a resumed run must repeat.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            found |= flat(value, repeated=repeated)
        elif _is_budgets(field):
            found |= {budget.name: plain(value.get(budget.name)) for budget in counted()}
        elif not (repeated and field.metadata["free"]):
            found[field.name] = plain(value)
    return found


def plain(value: Any) -> Any:
    """A value as JSON has it; a path is a text."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _leaves(kind: type, defaults: Mapping[str, Any] | None = None) -> Iterator[tuple[Field[Any], Any, Any]]:
    """Fields that hold a value, with type and default."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if is_dataclass(hints[field.name]):
            yield from _leaves(hints[field.name], field.metadata["defaults"])
        else:
            yield field, hints[field.name], (defaults or {}).get(field.name, field.default)


def _is_budgets(field: Field[Any]) -> bool:
    return "budgets" in field.metadata


@cache
def budget_option(budget: Budget, several: bool = False) -> click.Option:
    """The option of a budget, the same one whenever it is asked for.

    Args:
        budget: The budget.
        several: Whether it takes several amounts.
    """
    number = "; repeat for several" if several else ""
    told = f"{budget.told}, such as {budget.example}{number}."
    return click.Option([f"--{budget.name}"], type=None if budget.read else Count(), multiple=several, help=told)


def _option(field: Field[Any], hint: Any, default: Any) -> click.Option:
    """The option of a field."""
    spelt = f"--{field.name.replace('_', '-')}"
    shown: dict[str, Any] = {"help": field.metadata["told"], "show_default": True}
    shown |= {"required": True} if default is MISSING else {"default": default}
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    if hint is bool:
        return click.Option([f"{spelt}/--no-{spelt[2:]}"], **shown)
    if get_origin(hint) is tuple:
        hint, shown["multiple"] = get_args(hint)[0], True
    choice = click.Choice(get_args(hint)) if get_origin(hint) is Literal else None
    return click.Option([spelt], type=field.metadata["kind"] or choice or PLAIN[hint], **shown)
