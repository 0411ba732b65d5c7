"""True accuracies of a space: a table of networks that were each trained, which judges what others have found.

It only judges. No training, sampling, search or choice of settings may look at it, and a test reads the imports of the
package and the recipes for that.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import msgspec

from sgnas_zoo.costs import COSTS, CostTable, native_conditions
from sgnas_zoo.errors import ArchError, ArtifactError, BudgetError, shown
from sgnas_zoo.files import reason, sha256, user_path
from sgnas_zoo.hub.artifacts import brief
from sgnas_zoo.plain_json import checked, parse_json
from sgnas_zoo.search.bounds import ROUNDING
from sgnas_zoo.spaces import Arch, SearchSpace

NEXT = "name the JSON file of a truth table"
Top1 = Annotated[float, msgspec.Meta(ge=0, le=100)]
Point = tuple[float, float]
"""A cost, and a true top-1."""


class Trained(msgspec.Struct):
    """What a table says of one network: top-1 of each run, in percent, parameters and MACs."""

    top1: Annotated[list[Top1], msgspec.Meta(min_length=1)]
    params: int
    macs: int


@dataclass(frozen=True)
class Truth:
    """True accuracies of a space.

    Args:
        space: The space.
        accuracies: Top-1 in percent, the mean of a network's runs.
        record: File name, digest and number of networks, as plain data.
    """

    space: SearchSpace
    accuracies: Mapping[Arch, float]
    record: Mapping[str, Any]
    _fronts: dict[CostTable, list[Point]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | Path, space: SearchSpace) -> Truth:
        """Read a table and check it: ``{arch: {"top1": [runs], "params": count, "macs": count}}``.

        It may lack architectures, see ``check_whole``.

        Args:
            path: JSON file.
            space: The space that it has to be of.

        Raises:
            ArtifactError: If it cannot be read, is of another space, counts costs otherwise than we do, or holds an
                accuracy that is none.
        """
        file = user_path(path)
        try:
            content = checked(parse_json(file.read_bytes()), dict[str, Any])
        except OSError as error:
            raise ArtifactError(f"Cannot read {path}: {reason(error)}; {NEXT}.") from error
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{path} is not a valid JSON object ({brief(error)}); {NEXT}.") from None
        tables = [COSTS[name].table(space, native_conditions(space, form="search")) for name in ("macs", "params")]
        accuracies = dict(_read(path, tables, text, row) for text, row in content.items())
        record = {"file": file.name, "sha256": sha256(file), "networks": len(accuracies)}
        return cls(space, accuracies, record)

    def check_whole(self) -> None:
        """Refuse a table that lacks an architecture: the best one could be among those.

        Raises:
            ArtifactError: Naming how many it lacks, and one of them.
        """
        if lacking := self.space.size - len(self.accuracies):
            one = next(arch for arch in _every(self.space) if arch not in self.accuracies)
            raise ArtifactError(
                f"{self.record['file']} lacks {lacking:,} of the {self.space.size:,} architectures of "
                f"{self.space.name}, such as {one}; name a table that holds all of them."
            )

    def top1(self, arch: Arch) -> float:
        """True top-1 of an architecture, in percent.

        Raises:
            ArtifactError: If the table lacks it.
        """
        try:
            return self.accuracies[arch]
        except KeyError:
            raise ArtifactError(f"{self.record['file']} lacks {arch}; name a truth table that holds it.") from None

    def front(self, table: CostTable) -> list[Point]:
        """Cost and true top-1 of the networks that none as cheap beats, by rising cost."""
        if table not in self._fronts:
            front: list[Point] = []
            for cost, lost in sorted((table.measure(arch), -top1) for arch, top1 in self.accuracies.items()):
                if not front or -lost > front[-1][1]:
                    front.append((cost, -lost))
            self._fronts[table] = front
        return self._fronts[table]

    def best(self, table: CostTable, limit: float) -> float:
        """True top-1 of the best network within a bound on one cost.

        Raises:
            BudgetError: If no network keeps the bound.
        """
        front = self.front(table)
        within = bisect_right(front, limit * (1 + ROUNDING), key=lambda point: point[0])
        if not within:
            least = f"{front[0][0]:,.12g} {table.unit}"
            raise BudgetError(f"{limit:,.12g} is below what {self.space.name} can do; ask for {least} or more.")
        return front[within - 1][1]

    def regret(self, arch: Arch, table: CostTable, limit: float) -> float:
        """Points by which the best network within a bound is truly better than an architecture.

        Raises:
            ArtifactError: If the table lacks it.
            BudgetError: If no network keeps the bound.
        """
        return self.best(table, limit) - self.top1(arch)


def _read(path: str | Path, tables: Sequence[CostTable], text: str, row: object) -> tuple[Arch, float]:
    """An architecture and its true top-1.

    Args:
        path: The file, for errors.
        tables: What its costs have to be.
        text: The architecture.
        row: What the file says of it.

    Raises:
        ArtifactError: If it is of another space or has other costs, or the row holds something else.
    """
    space = tables[0].space
    try:
        arch, told = space.parse(text), checked(row, Trained)
    except ArchError:
        raise ArtifactError(
            f"{path} is not a truth table of {space.name}, which has no architecture {shown(text)}; name a table of "
            f"{space.name}."
        ) from None
    except ValueError as error:
        raise ArtifactError(f"{path} is not a truth table: {text}: {brief(error)}; {NEXT}.") from None
    for table in tables:
        own, other = round(table.measure(arch)), getattr(told, table.name)
        if own != other:
            raise ArtifactError(
                f"{path} has {other:,} {table.unit} for {text} where {space.name} has {own:,}; name a table of it."
            )
    return arch, fmean(told.top1)


def _every(space: SearchSpace) -> Iterator[Arch]:
    """All architectures of a space."""
    for picks in itertools.product(*(slot for layer in space.layers for slot in layer.allowed)):
        yield space.arch([picks[at : at + space.slots] for at in range(0, len(picks), space.slots)])
