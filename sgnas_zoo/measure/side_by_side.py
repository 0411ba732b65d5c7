"""Networks side by side: every network on every runtime, in one interleaved run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from sgnas_zoo.costs.profile import Setup
from sgnas_zoo.errors import ModelError
from sgnas_zoo.measure.load import note_drift, note_load
from sgnas_zoo.measure.progress import Progress, silent
from sgnas_zoo.measure.runtimes import RUNTIMES, Call
from sgnas_zoo.measure.timing import Floats, Timing, interleaved, steadiest
from sgnas_zoo.models.counting import count_macs, count_params
from sgnas_zoo.models.deploy import deploy


@dataclass(frozen=True)
class Row:
    """Times of one network under one setup.

    Args:
        model: What it was called.
        setup: Device, runtime, threads, ...
        resolution: Side of the input in pixels.
        macs: Multiply-accumulates of one image; None for an exported file.
        params: Parameters; likewise.
        timing: Milliseconds of a batch.
    """

    model: str
    setup: Setup
    resolution: int
    macs: int | None
    params: int | None
    timing: Timing

    def record(self) -> dict[str, Any]:
        """As plain data: times in milliseconds, and their spread as a share of the median."""
        told = asdict(self)
        times = told.pop("timing")
        return {**told, **times, "iqr_ms": self.timing.iqr_ms, "spread": self.timing.spread}


Planned = tuple[Call, Callable[[Timing], Row]]
"""What is timed, and the row that its times make."""


def side_by_side(
    models: Mapping[str, nn.Module],
    setups: Sequence[Setup],
    *,
    files: Mapping[str, Any] = MappingProxyType({}),
    resolution: int | None = None,
    rounds: int = 30,
    progress: Progress = silent,
) -> list[Row]:
    """Time the deploy forms of several networks under several setups, interleaved.

    It first says what else the machine does. Where repeats of one spread by more than 20 %, all are timed again, twice
    at most.

    Args:
        models: The networks by name.
        setups: What to run them with; all of one number of threads, as torch has one.
        files: Exported files by name (``ExportedModel``), each run in its own runtime as it is, beside the networks.
        resolution: Input side in pixels; by default what each network's ``pretrained_cfg`` says.
        rounds: Times per network and setup.
        progress: Called with the stage and how much of it is done.

    Returns:
        A row for each network and setup, then one for each file.

    Raises:
        ModelError: If a network cannot be deployed or a runtime cannot run it.
    """
    for setup in setups:
        RUNTIMES[setup.runtime].check(setup)
    planned = [*_of_networks(models, setups, resolution, progress), *_of_files(files, setups[0])]
    calls = [call for call, _ in planned]

    def run() -> list[Floats]:
        done = iter(range(1, rounds + 1))
        times = interleaved(calls, rounds, setups[0].threads, progress=lambda: progress("timing", next(done), rounds))
        note_drift(times)
        return times

    note_load(setups[0])
    return [row(timing) for (_, row), timing in zip(planned, steadiest(run), strict=True)]


def _of_networks(
    models: Mapping[str, nn.Module], setups: Sequence[Setup], resolution: int | None, progress: Progress
) -> Iterator[Planned]:
    """Each network under each setup."""
    done = iter(range(1, len(models) * len(setups) + 1))
    for name, model in models.items():
        side, in_chans = resolution or _native_side(name, model), input_size(model)[0]
        macs, params, form = count_macs(model, side, in_chans), count_params(model), deploy(model)
        for setup in setups:
            call = RUNTIMES[setup.runtime].prepare(form, _batch(setup, in_chans, side, side), setup)
            yield call, partial(Row, name, setup, side, macs, params)
            progress("preparing", next(done), len(models) * len(setups))


def _of_files(files: Mapping[str, Any], like: Setup) -> Iterator[Planned]:
    """Each file in its own runtime."""
    for name, file in files.items():
        size, setup = input_size(file), replace(like, runtime=file.format.name, dtype=file.precision)
        yield partial(file, _batch(setup, *size)), partial(Row, name, setup, size[-1], None, None)


def _batch(setup: Setup, *size: int) -> Tensor:
    return torch.randn(setup.batch_size, *size, generator=torch.Generator().manual_seed(0))


def input_size(model: nn.Module) -> tuple[int, ...]:
    """Channels and sides of a model's input, as far as its ``pretrained_cfg`` says; three channels at least."""
    cfg = getattr(model, "pretrained_cfg", None) or {}
    return tuple(cfg.get("input_size") or (3,))


def _native_side(name: str, model: nn.Module) -> int:
    size = input_size(model)
    if len(size) != 3:
        raise ModelError(f"{name} does not say its input size; name one with --resolution.")
    return size[-1]
