"""The best choices along a chain: every layer's choice has a value, and so has each pair of neighbouring choices.

Labels are grown layer by layer: a choice, what it took to get there, and its value so far. One is dropped if another at
the same choice is no dearer and no worse, or if even the Lagrangian bound on what may follow leaves it behind the best
that is known. What comes out is therefore the best there is. (Shortest paths with resource constraints: Irnich and
Desaulniers, Column Generation, 2005, chapter 2.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sgnas_zoo.search.knapsack import Floats, Ints

ROUNDS = 40
"""Halvings of the range of a multiplier."""

SWEEPS = 4
"""Times that the multipliers of several rows are tuned in turn."""

TIE = 1e-9
"""Values that differ by less, relative to their size, are equal: rounding of sums."""


class Chain(NamedTuple):
    """What choices along a chain are worth and what they cost.

    Args:
        values: (layers, choices); ``-inf`` marks a choice that a layer does not have.
        pairs: (layers - 1, choices, choices), what the choices of a layer and of the next are worth together.
        weights: (layers, choices, rows), not negative.
        room: (rows,), upper bounds on the summed weights.
    """

    values: Floats
    pairs: Floats
    weights: Floats
    room: Floats


class _Rest(NamedTuple):
    """What may follow each choice (layers, choices), at some multipliers: the most it adds, and how to get it."""

    multipliers: Floats
    most: Floats
    after: Ints


def best_in_chain(chain: Chain) -> tuple[float, Ints] | None:
    """The highest value within the room, and its choices (layers,); None where no choices fit."""
    exists = np.isfinite(chain.values)
    least = np.where(exists[..., None], chain.weights, np.inf).min(1)
    after = np.concatenate([least[::-1].cumsum(0)[::-1], np.zeros((1, least.shape[1]))])
    if not exists.any(1).all() or (after[0] > chain.room).any():
        return None
    rests, known = _tuned(chain)
    value, picks = max(known, key=lambda found: found[0], default=(-np.inf, None))
    better = _grow(chain, rests, after[1:], value)
    if better is not None:
        return better
    return None if picks is None else (value, picks)


def worth(chain: Chain, picks: Ints) -> float:
    """The value of choices (layers,)."""
    layers = np.arange(len(picks))
    return float(chain.values[layers, picks].sum() + chain.pairs[layers[:-1], picks[:-1], picks[1:]].sum())


def _rest(chain: Chain, multipliers: Floats) -> _Rest:
    """What may follow, each layer from the next."""
    own = chain.values - chain.weights @ multipliers
    most, after = np.zeros(own.shape), np.zeros(own.shape, np.int64)
    for layer in reversed(range(len(own) - 1)):
        following = chain.pairs[layer] + own[layer + 1] + most[layer + 1]
        after[layer], most[layer] = following.argmax(1), following.max(1)
    return _Rest(multipliers, most, after)


def _path(chain: Chain, rest: _Rest) -> Ints:
    """The choices that are best at the multipliers, whatever they weigh."""
    own = chain.values[0] - chain.weights[0] @ rest.multipliers
    picks = [int((own + rest.most[0]).argmax())]
    for layer in range(len(chain.values) - 1):
        picks.append(int(rest.after[layer, picks[-1]]))
    return np.array(picks)


def _tuned(chain: Chain) -> tuple[list[_Rest], list[tuple[float, Ints]]]:
    """Bounds at no multipliers and at tuned ones, and choices that were seen to fit on the way, with their value."""
    known: list[tuple[float, Ints]] = []

    def weighs(multipliers: Floats) -> Floats:
        picks = _path(chain, _rest(chain, multipliers))
        total: Floats = chain.weights[np.arange(len(picks)), picks].sum(0)
        if (total <= chain.room).all():
            known.append((worth(chain, picks), picks))
        return total

    multipliers = np.zeros(len(chain.room))
    finite = np.abs(chain.values[np.isfinite(chain.values)]).sum() + np.abs(chain.pairs).sum() + 1
    for _ in range(SWEEPS if len(multipliers) > 1 else 1):
        for row in range(len(multipliers)):
            low, high = 0.0, 4 * finite / max(chain.weights[..., row].max(), TIE)
            trial = multipliers.copy()
            trial[row] = 0.0
            if weighs(trial)[row] <= chain.room[row]:
                multipliers = trial
                continue
            for _ in range(ROUNDS):
                trial[row] = (low + high) / 2
                low, high = (trial[row], high) if weighs(trial)[row] > chain.room[row] else (low, trial[row])
            multipliers = trial.copy()
            multipliers[row] = high
    steered = [np.zeros_like(multipliers), *(factor * multipliers for factor in (0.6, 1.0, 1.6))]
    return [_rest(chain, one) for one in steered], known


def _grow(chain: Chain, rests: list[_Rest], least: Floats, known: float) -> tuple[float, Ints] | None:
    """The best choices that are worth more than ``known``, with their value.

    Args:
        chain: The chain.
        rests: What may follow, at several multipliers.
        least: (layers, rows), the lightest that may follow each layer.
        known: A value that fits.
    """
    layers, choices = chain.values.shape
    needed = known + TIE * (1 + abs(known)) if np.isfinite(known) else -np.inf
    at = np.flatnonzero(np.isfinite(chain.values[0]))
    value, load = chain.values[0, at], chain.weights[0, at]
    history: list[tuple[Ints, Ints]] = [(at, np.zeros(len(at), np.int64))]
    for layer in range(layers):
        if layer:
            value = (value[:, None] + chain.pairs[layer - 1, at] + chain.values[layer]).ravel()
            load = (load[:, None] + chain.weights[layer]).reshape(-1, load.shape[1])
            parent, at = np.divmod(np.arange(len(value)), choices)
        else:
            parent = np.arange(len(value))
        free = chain.room - load
        good = np.isfinite(value) & (free >= least[layer]).all(1)
        for rest in rests:
            good &= value + rest.most[layer, at] + free @ rest.multipliers >= needed
        kept = np.flatnonzero(good)
        kept = kept[_undominated(at[kept], value[kept], load[kept])]
        at, value, load, parent = at[kept], value[kept], load[kept], parent[kept]
        if not len(at):
            return None
        if layer:
            history.append((at, parent))
        else:
            history[0] = (at, parent)
    index = int(value.argmax())
    best, picks = float(value[index]), np.zeros(layers, np.int64)
    for layer in reversed(range(layers)):
        own, parent = history[layer]
        picks[layer], index = own[index], parent[index]
    return best, picks


def _undominated(at: Ints, value: Floats, load: Floats) -> Ints:
    """Indices of labels, less those than which another at the same choice is as light in each row and as valuable.

    With several rows only those of the same weight in all but the first row are compared.
    """
    keys = [-value, load[:, 0], *(load[:, row] for row in range(1, load.shape[1])), at]
    order = np.lexsort(keys)
    new = np.zeros(len(order), bool)
    new[:1] = True
    for column in (at, *(load[:, row] for row in range(1, load.shape[1]))):
        new[1:] |= np.diff(column[order]) != 0
    lifted = value[order] + new.cumsum() * (2 * np.abs(value).max(initial=0.0) + 1)
    needed = np.ones(len(order), bool)
    needed[1:] = lifted[1:] > np.maximum.accumulate(lifted)[:-1]
    return np.sort(order[needed])
