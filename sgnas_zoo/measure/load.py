"""What else the machine does: a time is only as good as the machine was quiet."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sgnas_zoo.costs.profile import Setup
from sgnas_zoo.measure.progress import note
from sgnas_zoo.measure.timing import Floats

WINDOW = 0.4
"""Seconds that the load is looked at."""
BUSY, DRIFTED = 0.1, 0.05
"""From this share of the CPU time on the machine is busy; from this change on its speed has drifted."""
PARTS = 3
"""A run is cut into so many parts, one after the other, whose speeds are compared."""


def other_load(window: float = WINDOW) -> float | None:
    """Share of this machine's CPU time that other processes take, from 0 to 1.

    Args:
        window: Seconds to look at it; this process should rest meanwhile.

    Returns:
        The share; None on a system that does not say it in ``/proc/stat``.
    """
    before = _cpu_seconds()
    time.sleep(window)
    after = _cpu_seconds()
    if before is None or after is None or after[1] <= before[1]:
        return None
    busy, whole, own = (late - early for late, early in zip(after, before, strict=True))
    return min(max((busy - own) / whole, 0.0), 1.0)


def note_load(setup: Setup) -> None:
    """Say how much of the machine other processes take, before something is timed on its CPU."""
    load = other_load() if setup.device_type == "cpu" else None
    if load is not None:
        advice = ": times will be too long and vary; stop them, or measure later" if load > BUSY else ""
        note(f"Other processes take {load:.0%} of this machine's CPU time{advice}.")


def drift(times: Sequence[Floats]) -> float:
    """How much slower the slowest third of a run was than its quickest, as a share of the latter.

    Args:
        times: Times of each call in the order of timing; those of fewer than three repeats say nothing.
    """
    parts = [np.array_split(own / np.median(own), PARTS) for own in times if len(own) >= PARTS]
    if not parts:
        return 0.0
    speeds = [np.median(np.concatenate(part)) for part in zip(*parts, strict=True)]
    return float(max(speeds) / min(speeds) - 1)


def note_drift(times: Sequence[Floats]) -> None:
    """Say if the machine's speed changed between the repeats of a run."""
    if (share := drift(times)) > DRIFTED:
        note(f"The machine's speed drifted by {share:.0%} between repeats (clock frequency or load); measure again.")


def _cpu_seconds() -> tuple[float, float, float] | None:
    """Seconds that all cores were busy, that they had, and that this process took; None where it cannot be known."""
    try:
        words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        user, nice, system, idle, waiting, *interrupts = (int(word) / os.sysconf("SC_CLK_TCK") for word in words[1:9])
    except (OSError, ValueError):
        return None
    busy, own = user + nice + system + sum(interrupts), os.times()
    return busy, busy + idle + waiting, own.user + own.system
