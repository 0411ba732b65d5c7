"""What a front is drawn over its cost: accuracy that was measured, or predicted from a record, or else another cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from sgnas_zoo.api.resolve import Resolved
from sgnas_zoo.api.supernets import is_place
from sgnas_zoo.costs import BUDGETS, COSTS, CostTable, counted_tables
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import read_config
from sgnas_zoo.hub.artifacts import Artifact
from sgnas_zoo.hub.cards import EVALUATION
from sgnas_zoo.hub.cards.text import Fields
from sgnas_zoo.search.budgets import plain
from sgnas_zoo.spaces import Arch
from sgnas_zoo.training.data.sources import LabelledImages
from sgnas_zoo.training.evidence import binomial_error
from sgnas_zoo.training.runs import make_accelerator
from sgnas_zoo.training.searching.sharing import InheritedAccuracy
from sgnas_zoo.zoo import published, supernet_entries

TOP1, PREDICTED, ERROR = "top1", "predicted_top1", "standard_error"
"""What a record tells of a network's accuracy, in percent: measured, or predicted from the supernet's record."""


@dataclass(frozen=True)
class Vertical:
    """What a front is drawn over its cost.

    Args:
        name: Name of the entry of a point: "top1", "predicted_top1", or that of a cost.
        told: What it is, with its unit, for the axis.
        scale: Plain amount of that unit.
        columns: Entries of all points, by name; None where nothing is known.
        recorded: Networks of the supernet's record, from which the others were predicted.
    """

    name: str
    told: str
    scale: float = 1.0
    columns: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    recorded: Sequence[Mapping[str, Any]] = ()


def measured(resolved: Resolved, archs: Sequence[Arch], images: LabelledImages, workers: int) -> Vertical:
    """Top-1 of inherited weights in percent with its binomial standard error, each network measured once.

    Args:
        resolved: With the supernet.
        archs: The networks.
        images: What to measure on.
        workers: Decoding processes.
    """
    trained, accelerator = resolved.trained, make_accelerator()
    assert trained is not None
    trained.supernet.to(accelerator.device)
    score = InheritedAccuracy(trained, images, accelerator, workers=workers)
    order = sorted(dict.fromkeys(archs), key=lambda arch: arch.picks)  # what begins alike is measured together
    found = {arch: score.measure(arch) for arch in tqdm(order, "networks", mininterval=1)}
    accelerator.end_training()
    count, top1 = found[archs[0]]["images"], [found[arch]["top1"] for arch in archs]
    columns = {TOP1: top1, ERROR: [binomial_error(each, count) for each in top1]}
    told = f"top-1 at {trained.resolution} px, inherited weights, {count:,} images, % (± standard error)"
    return Vertical(TOP1, told, columns=columns)


def predicted(resolved: Resolved, archs: Sequence[Arch], table: CostTable) -> Vertical | None:
    """Top-1 in percent, interpolated between networks of the supernet's record; None without such a record.

    It is interpolated over the cost that the space is about. Nothing is predicted for a network that is cheaper or
    dearer than all of the record.

    Args:
        resolved: With the supernet, or without one.
        archs: The networks.
        table: The cost that the front is over.
    """
    space, trained, record = resolved.space, resolved.trained, recorded_top1(resolved)
    if trained is None or len(record) < 2:
        return None
    own = COSTS[BUDGETS[space.budget].cost].table(space, resolved.conditions)
    amounts, values = zip(*sorted((own.measure(arch), top1) for arch, top1, _ in record), strict=True)
    found = [
        float(np.interp(amount, amounts, values)) if amounts[0] <= amount <= amounts[-1] else None
        for amount in map(own.measure, archs)
    ]
    rows = [
        {"arch": str(arch), table.name: plain(float(table.measure(arch))), TOP1: top1, ERROR: error}
        for arch, top1, error in record
    ]
    told = f"top-1 at {trained.resolution} px, predicted by {own.unit} from the supernet's record, %"
    return Vertical(PREDICTED, told, columns={PREDICTED: found}, recorded=rows)


def second_cost(resolved: Resolved, cost: str) -> Vertical:
    """Another cost that differs between networks, parameters first, where no accuracy is known.

    Args:
        resolved: With space and conditions.
        cost: Name of the budget that the front is over.
    """
    tables = counted_tables(resolved.space, resolved.conditions)
    names = [name for name in dict.fromkeys(("params", *tables)) if name != cost]
    name = next(name for name in names if tables[name].minimum < tables[name].maximum)
    budget = BUDGETS[name]
    return Vertical(budget.cost, f"{axis(name)} (no accuracy is known)", budget.scale)


def recorded_top1(resolved: Resolved) -> list[tuple[Arch, float, float | None]]:
    """Networks of a supernet whose top-1 its ``evaluation.json`` tells: architecture, top-1 in percent, standard error.

    Empty where networks inherit nothing, or there is no such record.

    Raises:
        ArtifactError: If it is damaged.
        ArchError: If it is of another space.
    """
    if resolved.trained is None:
        return []
    place: Any = resolved.request.pretrained
    if not is_place(place):
        named = resolved.space.name, resolved.tag
        place = next(published(e.supernet) for e in supernet_entries() if (e.space, e.tag) == named and e.supernet)
    try:
        file = Artifact(place, resolved.request.access).file(EVALUATION)
    except ArtifactError:  # a repo without one
        return []
    if not file.exists():
        return []
    told = Fields(read_config(file), EVALUATION)
    images = told.number("images") or told.part("dataset").number("rows")
    found = []
    for part in told.parts("budgets"):
        text, top1 = part.text("arch"), part.number("top1", most=100)
        if text is not None and top1 is not None:
            error = binomial_error(top1, images) if images else None
            found.append((resolved.space.parse(text), top1, error))
    return found


def axis(name: str) -> str:
    """A budget on an axis, with its unit: "FLOPs (MACs), M"."""
    budget = BUDGETS[name]
    return f"{budget.title.partition(',')[0]}, {budget.unit.partition(' ')[0]}"
