"""Profiling: time every block of a space on this device, then see how well their sums predict whole networks."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sgnas_zoo.costs import Conditions
from sgnas_zoo.costs.profile import BlockTime, Profile, Setup, Validation
from sgnas_zoo.measure.blocks import TimedBlock, spread_archs, timed_blocks
from sgnas_zoo.measure.device import cores
from sgnas_zoo.measure.load import note_drift, note_load
from sgnas_zoo.measure.partial import Partial
from sgnas_zoo.measure.prepare import prepare
from sgnas_zoo.measure.progress import Progress, note, silent
from sgnas_zoo.measure.runtimes import RUNTIMES
from sgnas_zoo.measure.timing import MOST_SPREAD, Floats, Timing, interleaved
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.spaces import Arch, SearchSpace

FITTED, HELD_OUT = 12, 24
"""Whole networks that the fixed part and the scale are fitted on, and others that the predictions are compared with."""
ROUNDS, NETS_EVERY = 24, 2
"""Times per block, and the share of rounds in which whole networks are timed: they are longer, so they vary less."""


@plain_torch()
def profile_space(
    space: SearchSpace,
    conditions: Conditions,
    setup: Setup,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    progress: Progress = silent,
    partial: Path | None = None,
) -> Profile:
    """Measure the latency profile of a space on this device.

    It first says what else the machine does, and in the end whether its speed drifted.

    Args:
        space: The space.
        conditions: Form, resolution, classes and channels of its networks.
        setup: Device, runtime, threads, ... to measure with; its memory format is the runtime's own.
        rounds: Times per block.
        seed: Seed of the networks and of the order of timing.
        progress: Called with the stage and how much of it is done.
        partial: File of the rounds that are timed, of these very arguments: it is gone on with where it is there, and
            removed in the end.

    Returns:
        The profile, with its error on whole networks that it was not made from.

    Raises:
        ModelError: If the runtime is missing or cannot run this.
        SpaceError: If the space cannot take the resolution.
    """
    space.check_resolution(conditions.resolution)
    runtime = RUNTIMES[setup.runtime]
    runtime.check(setup)
    note_load(setup)
    blocks = timed_blocks(space, conditions, setup.batch_size)
    archs = spread_archs(space, conditions, FITTED + HELD_OUT, seed)
    calls = prepare(blocks, archs, conditions, setup, progress)
    every, done = [1] * len(blocks) + [NETS_EVERY] * len(archs), iter(range(1, rounds + 1))
    log = None if partial is None else Partial(partial, every)
    if log and log.rounds:
        note(f"Going on with {len(log.rounds)} of {rounds} rounds that were timed before an interruption.")
    times = interleaved(
        calls, rounds, setup.threads, every=every, seed=seed, progress=lambda: progress("timing", next(done), rounds),
        log=log,
    )  # fmt: skip
    _note_quality(times)
    own = _block_times(blocks, times[: len(blocks)])
    draft = Profile(
        space.name, conditions, setup, runtime.versions(), cores(), f"{datetime.date.today()}", 0.0, 1.0, own
    )
    made = _fitted(draft, space, archs, np.array([np.median(t) for t in times[len(blocks) :]]))
    if log:
        log.remove()
    return made


def _note_quality(times: Sequence[Floats]) -> None:
    """Say if the machine's speed drifted, and how many times are none that one number stands for."""
    note_drift(times)
    if unsteady := sum(not Timing.of(own).steady for own in times):
        note(
            f"Repeats of {unsteady} of {len(times)} times spread by more than {MOST_SPREAD:.0%} (interquartile range "
            "over median)."
        )


def _block_times(blocks: Sequence[TimedBlock], times: Sequence[Floats]) -> tuple[BlockTime, ...]:
    rows = [
        BlockTime(layer, choice, round(own.median_ms, 5), round(own.iqr_ms, 5), own.n)
        for block, own in zip(blocks, map(Timing.of, times), strict=True)
        for layer, choice in block.places
    ]
    return tuple(sorted(rows, key=lambda row: (row.layer, row.choice)))


def _fitted(draft: Profile, space: SearchSpace, archs: Sequence[Arch], measured: Floats) -> Profile:
    """Fit the fixed part and the scale on every third network, and compare the others with what they predict.

    Relative errors count, so each network weighs by the inverse of its time.
    """
    sums = draft.table(space, draft.conditions)
    added = np.array([sums.measure(arch) for arch in archs])
    fit = np.arange(len(archs)) % (len(archs) // FITTED) == 0
    rows = np.stack([np.ones(fit.sum()), added[fit]], 1) / measured[fit, None]
    fixed, scale = np.linalg.lstsq(rows, np.ones(fit.sum()))[0]
    if fixed < 0 or scale <= 0:
        fixed, scale = 0.0, float(1 / np.mean(added[fit] / measured[fit]))
    predicted = fixed + scale * added
    return replace(
        draft,
        fixed_ms=round(float(fixed), 5),
        scale=round(float(scale), 5),
        validation=validate(predicted[~fit], measured[~fit]),
    )


def validate(predicted: Floats, measured: Floats) -> Validation:
    """How well predicted times stand for measured ones."""
    errors = np.abs(predicted / measured - 1)
    return Validation(
        nets=len(errors),
        median_error=round(float(np.median(errors)), 5),
        p90_error=round(float(np.percentile(errors, 90)), 5),
        spearman=round(_rank_correlation(predicted, measured), 5),
    )


def _rank_correlation(predicted: Floats, measured: Floats) -> float:
    """Spearman's correlation of times that do not tie."""
    differences = predicted.argsort().argsort() - measured.argsort().argsort()
    n = len(differences)
    return float(1 - 6 * (differences**2).sum() / (n**3 - n))
