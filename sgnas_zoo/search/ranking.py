"""The best, the second best, ... of what an exact solver finds the best of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sgnas_zoo.search.knapsack import Floats, Ints

Solve = Callable[[Floats], tuple[float, Ints] | None]
"""From values (layers, choices), ``-inf`` for what is left out, to the highest value and its choices (layers,)."""


def ranked(values: Floats, solve: Solve, count: int) -> list[Ints]:
    """The ``count`` best choices (layers,), best first; fewer where there are no more.

    The best is found exactly; each further one is the best of what is left, cut into parts of which every one holds
    what agrees with one that was found up to a layer and differs there (Murty, 1968; Lawler, 1972).

    Args:
        values: (layers, choices).
        solve: The solver; what it is given differs from ``values`` in more ``-inf`` only.
        count: How many.
    """
    found: list[Ints] = []
    parts = [(best, values) for best in [_solved(values, solve)] if best]
    while parts and len(found) < count:
        (_, picks), part = parts.pop(max(range(len(parts)), key=lambda at: parts[at][0][0]))
        found.append(picks)
        if len(found) == count:
            break
        rest = part.copy()
        for layer, pick in enumerate(picks):
            rest[layer, pick] = -np.inf
            if best := _solved(rest, solve):
                parts.append((best, rest.copy()))
            rest[layer] = np.where(np.arange(rest.shape[1]) == pick, part[layer], -np.inf)
    return found


def _solved(values: Floats, solve: Solve) -> tuple[float, Ints] | None:
    """The best there is, if every layer has a choice left."""
    return solve(values) if np.isfinite(values).any(1).all() else None
