"""``generate_front``: what a notebook asks for, and ``sgnas-zoo front`` writes down."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sgnas_zoo.api.answer import Generated, answer
from sgnas_zoo.api.profiles import ProfileLike, check_here, stopwatch
from sgnas_zoo.api.request import Pretrained, parse
from sgnas_zoo.api.resolve import Resolved, resolve
from sgnas_zoo.costs import BUDGETS, COSTS, CostTable, Precision
from sgnas_zoo.errors import BudgetError, PretrainedError, SettingError
from sgnas_zoo.search.budgets import check_budget_name, plain
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.knee import knee
from sgnas_zoo.search.ranges import check_range
from sgnas_zoo.spaces import SPACES, FormName
from sgnas_zoo.training.data.loaders import check_classes
from sgnas_zoo.training.data.sources import LabelledImages, Source, load_images
from sgnas_zoo.training.fronts.verticals import ERROR, PREDICTED, TOP1, measured, predicted, second_cost

MOST_POINTS = 1000
"""More budgets than anybody looks at."""
MEASURED_MS = "measured_ms"
"""What a record tells of a network's latency, where it was measured."""


def generate_front(space: str, **options: Any) -> dict[str, Any]:
    """Answer budgets that are spread over the range of a cost, with one pass of the generator.

    Args:
        space: Name of the search space.
        options: ``cost``, name of a budget (by default the one that the space is about), ``points`` (20 budgets),
            ``pretrained`` (True, a tag, a folder or a repo: networks are then those that inherit its weights),
            ``generator``, ``profile`` (for latency), ``measure`` (False; True measures latencies on this machine),
            ``dataset`` (Hub id or folder: top-1 of inherited weights is then measured on its test split), ``images``
            (2000 of it at most), ``image_column``, ``label_column``, ``workers`` (2 decoding processes),
            ``form``, ``resolution`` and ``precision``, as in ``generate``.

    Returns:
        As plain data: ``points`` by rising budget, each with ``requested``, ``arch``, every cost, and ``top1`` with its
        ``standard_error``, or ``predicted_top1``, in percent, where either is known; ``knee``, the index of one of
        them or None; ``vertical``, what the front is drawn over its cost; ``units``; and what it was made with.

    Raises:
        ZooError: If something is not there, does not fit together, or has no range to spread over.
    """
    return plan_front(space, **options).run()


@dataclass(frozen=True)
class PlannedFront:
    """A front with all that it needs, checked and loaded.

    Args:
        resolved: Space, generator, conditions and supernet.
        cost: Name of the budget.
        table: The cost.
        points: How many budgets.
        images: What top-1 is measured on, if anything.
        workers: Decoding processes.
    """

    resolved: Resolved
    cost: str
    table: CostTable
    points: int
    images: LabelledImages | None = None
    workers: int = 2

    def run(self) -> dict[str, Any]:
        """Generate, look at what is known of each network, and find the knee."""
        resolved, limits = self.resolved, self.limits()
        request = replace(resolved.request, budgets={self.cost: limits})
        answers = answer(replace(resolved, request=replace(request, measure=False)))
        archs = [each.arch for each in answers]
        if self.images is not None:
            upward = measured(resolved, archs, self.images, self.workers)
        else:
            upward = predicted(resolved, archs, self.table) or second_cost(resolved, self.cost)
        rows = [self._row(limit, each) for limit, each in zip(limits, answers, strict=True)]
        if request.measure and resolved.profile is not None:
            time = stopwatch(resolved.conditions, resolved.profile)
            timings = [time(arch) for arch in archs]
            rows = [{**row, MEASURED_MS: round(one.median_ms, 3), **one.record()}
                    for row, one in zip(rows, timings, strict=True)]  # fmt: skip
        for name, values in upward.columns.items():
            rows = [{**row, name: value} for row, value in zip(rows, values, strict=True)]
        across = MEASURED_MS if request.measure else self.table.name
        return {
            "space": resolved.space.name,
            "cost": self.cost,
            "range": [plain(float(self.table.minimum)), plain(float(self.table.maximum))],
            "horizontal": across,
            "vertical": {"name": upward.name, "told": upward.told, "scale": upward.scale},
            "points": rows,
            "knee": _knee(rows, across, upward.name),
            "recorded": list(upward.recorded),
            "units": _units(rows),
            **self._made_with(),
        }

    def limits(self) -> list[float]:
        """The budgets: evenly spread, both ends of the range among them; whole numbers where costs are counts."""
        spread = np.linspace(self.table.minimum, self.table.maximum, self.points)
        return [float(limit) for limit in (spread if BUDGETS[self.cost].profiled else spread.round())]

    def _row(self, limit: float, each: Generated) -> dict[str, Any]:
        """A point: what was asked for, and what came out."""
        own = {self.table.name: plain(float(self.table.measure(each.arch)))}
        return {"requested": plain(limit), "arch": str(each.arch), **each.costs, **own}

    def _made_with(self) -> dict[str, Any]:
        """What the networks hold for, and come from."""
        resolved, trained = self.resolved, self.resolved.trained
        assert resolved.generator is not None
        timed = {} if resolved.profile is None else {"latency_conditions": asdict(resolved.profile.setup)}
        return {
            "conditions": asdict(resolved.conditions),
            **timed,
            "generator": resolved.generator.source.named(),
            "weights": None if trained is None else {**trained.named_origin(), "tag": resolved.tag},
            "dataset": None if self.images is None else dict(self.images.record),
        }


