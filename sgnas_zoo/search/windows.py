"""An exact multiple-choice knapsack with several rows: one problem at a time, branch and bound layer by layer.

Every row of weights has a window, from a lowest to a highest sum. The Lagrangian dual bounds the value of all picks;
multipliers near its minimum give linear tests that good picks must pass, and so does every side of a window. Partial
picks are grown layer by layer and dropped once a test cannot be passed any more. Nothing else is dropped: what comes
out is the best there is. (Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, chapters 9 and 11.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sgnas_zoo.search.knapsack import Bools, Floats, Ints

LONG = 500
"""Remove dominated partial picks from this many on: for fewer it does not pay."""

AT_ONCE = 30_000
"""Partial picks that are grown together: a bound on memory, not on the search."""

WIDEN = 1.5
"""Growth of what picks may lose against the dual, from one round to the next."""

STEER = (0.5, 0.75, 1.4, 2.0)
"""Multiples of each multiplier that make further tests: the best multiplier changes with what is picked."""

TIE = 1e-9
"""Values that differ by less, relative to their size, are equal: rounding of sums."""


class Window(NamedTuple):
    """Lowest and highest sums (rows,) that picks may have; -inf and inf where there is no such side."""

    low: Floats
    high: Floats


class Best(NamedTuple):
    """The best picks (layers,), their value, and the index of the values they are best for."""

    picks: Ints
    value: float
    of: int


class Test(NamedTuple):
    """A linear test of picks: their summed gains (layers, variants) must reach the least."""

    gains: Floats
    least: float
    low: bool = False


def best_in_windows(values: Floats, weights: Floats, windows: list[Window]) -> Best | None:
    """The picks of the highest value, over several sets of values, with sums inside one of several windows.

    Args:
        values: (N, layers, variants); ``-inf`` marks a variant that does not exist, the same for all N.
        weights: (layers, variants, rows).
        windows: Where the sums may lie; one of them is enough.

    Returns:
        The best picks of all N, or None where no picks lie in a window: both are proven.
    """
    ceilings = np.repeat(values.max(2).sum(1)[:, None], len(windows), 1)
    multipliers: dict[tuple[int, int], Floats] = {}
    best: Best | None = None
    while True:
        index, at = divmod(int(ceilings.argmax()), len(windows))
        if ceilings[index, at] <= (-np.inf if best is None else best.value + TIE * (1 + abs(best.value))):
            return best
        window = windows[at]
        if (index, at) in multipliers:
            found = _search(
                values[index], weights, window, multipliers[index, at], -np.inf if best is None else best.value
            )
            ceilings[index, at] = -np.inf
            if found is not None and (best is None or found[1] > best.value):
                best = Best(*found, index)
            continue
        found_multipliers = dual(values[index], weights, window)
        if found_multipliers is None:  # whatever the values
            ceilings[:, at] = -np.inf
        else:
            multipliers[index, at] = found_multipliers
            ceilings[:, at] = np.minimum(ceilings[:, at], relaxed(values, weights, window, found_multipliers))


def relaxed(values: Floats, weights: Floats, window: Window, multipliers: Floats) -> Floats:
    """A value (N,) that no picks inside the window exceed, for values (N, layers, variants)."""
    reduced = values - weights @ multipliers
    return np.asarray(reduced.max(-1).sum(-1) + _at_sides(multipliers, window))


def _at_sides(multipliers: Floats, window: Window) -> float:
    """What the multipliers (rows,) are worth at the sides that they press against."""
    sides = np.where(multipliers > 0, window.high, np.where(multipliers < 0, window.low, 0.0))
    return float(multipliers @ sides)


def dual(values: Floats, weights: Floats, window: Window) -> Floats | None:
    """Multipliers (rows,) near the minimum of the dual, or None if it shows that no picks lie in the window.

    A positive multiplier presses below the high side, a negative one above the low side.
    """
    finite = np.where(np.isfinite(values), values, 0.0)[..., None]
    found = _minimise(_Dual(values, np.concatenate([finite, weights], 2), window), np.zeros(0))
    return None if found is None else found.multipliers


class _Dual(NamedTuple):
    """A problem: values (layers, variants), what variants pay (..., 1 + rows), value first, and the window."""

    values: Floats
    pays: Floats
    window: Window

    def reduced(self, outer: Floats) -> Floats:
        """Values less what the first rows cost at their multipliers."""
        return self.values - self.pays[..., 1 : 1 + len(outer)] @ outer


class _Tangent(NamedTuple):
    """What picks, or a mixture of picks, pay (1 + rows,) that are best for the multipliers (rows,)."""

    multipliers: Floats
    pays: Floats


def _minimise(problem: _Dual, outer: Floats) -> _Tangent | None:
    """Minimise the dual over the multipliers that follow the ``outer`` ones, which are held.

    One row's multiplier is found by secants between two tangents, one on either side of its minimum, and each of them
    minimal over the rows that follow. The answer pays what the mixture of both pays that meets the side.
    """
    row = len(outer)
    if row == len(problem.window.high):
        picks = problem.reduced(outer).argmax(1)
        return _Tangent(outer, problem.pays[np.arange(len(picks)), picks].sum(0))
    near = _minimise(problem, np.append(outer, 0.0))
    if near is None or problem.window.low[row] <= near.pays[1 + row] <= problem.window.high[row]:
        return near
    sign = 1.0 if near.pays[1 + row] > problem.window.high[row] else -1.0
    side = float((problem.window.high if sign > 0 else problem.window.low)[row])
    far = _beyond(problem, outer, side, sign)
    if far is None:
        return None
    here = np.concatenate([[1.0], -outer, np.zeros(len(problem.window.high) - row)])  # reduced value of what is paid
    while True:
        fall = near.pays - far.pays
        if not fall[1 + row]:
            return far
        slope = sign * max(sign * (fall @ here) / fall[1 + row], 0.0)  # rounding must not turn it round
        middle = _minimise(problem, np.append(outer, slope))
        if middle is None:
            return None
        moved = middle.pays - near.pays
        if moved @ here - slope * moved[1 + row] <= TIE * (1 + abs(near.pays @ here)):
            share = (side - far.pays[1 + row]) / fall[1 + row]
            return _Tangent(middle.multipliers, share * near.pays + (1 - share) * far.pays)
        if sign * (middle.pays[1 + row] - side) > 0:
            near = middle
        else:
            far = middle


def _beyond(problem: _Dual, outer: Floats, side: float, sign: float) -> _Tangent | None:
    """A tangent at a multiplier of the next row that is steep enough to meet its side; None where none is."""
    row = len(outer)
    reduced, weight = problem.reduced(outer), problem.pays[..., 1 + row]
    exists = np.isfinite(reduced)
    lowest = np.where(exists, reduced, np.inf).min(1).sum()
    spread = 1.0 + reduced.max(1).sum() - lowest
    width = np.where(exists, weight, -np.inf).max(1).sum() - np.where(exists, weight, np.inf).min(1).sum()
    steep = sign * 10 * spread / max(width, TIE)
    here = np.concatenate([[1.0], -outer, np.zeros(len(problem.window.high) - row)])
    for _ in range(40):
        far = _minimise(problem, np.append(outer, steep))
        if far is None or sign * (far.pays[1 + row] - side) <= 0:
            return far
        if far.pays @ here - steep * (far.pays[1 + row] - side) < lowest - spread:
            return None  # no picks are worth that little
        steep *= 4
    return far


def _search(
    values: Floats, weights: Floats, window: Window, multipliers: Floats, least: float
) -> tuple[Ints, float] | None:
    """The best picks in a window and their value, if it is more than ``least``."""
    exists = np.isfinite(values)
    top = float(relaxed(values, weights, window, multipliers))
    bottom = np.where(exists, values, np.inf).min(1).sum() - 1.0
    sides = _sides(weights, window)
    worths = [_worth(values, weights, window, steered) for steered in _steered(multipliers)]
    reduced = np.where(exists, values - weights @ multipliers, -np.inf)
    losses = reduced.max(1, keepdims=True) - reduced
    allowance = losses[losses > TIE].min(initial=top - bottom)
    while True:
        least_now = max(top - allowance, bottom, least)
        found = _grow(values, sides, worths, least_now)
        if found is not None:
            return found
        if least_now > top - allowance:
            return None
        allowance *= WIDEN


def _steered(multipliers: Floats) -> list[Floats]:
    """The multipliers, and with each of them smaller or larger."""
    rows = np.flatnonzero(multipliers)
    return [
        np.zeros_like(multipliers),
        multipliers,
        *(multipliers * np.where(np.arange(len(multipliers)) == r, f, 1.0) for r in rows for f in STEER),
    ]


def _worth(values: Floats, weights: Floats, window: Window, multipliers: Floats) -> Test:
    """The test that picks in the window are worth nothing less than 0: add to its least what they are to be worth."""
    return Test(values - weights @ multipliers, -_at_sides(multipliers, window))


def _sides(weights: Floats, window: Window) -> list[Test]:
    """The tests that sums lie in the window."""
    high = [Test(-weights[..., row], -side) for row, side in enumerate(window.high) if np.isfinite(side)]
    return high + [Test(weights[..., row], side, True) for row, side in enumerate(window.low) if np.isfinite(side)]


def _grow(values: Floats, sides: list[Test], worths: list[Test], least: float) -> tuple[Ints, float] | None:
    """The best picks that lie in the window and are worth ``least``, with their value."""
    gains = np.stack([np.where(np.isfinite(values), test.gains, -np.inf) for test in (*sides, *worths)], 2)
    needed = np.array([test.least for test in sides] + _worth_more(worths, least, -1))
    keep = _possible(gains, needed)
    if not keep.any(1).all():
        return None
    gains = np.where(keep[..., None], gains, -np.inf)
    order = np.argsort(np.nanmin(np.where(keep, gains[..., 0], np.nan), 1) - gains[..., 0].max(1))  # widest first
    rest = _rest(gains[order].max(1))
    columns = [np.flatnonzero(keep[layer]) for layer in order]
    best: tuple[Ints, float] | None = None
    stack = [(np.zeros((1, 0), np.int64), np.zeros((1, len(needed))), np.zeros(1))]
    while stack:
        picks, passed, worth = stack.pop()
        depth = picks.shape[1]
        if depth == len(order):
            best = _better(best, picks[:, np.argsort(order)], worth, gains[..., 0])
            needed[len(sides) :] = _worth_more(worths, best[1], 1)  # to list all that is as good would not end
            continue
        column = columns[depth]
        if len(picks) * len(column) > AT_ONCE and len(picks) > 1:
            parts = -(-len(picks) * len(column) // AT_ONCE)
            promising = (passed + rest[depth] - needed)[:, len(sides) :].min(1).argsort()  # the best come last: first
            stack += [(picks[p], passed[p], worth[p]) for p in np.array_split(promising, parts)]
            continue
        layer = order[depth]
        grown = (passed[:, None] + gains[layer, column]).reshape(-1, len(needed))
        grown_worth = (worth[:, None] + values[layer, column]).ravel()
        good = np.flatnonzero((grown + rest[depth + 1] >= needed).all(1))
        if good.size > LONG:
            good = good[_undominated(grown[good], grown_worth[good], sides)]
        if good.size:
            parent, child = good // len(column), column[good % len(column)]
            stack.append((np.column_stack([picks[parent], child]), grown[good], grown_worth[good]))
    return best


def _worth_more(worths: list[Test], least: float, sign: int) -> list[float]:
    """What the tests need to show a worth above ``least``; with a negative sign, no less but for rounding."""
    return [test.least + least + sign * TIE * (1 + abs(test.least) + abs(least)) for test in worths]


def _undominated(passed: Floats, worth: Floats, sides: list[Test]) -> Ints:
    """Indices of partial picks, less those than which another weighs the same, or less in a row of no low side.

    Args:
        passed: (P, tests) what they gained in each test; the first tests are of ``sides``.
        worth: (P,) their values.
        sides: The tests of the window: high sides first.
    """
    lows = [side.gains for side in sides if side.low]
    highs = [at for at, side in enumerate(sides) if not side.low]
    free = [at for at in highs if not any(np.array_equal(-low, sides[at].gains) for low in lows)][:1]
    same = [passed[:, at] for at in range(len(sides)) if at not in free]
    light = [-passed[:, at] for at in free]
    order = np.lexsort((-worth, *light, *same))
    new = np.zeros(len(order), bool)
    new[:1] = True
    for column in same:
        new[1:] |= np.diff(column[order]) != 0
    lifted = worth[order] + new.cumsum() * (2 * np.abs(worth).max() + 1)  # each group starts above all before it
    needed = np.ones(len(order), bool)
    needed[1:] = lifted[1:] > np.maximum.accumulate(lifted)[:-1]
    return np.sort(order[needed])


def _better(best: tuple[Ints, float] | None, picks: Ints, worth: Floats, lightness: Floats) -> tuple[Ints, float]:
    """The best of picks (P, layers) and of what was best; of equally good ones, that which is lightest at first."""
    if best is not None:
        picks, worth = np.vstack([picks, best[0]]), np.append(worth, best[1])
    equal = np.flatnonzero(worth >= worth.max() - TIE * (1 + abs(worth.max())))
    light = lightness[np.arange(len(lightness)), picks[equal]]
    at = equal[np.lexsort(-light.T[::-1])[0]]
    return picks[at], float(worth[at])


def _possible(gains: Floats, needed: Floats) -> Bools:
    """Which variants (layers, variants) may be part of picks that pass all tests."""
    keep = np.isfinite(gains[..., 0])
    while True:
        highest = np.where(keep[..., None], gains, -np.inf).max(1)
        if not np.isfinite(highest).all():
            return np.zeros_like(keep)
        fits = keep & (gains - highest[:, None] + highest.sum(0) >= needed).all(2)
        if (fits == keep).all():
            return keep
        keep = fits


def _rest(per_layer: Floats) -> Floats:
    """Sums (layers + 1, tests) over each layer and all that follow it, with a zero at the end."""
    return np.concatenate([per_layer[::-1].cumsum(0)[::-1], np.zeros((1, per_layer.shape[1]))])
