"""Learning curves beside the checkpoints, and plots of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure  # the backend comes first


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
    figure.savefig(path, dpi=120)


def plot_points(
    path: Path, x: str, y: str, series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> None:  # fmt: skip
    """Draw named series of points.

    Args:
        path: PNG to write.
        x: What runs along the horizontal axis, with its unit.
        y: The same for the vertical one.
        series: Horizontal and vertical values by name.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, (horizontal, vertical) in series.items():
        axes.plot(horizontal, vertical, "o", alpha=0.8, label=name)
    axes.grid(alpha=0.3)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
