"""Additive cost tables: a cost is computed once from the space, then is a look-up per architecture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

from sgnas_zoo.errors import ArchError, SpaceError, shown, unknown_name
from sgnas_zoo.spaces import Arch, FormName, SearchSpace
from sgnas_zoo.spaces.variants import Variant

MOST = 1_000_000
"""Beyond any real resolution, number of classes or of channels."""


@dataclass(frozen=True)
class Conditions:
    """What a cost is stated for, besides the architecture.

    Args:
        form: "search" (as in the supernet) or "final" (as a stand-alone network).
        resolution: Side of the square input in pixels.
        num_classes: Classes; 0 leaves the classifier out.
        in_chans: Input channels.

    Raises:
        SpaceError: If one of them is out of range.
        UnknownNameError: If there is no such form.
    """

    form: FormName = "final"
    resolution: int = 224
    num_classes: int = 1000
    in_chans: int = 3

    def __post_init__(self) -> None:
        if not isinstance(self.form, str) or self.form not in ("search", "final"):
            raise unknown_name("form", self.form, ("search", "final"))
        for name, least in (("resolution", 1), ("num_classes", 0), ("in_chans", 1)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= MOST:
                raise SpaceError(
                    f"{name} is {shown(value)}; give a whole number of at least {least} and at most {MOST:,}."
                )
            object.__setattr__(self, name, int(value))  # numpy's, too


def native_conditions(space: SearchSpace, **changes: int | str) -> Conditions:
    """The conditions a space was made for: its resolution and classes, final form; ``changes`` override them."""
    native: dict[str, int | str] = {"resolution": space.resolution, "num_classes": space.num_classes}
    return Conditions(**{**native, **changes})  # type: ignore[arg-type]


@dataclass(frozen=True)
class CostTable:
    """Costs that add up over the layers of a space.

    Args:
        name: Name of the cost ("macs", "params", ...).
        unit: Unit of every number in it.
        space: The space it prices.
        fixed: Cost of what no choice changes.
        layers: ``layers[i][j]`` prices layer ``i`` as variant ``space.merge(i).variants[j]``.
    """

    name: str
    unit: str
    space: SearchSpace
    fixed: float
    layers: tuple[tuple[float, ...], ...]

    def reaches(self, limit: float) -> bool:
        """Whether some architecture costs as much as a limit, in ``unit``: only then the limit binds."""
        return limit <= self.maximum

    def measure(self, arch: Arch) -> float:
        """Exact cost of an architecture, in ``unit``.

        Raises:
            ArchError: If it belongs to another space.
        """
        if arch.space != self.space:
            raise ArchError(
                f"This {self.name} table prices {self.space.name}, not {arch.space.name}; make a table of that space."
            )
        variants = (position[self.space.variant(p)] for position, p in zip(self._positions, arch.picks, strict=True))
        return self.fixed + sum(costs[at] for costs, at in zip(self.layers, variants, strict=True))

    @cached_property
    def _positions(self) -> list[dict[Variant, int]]:
        """Per layer, where the cost of a variant stands."""
        return [self.space.merge(layer).position for layer in range(len(self.layers))]

    @cached_property
    def minimum(self) -> float:
        """Cost of the cheapest architecture."""
        return self.fixed + sum(map(min, self.layers))

    @cached_property
    def maximum(self) -> float:
        """Cost of the dearest architecture."""
        return self.fixed + sum(map(max, self.layers))
