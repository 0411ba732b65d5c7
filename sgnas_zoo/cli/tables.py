"""Tables of the terminal: columns as wide as what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sgnas_zoo.errors import printable


def table(columns: str, rows: Iterable[Sequence[object]]) -> str:
    """Rows below their heads.

    Args:
        columns: Heads, joined with "|"; those that begin with ">" are of numbers, which end at the right.
        rows: Cells; strings are shown without control characters.
    """
    from tabulate import tabulate

    heads = columns.split("|")
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    laid: str = tabulate(
        cells, [head.lstrip(">") for head in heads], tablefmt="plain", disable_numparse=True,
        colalign=["right" if head.startswith(">") else "left" for head in heads],
    )  # fmt: skip
    return laid
