"""What the page shows of an answer, as HTML and SVG: nothing is loaded from elsewhere, and all text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.demo.answers import Answer, Asked, front
from sgnas_zoo.demo.sliders import SLIDERS
from sgnas_zoo.hub.cards.pictures import draw
from sgnas_zoo.training.classification import Guess
from sgnas_zoo.training.fronts.verticals import PREDICTED, axis

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 400, 230, 44, 12, 14, 42
"""Of the picture of a front, in pixels: all of it, and the margins round its axes."""
TICKS = 5
"""About as many marks as an axis has."""


class Scale(NamedTuple):
    """From values to pixels along one axis."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        """Place of a value; one beyond the axis lies at its end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.first + share * (self.last - self.first), 1)

    def ticks(self) -> list[float]:
        """Round values along the axis."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** (len(f"{int(rough)}") - 1) if rough >= 1 else 0.1
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.8)
        first = int(-(-self.low // step))
        return [round(number * step, 6) for number in range(first, int(self.high // step) + 1)]


def architecture(answer: Answer) -> str:
    """The architecture layer by layer, with what its marks mean."""
    network = answer.network
    drawn = draw(network.arch).decode()
    return _render("architecture.html", drawn=drawn, legend=network.arch.space.kind.legend, arch=str(network.arch))


def costs(answer: Answer) -> str:
    """Each cost beside its budget, and the predicted latency on each device with a profile."""
    rows = []
    for name in SLIDERS:
        budget, amount = BUDGETS[name], answer.network.costs.get(BUDGETS[name].cost)
        if amount is not None:
            limit = answer.asked.budgets.get(name)
            rows.append({"budget": budget, "amount": amount, "limit": limit, "share": limit and amount / limit})
    return _render("costs.html", rows=rows, latencies=answer.latencies)


def place(answer: Answer) -> str:
    """The network on the front of its space: predicted top-1 over MACs."""
    record = front(answer.asked.offer)
    budget, vertical = BUDGETS[SLIDERS[0]], record["vertical"]
    points = [(row[budget.cost] / budget.scale, row[vertical["name"]]) for row in record["points"]]
    known = [(x, y / vertical["scale"]) for x, y in points if y is not None]
    low, high = (end / budget.scale for end in record["range"])
    across = Scale(low, high, LEFT, WIDTH - RIGHT)
    upward = _upward([y for _, y in known])
    is_top1 = vertical["name"] == PREDICTED
    own = answer.top1 if is_top1 else answer.network.costs[vertical["name"]] / vertical["scale"]
    mine = answer.network.costs[budget.cost] / budget.scale
    knee = record["knee"]
    return _render(
        "front.svg",
        offer=answer.asked.offer.name,
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        bottom=HEIGHT - BOTTOM,
        right=WIDTH - RIGHT,
        top=TOP,
        across=across,
        upward=upward,
        known=known,
        knee=None if knee is None else (points[knee][0], points[knee][1]),
        mine=mine,
        own=own,
        limit=answer.asked.budgets[SLIDERS[0]] / budget.scale,
        horizontal=axis(SLIDERS[0]),
        vertical=vertical["told"],
        is_top1=is_top1,
    )


def names(asked: Asked, guesses: Sequence[Guess], preview: bytes) -> str:
    """What a network takes a picture for."""
    picture = base64.b64encode(preview).decode()
    return _render("names.html", offer=asked.offer, guesses=guesses, picture=picture)


def problem(text: str) -> str:
    """A message beside what it is about; nothing without one."""
    return _render("problem.html", text=text) if text else ""


def style() -> str:
    """The page's own style sheet."""
    return (TEMPLATES / "style.css").read_text(encoding="utf-8")


def _upward(values: Sequence[float]) -> Scale:
    """The axis upward, with some room at both ends."""
    low, high = min(values), max(values)
    room = 0.1 * (high - low) or 1.0
    return Scale(low - room, high + room, HEIGHT - BOTTOM, TOP)


def _render(name: str, **told: Any) -> str:
    return _environment().get_template(name).render(told)


TEMPLATES = Path(__file__).parent / "templates"


@lru_cache
def _environment() -> Environment:
    filters: Mapping[str, Any] = {"as_written": lambda amount, budget: budget.shown(amount)}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(filters)
    return environment
