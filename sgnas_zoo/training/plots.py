"""Learning curves beside the checkpoints, and plots of what was measured: one function draws all fronts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgnas_zoo.files import new_file

COLOURS = ("#332288", "#E69F00", "#117733", "#88CCEE", "#882255", "#CC6677", "#44AA99")
"""Safe for colour-blind readers, and of seven different luminances: they stay apart in grey."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 3)))
WIDTH = 50
"""Characters of a line beside the vertical axis."""
BUDGET, KNEE = "budget asked for", "knee"
"""What the legend calls the lines of budgets and the ring around a knee."""


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Args:
        points: (x, y) each.
        errors: Standard error of each y, drawn as a bar; none if empty.
        line: How points are joined, in their order: as a front that was found they are not.
        marked: Whether points have marks. Without them it is a line of reference, drawn in black.
    """

    points: Sequence[tuple[float, float]]
    errors: Sequence[float] = ()
    line: Literal["none", "straight", "steps"] = "none"
    marked: bool = True


@dataclass(frozen=True)
class Panel:
    """One plot of named series.

    Args:
        x: What runs along the horizontal axis, with its unit.
        y: The same for the vertical one.
        series: Series by name.
        budgets: What generated networks were asked for, in the unit of ``x``: an upright line each.
        knee: The point (x, y) to mark as the knee.
        title: What is above it.
        log: Whether the vertical axis is logarithmic.
    """

    x: str
    y: str
    series: Mapping[str, Series]
    budgets: Sequence[float] = ()
    knee: tuple[float, float] | None = None
    title: str = ""
    log: bool = False


def plot_panels(path: Path, panels: Sequence[Panel]) -> None:
    """Draw panels side by side, with one legend below them all: a series looks alike in all panels.

    The same panels give the same bytes: no date, path or random name is in the file.

    Args:
        path: PNG or SVG to write, as its suffix says.
        panels: At least one.

    Raises:
        ArtifactError: If it cannot be written.
    """
    figure = Figure(figsize=(7 * len(panels), 5), layout="constrained")
    names = dict.fromkeys(name for panel in panels for name, own in panel.series.items() if own.marked)
    styles = {name: _style(number) for number, name in enumerate(names)}
    legend: dict[str, Any] = {}
    for place, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        _draw(axes, panel, styles)
        handles, labels = axes.get_legend_handles_labels()
        legend = {**dict(zip(labels, handles, strict=True)), **legend}
    columns = 2 * len(panels)  # a third would not fit into the width
    figure.legend(
        legend.values(), legend.keys(), loc="outside lower center", ncols=columns, fontsize="small", frameon=False
    )
    _save(figure, path)


def _draw(axes: Axes, panel: Panel, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw a panel: budgets behind all else, then series from the last to the first, the knee in front."""
    for number, budget in enumerate(panel.budgets):
        label = BUDGET if number == 0 else None
        axes.axvline(budget, color="0.7", linewidth=0.8, linestyle=(0, (2, 2)), zorder=0, label=label)
    for number, (name, own) in enumerate(panel.series.items()):
        style = dict(styles[name] if own.marked else {"color": "black", "linestyle": "-", "linewidth": 1.2})
        if own.line == "none":
            style["linestyle"] = "none"
        if own.line == "steps":
            style["drawstyle"] = "steps-post"
        xs, ys = [x for x, _ in own.points], [y for _, y in own.points]
        axes.errorbar(
            xs,
            ys,
            yerr=[*own.errors] or None,
            capsize=2.5,
            elinewidth=0.9,
            label=name,
            zorder=4 - 0.1 * number,
            **style,
        )
    if panel.knee:
        ring: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 15, "markerfacecolor": "none"}
        axes.plot(*panel.knee, color="black", markeredgewidth=1.4, label=KNEE, zorder=5, **ring)
        paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}
        axes.annotate(KNEE, panel.knee, (12, -18), textcoords="offset points", fontweight="bold", bbox=paper, zorder=6)
    axes.grid(axis="y", alpha=0.3)
    axes.set(
        xlabel=panel.x, ylabel=textwrap.fill(panel.y, WIDTH), title=panel.title, yscale="log" if panel.log else "linear"
    )


def _style(number: int) -> dict[str, Any]:
    """Colour, mark and line of a series by its number: each tells it from the others alone."""
    at = number % len(COLOURS)
    return {
        "color": COLOURS[at], "marker": MARKERS[at], "linestyle": LINES[at], "linewidth": 1.2, "markersize": 6,
        "markeredgecolor": "black", "markeredgewidth": 0.5,
    }  # fmt: skip


def plot_curves(history: Sequence[Mapping[str, float]], path: Path, x: str = "epoch") -> None:
    """Draw every figure of a history over ``x``, losses above and all else below.

    Args:
        history: One mapping of plain numbers per point; names may be missing in some.
        path: PNG to write.
        x: The name that runs along the horizontal axis.
    """
    names = sorted({name for row in history for name in row} - {x})
    groups = [[name for name in names if "loss" in name], [name for name in names if "loss" not in name]]
    groups = [group for group in groups if group]
    figure = Figure(figsize=(7, 3 * max(len(groups), 1)), layout="constrained")
    for place, group in enumerate(groups, start=1):
        axes = figure.add_subplot(len(groups), 1, place)
        for name in group:
            points = [(row[x], row[name]) for row in history if name in row]
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.grid(alpha=0.3)
        axes.set_xlabel(x)
        axes.legend(fontsize="small")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, without what differs from run to run."""
    kind = path.suffix if path.suffix == ".svg" else ".png"
    nothing = {"Date": None, "Creator": None} if kind == ".svg" else {"Software": None}
    with (
        new_file(path, force=True, suffix=kind) as staging,
        matplotlib.rc_context({"svg.hashsalt": "sgnas_zoo"}),
    ):
        figure.savefig(staging, dpi=120, metadata=nothing)
