"""An architecture as a small picture: a column per searched layer, a cell per group of depthwise channels.

Colors and digits are attributes: neither the Hub nor GitHub lets a picture have a style sheet. Its own white paper is
readable on a light and on a dark page.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from sgnas_zoo.spaces import Arch, SearchSpace

TEMPLATE = Path(__file__).parent / "templates" / "architecture.svg"
STEP, ROW, STAGE_GAP, MARGIN, HEAD, FOOT = 24, 18, 14, 8, 12, 18
"""In pixels: from column to column, from cell to cell, between stages, around everything, above the columns for marks,
and below them for the channels of a stage."""
PALE = "#eaedf1"
"""Fill of what is skipped."""
FILLS = (
    ("#bad8f0", "#000000"),
    ("#5c9cd4", "#000000"),
    ("#1a5296", "#ffffff"),
    ("#d8963c", "#000000"),
    ("#965a14", "#ffffff"),
)
"""Fills of cells, and the ink of the digits on them, by the numbers of the space, the smallest first."""


def draw(arch: Arch) -> bytes:
    """An SVG of an architecture, the same bytes for the same architecture.

    Columns are searched layers from input to output. Each cell is one group of depthwise channels with the side of its
    kernel, from the bottom up; pale cells are skipped. A triangle marks a layer that halves the resolution, a dot one
    that chose squeeze-and-excitation; a line parts two stages, with their channels below. A quantised convolution has a
    cell for the bits of its weights and one above for those of its input.
    """
    space = arch.space
    variants = (variant for layer in range(len(space.layers)) for variant in space.merge(layer).variants)
    rows = max(len(space.kind.cells(variant)) for variant in variants)
    lefts = [MARGIN + number * STEP + layer.stage * STAGE_GAP for number, layer in enumerate(space.layers)]
    base = MARGIN + HEAD + rows * ROW
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    picture = template.render(
        space=space.name,
        legend=space.kind.legend,
        arch=str(arch),
        width=lefts[-1] + STEP + MARGIN - 2,
        height=base + FOOT + MARGIN,
        base=base,
        columns=[_column(arch, number, left, base, rows) for number, left in enumerate(lefts)],
        stages=_stages(space, lefts),
    )
    return picture.encode()


def _column(arch: Arch, number: int, left: int, base: int, rows: int) -> dict[str, Any]:
    """One layer."""
    space, kind = arch.space, arch.space.kind
    known = sorted({cell for choice in space.choices for cell in kind.cells(choice.adds)})
    numbers = [cell for pick in arch.picks[number] for cell in kind.cells(space.choices[pick].adds)]
    cells = []
    for row in range(rows):
        text = numbers[row] if row < len(numbers) else None
        fill, ink = (PALE, "") if text is None else FILLS[known.index(text) % len(FILLS)]
        cells.append({"top": base - (row + 1) * ROW, "text": text, "fill": fill, "ink": ink})
    halves, marked = space.layers[number].stride == 2, kind.marked(space.variant(arch.picks[number]))
    return {"left": left, "cells": cells, "halves": halves, "marked": marked}


def _stages(space: SearchSpace, lefts: list[int]) -> list[dict[str, int]]:
    """Where stages begin, where their channels are written, and how many they are."""
    stages = []
    for _, members in groupby(range(len(lefts)), key=lambda number: space.layers[number].stage):
        numbers = list(members)
        first, last = lefts[numbers[0]], lefts[numbers[-1]]
        middle = (first + last + STEP - 2) // 2
        stages.append({"left": first - STAGE_GAP // 2 - 1, "middle": middle, "chs": space.layers[numbers[0]].out_chs})
    return stages
