"""Times of several things in one interleaved run: what drifts on a shared machine hits all alike."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch.utils.benchmark import Timer

Floats = npt.NDArray[np.float64]


def interleaved(
    calls: Sequence[Callable[[], object]],
    rounds: int,
    threads: int,
    *,
    every: Sequence[int] | None = None,
    seed: int = 0,
    progress: Callable[[], object] = lambda: None,
) -> list[Floats]:
    """Time each call once a round, in an order that is drawn anew every round.

    torch's own timer sets the number of threads, warms up, and waits for the device.

    Args:
        calls: What to time.
        rounds: Number of rounds.
        threads: Threads that torch may use.
        every: Per call, that it takes part in every so manieth round; by default in all.
        seed: Seed of the orders.
        progress: Called after every round.

    Returns:
        Times of each call in milliseconds.
    """
    timer, rng = _timer(), random.Random(seed)
    timers = [timer("call()", globals={"call": call}, num_threads=threads) for call in calls]
    times: list[list[float]] = [[] for _ in calls]
    every = every or [1] * len(calls)
    for number in range(rounds):
        for index in rng.sample(range(len(calls)), len(calls)):
            if number % every[index] == 0:
                times[index].append(1e3 * timers[index].timeit(1).mean)
        progress()
    return [np.array(own) for own in times]


def spread(times: Floats) -> float:
    """Interquartile range."""
    low, high = np.percentile(times, (25, 75))
    return float(high - low)


def _timer() -> type[Timer]:
    """torch's timer; its import is slow, and warns of a CUDA toolkit without a device, which nobody asked about."""
    log = logging.getLogger("torch.utils.cpp_extension")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        from torch.utils.benchmark import Timer
    finally:
        log.setLevel(level)
    return Timer
