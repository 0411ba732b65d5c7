"""What a front looks like, made from its record alone: a plot, a table for a terminal, and one for spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.files import write_file, write_whole
from sgnas_zoo.folders import among_others
from sgnas_zoo.training.fronts.verticals import ERROR, PREDICTED, TOP1, axis
from sgnas_zoo.training.outputs import reads_as
from sgnas_zoo.training.plots import Panel, Series, plot_panels

RECORD, TABLE, PLOTS = "front.json", "front.csv", ("front.png", "front.svg")
FILES = (RECORD, TABLE, *PLOTS)

Record = Mapping[str, Any]
"""What ``generate_front`` returns."""


def own_files(folder: Path) -> tuple[str, ...]:
    """Files of a front that was written into a folder before; a ``front.json`` of a search is none."""
    return FILES if reads_as(folder / RECORD, "cost", "points", "knee") else ()


def write_front(output: Path, record: Record) -> None:
    """Write a front into a folder: record, table and plots appear together; those of an earlier front are replaced.

    Raises:
        ArtifactError: If a file is in the way that is not of a front, or the disk refuses. Then all is as it was.
    """
    with among_others(output, replacing=own_files(output)) as staging:
        write_whole(staging / RECORD, record)
        write_file(staging / TABLE, front_csv(record))
        for name in PLOTS:
            plot_panels(staging / name, [front_panel(record)])


def front_csv(record: Record) -> str:
    """Every point as a row, in plain units; the knee has a 1."""
    columns = ["point", "requested", *(name for name in record["points"][0] if name not in ("requested", "arch"))]
    text = StringIO()
    writer = csv.DictWriter(text, [*columns, "knee", "arch"], lineterminator="\n")
    writer.writeheader()
    for at, point in enumerate(record["points"]):
        writer.writerow({"point": at + 1, "knee": int(at == record["knee"]), **point})
    return text.getvalue()


def front_panel(record: Record) -> Panel:
    """The plot of a front: what is known of its networks over their cost, the budgets asked for, and the knee."""
    budget, upward = BUDGETS[record["cost"]], record["vertical"]
    across = record["horizontal"]
    points = [row for row in record["points"] if row[upward["name"]] is not None]
    points.sort(key=lambda row: row[across])

    def place(row: Record, y: str) -> tuple[float, float]:
        return row[across] / budget.scale, row[y] / upward["scale"]

    errors = [row[ERROR] for row in points if row.get(ERROR) is not None]
    series = {"generated": Series([place(row, upward["name"]) for row in points], errors, "straight")}
    if (recorded := record["recorded"]) and across == budget.cost:  # nobody has measured their latency
        bars = [row[ERROR] for row in recorded if row[ERROR] is not None]
        series["measured, in the record (± standard error)"] = Series([place(row, TOP1) for row in recorded], bars)
    knee = None if record["knee"] is None else place(record["points"][record["knee"]], upward["name"])
    asked = [row["requested"] / budget.scale for row in record["points"]]
    how = {"measured_ms": "measured ", "latency_ms": "predicted "}.get(across, "")
    return Panel(how + axis(record["cost"]), upward["told"], series, asked, knee, title=_conditions(record))


def _conditions(record: Record) -> str:
    """What the costs are stated for, in words."""
    stated = record["conditions"]
    told = f"{record['space']}, {stated['resolution']} px, {stated['num_classes']} classes"
    if record["cost"] in ("memory", "flash"):
        told += f", {stated['precision']}"
    if timed := record.get("latency_conditions"):
        told += f", {timed['runtime']}, batch {timed['batch_size']}"
    return told


def front_lines(record: Record) -> list[str]:
    """A table for a terminal, and what the knee is."""
    budget, upward = BUDGETS[record["cost"]], record["vertical"]["name"]
    others = [name for name in BUDGETS if BUDGETS[name].cost in record["points"][0] and name != record["cost"]][:1]
    shown = {"requested": budget, budget.cost: budget, **{BUDGETS[name].cost: BUDGETS[name] for name in others}}
    heads = [f"budget, {budget.unit}", "achieved", *(BUDGETS[name].unit for name in others)]
    scales = [own.scale for own in shown.values()]
    if "measured_ms" in record["points"][0]:
        shown, heads, scales = {**shown, "measured_ms": budget}, [*heads, "measured, ms"], [*scales, 1.0]
    accuracy = {TOP1: "top-1, %", PREDICTED: "predicted top-1, %"}.get(upward)
    rows = [["", *heads, *([accuracy] if accuracy else []), "", "architecture"]]
    for at, row in enumerate(record["points"]):
        told = [f"{row[name] / scale:,.4g}" for name, scale in zip(shown, scales, strict=True)]
        if accuracy:
            error = f" ± {row[ERROR]:.2f}" if row.get(ERROR) is not None else ""
            told.append("-" if row[upward] is None else f"{row[upward]:.2f}{error}")
        rows.append([f"{at + 1}", *told, "knee" if at == record["knee"] else "", row["arch"]])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]])
        for row in rows
    ]
    return [*table, _knee_line(record)]


def _knee_line(record: Record) -> str:
    """What the knee is, or why there is none."""
    upward, at = record["vertical"]["name"], record["knee"]
    if at is not None:
        row, budget = record["points"][at], BUDGETS[record["cost"]]
        how = "predicted top-1" if upward == PREDICTED else "top-1"
        return f"Knee: {budget.in_words(row[budget.cost])}, {row[upward]:.2f} % {how}, {record['space']} {row['arch']}"
    if upward in (TOP1, PREDICTED):
        return "No knee: fewer than three networks are on the front, or it does not bend; ask for more --points."
    more = "add --dataset DATA" if record["weights"] else "add --pretrained, and --dataset DATA to measure it"
    return f"No knee: the accuracy of these networks is not known; {more}."
