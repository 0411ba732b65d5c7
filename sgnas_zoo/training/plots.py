"""Learning curves beside the checkpoints, and plots of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure  # the backend comes first

from sgnas_zoo.files import new_file


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


@dataclass(frozen=True)
class Panel:
    """One plot of named series.

    Args:
        x: What runs along the horizontal axis, with its unit.
        y: The same for the vertical one.
        series: Points by name.
        log: Whether the vertical axis is logarithmic.
        fronts: Points by name that are drawn as the steps of a line.
    """

    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    log: bool = False
    fronts: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)


def plot_panels(path: Path, panels: Sequence[Panel]) -> None:
    """Draw panels side by side into a PNG; a series has the same colour in all."""
    figure = Figure(figsize=(7 * len(panels), 4.5), layout="constrained")
    for place, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        for name, points in panel.series.items():
            axes.plot([x for x, _ in points], [y for _, y in points], "o", alpha=0.8, label=name)
        for name, points in panel.fronts.items():
            axes.step([x for x, _ in points], [y for _, y in points], "k-", where="post", linewidth=1, label=name)
        axes.grid(alpha=0.3)
        axes.set_xlabel(panel.x)
        axes.set_ylabel(panel.y)
        if panel.log:
            axes.set_yscale("log")
        axes.legend(fontsize="small")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with new_file(path, force=True, suffix=".png") as staging:
        figure.savefig(staging, dpi=120)