def plan_front(
    space: str, *, cost: str | None = None, points: int = 20, pretrained: Pretrained = False,
    generator: ArchGenerator | str | Path | None = None, profile: ProfileLike | None = None, measure: bool = False,
    dataset: str | Path | None = None, images: int = 2000, image_column: str | None = None,
    label_column: str | None = None, workers: int = 2, form: FormName | None = None, resolution: int | None = None,
    precision: Precision | None = None,
) -> PlannedFront:  # fmt: skip
    """Put a front together, and refuse what cannot be made before anything is generated; see ``generate_front``."""
    cost = SPACES[space].budget if cost is None else cost
    check_budget_name(cost)
    _check(cost, points, pretrained, profile, measure, dataset)
    conditions = {"resolution": resolution, "precision": precision}
    asked = {"space": space, "form": form, "generator": generator, "profile": profile, "measure": measure, **conditions}
    request = replace(parse(asked, pretrained=pretrained), budgets={cost: [math.inf]})  # amounts follow from the range
    resolved = resolve(request)
    priced = resolved.profile if BUDGETS[cost].profiled else COSTS[BUDGETS[cost].cost]
    assert priced is not None
    table = priced.table(resolved.space, resolved.conditions)
    check_range(table, table.maximum)
    if table.minimum == table.maximum:
        same, budget = BUDGETS[cost].in_words(table.minimum), resolved.space.budget
        raise BudgetError(f"Every network of {space} has {same}; choose another --cost, such as {budget}.")
    if measure and resolved.profile is not None:
        check_here(resolved.profile)
    held = None if dataset is None else _images(resolved, Source(str(dataset), image_column, label_column), images)
    return PlannedFront(resolved, cost, table, points, held, workers)


def _check(
    cost: str, points: int, pretrained: Pretrained, profile: ProfileLike | None, measure: bool,
    dataset: str | Path | None,
) -> None:  # fmt: skip
    """Refuse what does not go together, before anything is loaded.

    Raises:
        SettingError: For a number of points that makes no front.
        BudgetError: For a latency without a profile, or what is about latency beside another cost.
        PretrainedError: For a dataset without weights.
    """
    if not 2 <= points <= MOST_POINTS:
        raise SettingError(f"A front takes 2 to {MOST_POINTS:,} points, not {points}; leave --points out for 20.")
    timed = BUDGETS[cost].profiled
    if timed and profile is None:
        raise BudgetError(
            f"A front over {cost} needs a device profile; add --profile FILE, or make one with "
            "`sgnas-zoo profile --output FILE`."
        )
    if not timed and (profile is not None or measure):
        raise BudgetError("--profile and --measure are about a latency; add --cost latency, or leave them out.")
    if dataset is not None and not pretrained:
        raise PretrainedError("--dataset measures inherited weights; add --pretrained, or leave it out.")


def _images(resolved: Resolved, source: Source, limit: int) -> LabelledImages:
    """The images of a test split that top-1 is measured on, as many as wanted.

    Raises:
        DataError: If it cannot be opened, or has other classes than the weights.
    """
    trained = resolved.trained
    assert trained is not None
    images = load_images(Source.of(source, trained.dataset), "test", limit=limit)
    check_classes(images, trained.supernet.num_classes, "supernet")
    if images.classes != trained.classes:
        warnings.warn(
            "The supernet's classes have other names than the dataset's; see that they are the same.", stacklevel=3
        )
    return images


def _knee(rows: Sequence[Mapping[str, Any]], across: str, upward: str) -> int | None:
    """Index of the knee among all points; None where the accuracy is unknown: a front of two costs has no knee."""
    known = [at for at, row in enumerate(rows) if upward in (TOP1, PREDICTED) and row[upward] is not None]
    found = knee([(rows[at][across], rows[at][upward]) for at in known])
    return None if found is None else known[found]


def _units(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The unit of every number of a point but ``requested``, which is in that of the cost."""
    units = {COSTS[name].name: COSTS[name].unit for name in COSTS}
    units |= {"latency_ms": "ms", MEASURED_MS: "ms", TOP1: "%", PREDICTED: "%", ERROR: "points of top-1"}
    return {name: units[name] for name in rows[0] if name in units}
