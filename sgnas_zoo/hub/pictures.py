"""An architecture as a small picture: a column per searched layer, a cell per group of depthwise channels."""

from __future__ import annotations

import io
from itertools import groupby

from PIL import Image, ImageDraw

from sgnas_zoo.spaces import Arch, SearchSpace

CELL, GAP, STAGE_GAP, MARGIN = (22, 16), 2, 14, 8
"""Sizes in pixels: of a cell, between cells, between stages, around everything."""
HEAD, FOOT = 12, 18
"""Height above the columns, for marks, and below them, for the channels of a stage."""
COLORS = (
    (255, 255, 255), (234, 237, 241), (60, 64, 72),  # paper, what is skipped, ink
    (186, 216, 240), (92, 156, 212), (26, 82, 150), (216, 150, 60), (150, 90, 20),  # kernels, the smallest first
)  # fmt: skip
PAPER, PALE, INK, FIRST = 0, 1, 2, 3
"""Places in the palette; the colors of kernels start at ``FIRST``."""
DARK = (5, 7)
"""Colors that digits are white on."""
DIGITS = ("75557", "26227", "71747", "71717", "55711", "74717", "74757", "71222", "75757", "75717")
"""Digits of 3 x 5 pixels, one row per figure: its bits are the pixels. A font would differ between builds of Pillow."""


def draw(arch: Arch) -> bytes:
    """A PNG of an architecture, the same bytes for the same architecture.

    Columns are searched layers from input to output. Each cell is one group of depthwise channels with the side of its
    kernel, from the bottom up; pale cells are skipped. A triangle marks a layer that halves the resolution, a dot one
    that chose squeeze-and-excitation; a line parts two stages, with their channels below. A quantised convolution has a
    cell for the bits of its weights and one above for those of its input.
    """
    space = arch.space
    variants = (variant for layer in range(len(space.layers)) for variant in space.merge(layer).variants)
    cells = max(len(space.kind.cells(variant)) for variant in variants)
    lefts = _lefts(space)
    base = MARGIN + HEAD + cells * (CELL[1] + GAP)
    image = Image.new("P", (lefts[-1] + CELL[0] + MARGIN, base + FOOT + MARGIN), PAPER)
    image.putpalette([part for color in COLORS for part in color])
    pen = ImageDraw.Draw(image)
    for number, left in enumerate(lefts):
        _column(pen, arch, number, left, base, cells)
    for stage, members in groupby(range(len(lefts)), key=lambda number: space.layers[number].stage):
        numbers = list(members)
        left, right = lefts[numbers[0]], lefts[numbers[-1]] + CELL[0]
        _write(pen, space.layers[numbers[0]].out_chs, (left + right) // 2, base + FOOT // 2, INK)
        if stage:
            middle = left - (STAGE_GAP + GAP) // 2
            pen.line((middle, MARGIN, middle, base + FOOT), fill=PALE, width=2)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=False, compress_level=9)
    return file.getvalue()


def _lefts(space: SearchSpace) -> list[int]:
    """Where the columns begin."""
    steps = CELL[0] + GAP
    return [MARGIN + number * steps + layer.stage * STAGE_GAP for number, layer in enumerate(space.layers)]


def _column(pen: ImageDraw.ImageDraw, arch: Arch, number: int, left: int, base: int, cells: int) -> None:
    """Draw one layer."""
    space = arch.space
    kind = space.kind
    sides = sorted({cell for choice in space.choices for cell in kind.cells(choice.adds)})
    kernels = [cell for pick in arch.picks[number] for cell in kind.cells(space.choices[pick].adds)]
    for place in range(cells):
        top = base - (place + 1) * (CELL[1] + GAP)
        active = place < len(kernels)
        color = FIRST + sides.index(kernels[place]) % (len(COLORS) - FIRST) if active else PALE
        pen.rectangle((left, top, left + CELL[0] - 1, top + CELL[1] - 1), fill=color)
        if active:
            shade = PAPER if color in DARK else INK
            _write(pen, kernels[place], left + CELL[0] // 2, top + CELL[1] // 2, shade)
    if space.layers[number].stride == 2:
        pen.polygon([(left, MARGIN), (left + 8, MARGIN), (left + 4, MARGIN + 6)], fill=INK)
    if kind.marked(space.variant(arch.picks[number])):
        pen.rectangle((left + CELL[0] - 6, MARGIN + 1, left + CELL[0] - 2, MARGIN + 5), fill=FIRST + 3)


def _write(pen: ImageDraw.ImageDraw, number: int, x: int, y: int, color: int) -> None:
    """Write a number around a point, each pixel of a digit two wide."""
    text = str(number)
    left, top = x - (8 * len(text) - 2) // 2, y - 5
    for at, digit in enumerate(text):
        for row, bits in enumerate(DIGITS[int(digit)]):
            for column in range(3):
                if int(bits) >> (2 - column) & 1:
                    corner = (left + 8 * at + 2 * column, top + 2 * row)
                    pen.rectangle((*corner, corner[0] + 1, corner[1] + 1), fill=color)
