"""The knee of a front: where more cost stops buying much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STRAIGHT = 1e-9
"""Smallest height above the chord, as a share of the front's height, that counts; less is rounding."""


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that none beats, by rising x: each has a higher y than all that cost as much or less.

    Args:
        points: (x, y) each; less of x and more of y is better.
    """
    order = sorted(range(len(points)), key=lambda at: (points[at][0], -points[at][1]))
    best, found = float("-inf"), []
    for at in order:
        if points[at][1] > best:
            best = points[at][1]
            found.append(at)
    return found


def knee(points: Sequence[tuple[float, float]]) -> int | None:
    """Index of the knee: the point of the front that lies farthest above the chord from its first to its last point.

    Both axes are normalised to 0..1 between these two points, so that units do not matter. Points that another one
    beats are not on the front.

    Args:
        points: (x, y) each, in any order; less of x and more of y is better.

    Returns:
        None where the front has fewer than three points, or none of them lies above the chord.
    """
    on_front = front(points)
    if len(on_front) < 3:
        return None
    along = np.array([points[at] for at in on_front], np.float64)
    low, high = along[0], along[-1]
    scaled = (along - low) / (high - low)
    above = scaled[:, 1] - scaled[:, 0]  # the distance to the diagonal, times the square root of 2
    best = int(above.argmax())
    return on_front[best] if above[best] > STRAIGHT else None
