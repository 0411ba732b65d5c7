"""Cost tables: a cost is computed once from the space, then is a look-up per architecture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any, Literal, get_args

from sgnas_zoo.errors import ArchError, SpaceError, shown, unknown_name
from sgnas_zoo.spaces import Arch, FormName, SearchSpace
from sgnas_zoo.spaces.variants import Variant

MOST = 1_000_000
"""Beyond any real resolution, number of classes or of channels."""

Precision = Literal["int8", "fp16", "float32"]
"""Number formats that bytes are counted at."""
DEFAULT_PRECISION: Precision = "int8"


@dataclass(frozen=True)
class Conditions:
    """What a cost is stated for, besides the architecture.

    Args:
        form: "search" (as in the supernet), "final" (as a stand-alone network) or "lite" (as such, with ReLU6 and
            without squeeze-and-excitation).
        resolution: Side of the square input in pixels.
        num_classes: Classes; 0 leaves the classifier out.
        in_chans: Input channels.
        precision: Number format of weights and maps, where bytes are counted.

    Raises:
        SpaceError: If one of them is out of range.
        UnknownNameError: If there is no such form or precision.
    """

    form: FormName = "final"
    resolution: int = 224
    num_classes: int = 1000
    in_chans: int = 3
    precision: Precision = DEFAULT_PRECISION

    def __post_init__(self) -> None:
        for name, known in (("form", get_args(FormName)), ("precision", get_args(Precision))):
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        for name, least in (("resolution", 1), ("num_classes", 0), ("in_chans", 1)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= MOST:
                raise SpaceError(
                    f"{name} is {shown(value)}; give a whole number of at least {least} and at most {MOST:,}."
                )
            object.__setattr__(self, name, int(value))  # numpy's, too

    def of_network(self) -> dict[str, Any]:
        """All but the precision: what a network is, whatever it is stored as."""
        return {name: getattr(self, name) for name in ("form", "resolution", "num_classes", "in_chans")}


def native_conditions(space: SearchSpace, **changes: int | str) -> Conditions:
    """The conditions a space was made for: its resolution and classes, final form; ``changes`` override them.

    Raises:
        SpaceError: If one is out of range, or the space has no such form.
        UnknownNameError: If there is no such form or precision at all.
    """
    native: dict[str, int | str] = {"resolution": space.resolution, "num_classes": space.num_classes}
    conditions = Conditions(**{**native, **changes})  # type: ignore[arg-type]
    space.form(conditions.form)
    return conditions


@dataclass(frozen=True)
class CostTable:
    """Costs of the layers of a space, which add up, or of which the largest counts.

    Args:
        name: Name of the cost ("macs", "params", ...).
        unit: Unit of every number in it.
        space: The space it prices.
        fixed: Cost of what no choice changes.
        layers: ``layers[i][j]`` prices layer ``i`` as variant ``space.merge(i).variants[j]``.
        over_layers: How the prices of layers, and the fixed one, make that of a network: "sum" or "max".
    """

    name: str
    unit: str
    space: SearchSpace
    fixed: float
    layers: tuple[tuple[float, ...], ...]
    over_layers: Literal["sum", "max"] = "sum"

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
        return self._whole(costs[at] for costs, at in zip(self.layers, variants, strict=True))

    def _whole(self, prices: Iterable[float]) -> float:
        """The cost of a network from those of its layers."""
        return max(self.fixed, *prices) if self.over_layers == "max" else self.fixed + sum(prices)

    @cached_property
    def _positions(self) -> list[dict[Variant, int]]:
        """Per layer, where the cost of a variant stands."""
        return [self.space.merge(layer).position for layer in range(len(self.layers))]

    @cached_property
    def minimum(self) -> float:
        """Cost of the cheapest architecture."""
        return self._whole(map(min, self.layers))

    @cached_property
    def maximum(self) -> float:
        """Cost of the dearest architecture."""
        return self._whole(map(max, self.layers))
