"""One small, strict registry: duplicates raise, lookups suggest near matches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from sgnas_zoo.errors import unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """Names and their values; a name is given once.

    Args:
        kind: What the values are, for error messages ("space", "cost", ...).
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._values: dict[str, T] = {}
        self._told: list[Callable[[T], object]] = []

    def register(self, name: str, value: T) -> T:
        """Add ``value`` under ``name`` and return it; a name that is taken raises ValueError."""
        if name in self._values:
            raise ValueError(f"{self.kind} {name!r} is registered already; choose another name.")
        self._values[name] = value
        for tell in self._told:
            tell(value)
        return value

    def on_register(self, tell: Callable[[T], object]) -> None:
        """Have ``tell`` called with every value that is registered from now on."""
        self._told.append(tell)

    @contextmanager
    def temporarily(self, name: str, value: T) -> Iterator[T]:
        """Register ``value`` for the length of a ``with`` block, as tests and notebooks want it."""
        self.register(name, value)
        try:
            yield value
        finally:
            del self._values[name]

    def __getitem__(self, name: str) -> T:
        try:
            return self._values[name]
        except (KeyError, TypeError):  # a TypeError for what cannot be a name, such as a list
            raise unknown_name(self.kind, name, self._values) from None

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
