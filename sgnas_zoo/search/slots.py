"""From slots to variants: the most probable way to fill the slots of a layer for each block that they can make."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from sgnas_zoo.search.knapsack import Floats, Ints
from sgnas_zoo.spaces.variants import Merge


def reach(merge: Merge, log_probs: Floats) -> list[Floats]:
    """Best log-probability (N, states) of every state before the first slot and after each slot."""
    reached = [np.zeros((len(log_probs), 1))]
    for slot, (sources, choices, _, first) in enumerate(_columns(merge)):
        arriving = reached[-1][:, sources] + log_probs[:, slot, choices]
        reached.append(np.maximum.reduceat(arriving, first, axis=1))
    return reached


@lru_cache(maxsize=256)
def _columns(merge: Merge) -> tuple[tuple[Ints, ...], ...]:
    """Per slot its transitions as arrays: sources, choices, targets, and where each target begins."""
    columns = (np.array(step).T for step in merge.steps)
    return tuple((*column, np.flatnonzero(np.diff(column[2], prepend=-1))) for column in columns)


def best_picks(merge: Merge, log_probs: Floats, reached: Sequence[Floats], variants: Ints) -> Ints:
    """Choice indices (N, slots) of the best way to make ``variants`` (N,), walking back through what ``reach`` gave."""
    picks = np.zeros(log_probs.shape[:2], np.int64)
    states = variants
    for slot in reversed(range(len(merge.steps))):
        sources, choices, targets, _ = _columns(merge)[slot]
        arriving = reached[slot][:, sources] + log_probs[:, slot, choices]
        best = np.where(targets == states[:, None], arriving, -np.inf).argmax(1)
        picks[:, slot], states = choices[best], sources[best]
    return picks


def values_of(reached: Sequence[Sequence[Floats]]) -> Floats:
    """Log-probabilities (N, layers, variants) of the best way to make each variant, ``-inf`` beyond a layer's own."""
    last = [states[-1] for states in reached]
    values = np.full((len(last[0]), len(last), max(states.shape[1] for states in last)), -np.inf)
    for layer, states in enumerate(last):
        values[:, layer, : states.shape[1]] = states
    return values
