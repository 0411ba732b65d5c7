"""What a supernet and its generator are measured against: random networks, and networks trained from scratch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from sgnas_zoo.costs import Budget, CostTable
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import read_config
from sgnas_zoo.hub.artifacts import CONFIG
from sgnas_zoo.hub.cards.text import Fields
from sgnas_zoo.search.bounds import Bound
from sgnas_zoo.search.decode import decode
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.spaces import Arch
from sgnas_zoo.training.plots import Panel, Series, plot_panels
from sgnas_zoo.training.runs import METRICS


def random_archs(table: CostTable, most: float, count: int, seed: int) -> list[Arch]:
    """Random architectures that spend a budget as generated ones do: random logits, decoded under it."""
    noise = torch.Generator().manual_seed(seed * 1_000_003 + round(most))
    scores = log_probs(table.space, torch.randn(count, *table.space.shape, generator=noise)).double().numpy()
    return [answer.arch for answer in decode(scores, [Bound(table, most)])] if count else []


def read_retrained(folder: Path, space: str) -> dict[str, Any]:
    """Architecture and top-1 of a network that retrain.py trained."""
    config, metrics = (Fields(read_config(folder / name), f"{folder / name}") for name in (CONFIG, METRICS))
    stated = config.part("model_args")
    if stated.text("space") != space:
        raise ArtifactError(f"{folder} holds a network of {stated.text('space')}, not {space}; name others.")
    arch, top1 = stated.text("arch"), metrics.number("top1", most=100)
    if arch is None or top1 is None:
        raise ArtifactError(f"{folder} tells no architecture or no top-1; name a folder that retrain.py filled.")
    return {"arch": arch, "top1": top1, "epochs": metrics.number("epochs")}


def plot_evidence(folder: Path, evidence: Mapping[str, Any], budget: Budget) -> None:
    """Draw ``budgets.png`` and ``front.png`` from what ``recipes/measure_supernet.py`` recorded, and from that alone.

    Args:
        folder: Where they go.
        evidence: The record, ``evaluation.json``.
        budget: What the budgets of the record bound.
    """
    rows, scale, unit = evidence["budgets"], budget.scale, budget.unit
    asked = [row["requested"] / scale for row in rows]
    achieved = [row["achieved"] / scale for row in rows]
    images = evidence.get("images") or evidence["dataset"].get("rows")
    bars = [binomial_error(row["top1"], images) for row in rows] if images else []
    series = {"generated": Series([*zip(achieved, (row["top1"] for row in rows), strict=True)], bars, "straight")}
    if count := len(rows[0]["random_top1"]):
        means = [*zip(asked, (fmean(row["random_top1"]) for row in rows), strict=True)]
        series[f"random within the budget, mean of {count}"] = _random(means, [row["random_top1"] for row in rows])
    front = Panel(unit, "top-1 with inherited weights, % (± standard error)", series, asked)
    spent = {
        "generated": Series([*zip(asked, achieved, strict=True)]),
        "achieved = requested": Series([(asked[0],) * 2, (asked[-1],) * 2], line="straight", marked=False),
    }
    plot_panels(folder / "front.png", [front])
    plot_panels(folder / "budgets.png", [Panel(f"requested, {unit}", f"achieved, {unit}", spent)])


def _random(means: Sequence[tuple[float, float]], found: Sequence[Sequence[float]]) -> Series:
    """Means over random networks, each with its standard error where there are several."""
    several = all(len(own) > 1 for own in found)
    return Series(means, [stdev(own) / math.sqrt(len(own)) for own in found] if several else [], "straight")


def binomial_error(top1: float, images: float) -> float:
    """Standard error of a share of images, both in percent: that of a binomial distribution."""
    return math.sqrt(top1 * (100 - top1) / images)
