"""Times of several things in one interleaved run: what drifts on a shared machine hits all alike."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch.utils.benchmark import Timer

Floats = npt.NDArray[np.float64]
Round = list[float | None]
"""Time of each call in milliseconds; None for those that sit the round out."""
MOST_SPREAD, AGAIN = 0.2, 2
"""Repeats that spread by more are timed again, so many times at most; what still spreads is stated as a range."""


@dataclass(frozen=True)
class Timing:
    """Repeated times of one thing, in milliseconds.

    Args:
        median_ms: Median.
        low_ms: 25th percentile.
        high_ms: 75th percentile.
        n: Number of times.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    n: int

    @classmethod
    def of(cls, times: Floats) -> Timing:
        """Sum up times in milliseconds."""
        low, median, high = map(float, np.percentile(times, (25, 50, 75)))
        return cls(median, low, high, len(times))

    @property
    def iqr_ms(self) -> float:
        """Interquartile range."""
        return self.high_ms - self.low_ms

    @property
    def spread(self) -> float:
        """Interquartile range as a share of the median."""
        return self.iqr_ms / self.median_ms if self.median_ms else 0.0

    @property
    def steady(self) -> bool:
        """Whether one number stands for all of them."""
        return self.spread <= MOST_SPREAD

    @property
    def range_ms(self) -> tuple[float, float]:
        """What it is stated as, from and to: the median twice if it is steady, else the quartiles."""
        return (self.median_ms, self.median_ms) if self.steady else (self.low_ms, self.high_ms)

    def __str__(self) -> str:
        low, high = self.range_ms
        return f"{low:.2f} ms" if self.steady else f"{low:.2f} to {high:.2f} ms"

    def record(self) -> dict[str, float]:
        """Quartiles in milliseconds and spread as a share, as plain data."""
        return {
            "low_ms": round(self.low_ms, 3),
            "high_ms": round(self.high_ms, 3),
            "spread": round(self.spread, 3),
        }


def steadiest(run: Callable[[], list[Floats]]) -> list[Timing]:
    """Time several things in one run, and again while the repeats of one spread by more than ``MOST_SPREAD``.

    Args:
        run: Gives times of each; it is called ``1 + AGAIN`` times at most.

    Returns:
        All timings of one run: the one in which the least steady thing spread least.
    """
    runs = [[Timing.of(times) for times in run()]]
    while len(runs) <= AGAIN and not all(timing.steady for timing in runs[-1]):
        runs.append([Timing.of(times) for times in run()])
    return min(runs, key=lambda timings: max(timing.spread for timing in timings))


class Log(Protocol):
    """Where rounds are kept, see ``partial.py``."""

    rounds: list[Round]

    def add(self, times: Round) -> None:
        """Keep a round."""


def interleaved(
    calls: Sequence[Callable[[], object]],
    rounds: int,
    threads: int,
    *,
    every: Sequence[int] | None = None,
    seed: int = 0,
    progress: Callable[[], object] = lambda: None,
    log: Log | None = None,
) -> list[Floats]:
    """Time each call once a round, in an order that is drawn anew every round.

    torch's own timer sets the number of threads, warms up, and waits for the device.

    Args:
        calls: What to time.
        rounds: Number of rounds.
        threads: Threads that torch may use.
        every: For each call, time it only in every N-th round; by default in all.
        seed: Seed of the orders.
        progress: Called after every round.
        log: Keeps every round; those that it has already are not timed again.

    Returns:
        Times of each call in milliseconds.
    """
    timer = _timer()
    timers = [timer("call()", globals={"call": call}, num_threads=threads) for call in calls]
    every = every or [1] * len(calls)
    done = log.rounds[:rounds] if log else []
    for number in range(rounds):
        if number >= len(done):
            times: Round = [None] * len(calls)
            for index in random.Random(f"{seed}, {number}").sample(range(len(calls)), len(calls)):
                if number % every[index] == 0:
                    times[index] = 1e3 * timers[index].timeit(1).mean
            done.append(times)
            if log:
                log.add(times)
        progress()
    return [np.array([time for time in own if time is not None]) for own in zip(*done, strict=True)]


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
