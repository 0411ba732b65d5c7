"""Latency as a cost: a table of times measured on one device, made elsewhere: nothing here times anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any

from msgspec import Meta

from sgnas_zoo.costs.table import Conditions, CostTable
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.spaces import SearchSpace
from sgnas_zoo.spaces.space import SKIP

MOST_ERROR = 0.1
"""Median error of predictions above which a profile says too little to be used."""
MOST_BLOCKS, MOST = 20_000, 1e7
"""Beyond any space: layers times what a layer can be deployed as; and beyond the patience of whoever measures."""
Word = Annotated[str, Meta(pattern=r"\S", max_length=100)]
Count = Annotated[int, Meta(ge=1, le=10**9)]
Amount = Annotated[float, Meta(ge=0, le=MOST)]
Positive = Annotated[float, Meta(gt=0, le=MOST)]
"""What the fields of a file are checked for."""


@dataclass(frozen=True)
class Setup:
    """What a time depends on besides the network.

    Args:
        device: Name of the processor or board.
        device_type: "cpu", "cuda", or what else torch or a runtime calls it.
        runtime: "torch", "torch_compile", "onnxruntime", or the name of another for tables measured elsewhere.
        threads: Threads that one operation may use.
        dtype: Number format of weights and activations, as torch spells it: "float32".
        memory_format: "channels_last" or "channels_first".
        batch_size: Images that pass at once; times are for all of them.
    """

    device: Word
    device_type: Word = "cpu"
    runtime: Word = "torch"
    threads: Count = 1
    dtype: Word = "float32"
    memory_format: Word = "channels_last"
    batch_size: Count = 1


@dataclass(frozen=True)
class BlockTime:
    """How long one layer takes as one of its choices.

    Args:
        layer: Number of the searched layer, from 0.
        choice: What the layer is deployed as, see ``BlockKind.deployed``.
        median_ms: Median time in milliseconds.
        iqr_ms: Interquartile range of the times.
        n: Number of times.
    """

    layer: Annotated[int, Meta(ge=0, le=10**9)]
    choice: Word
    median_ms: Positive
    iqr_ms: Amount
    n: Count


@dataclass(frozen=True)
class Validation:
    """Predicted against measured times of whole networks that the profile was not made from.

    Args:
        nets: Number of networks.
        median_error: Median of the absolute error, as a share of the measured time.
        p90_error: Its 90th percentile.
        spearman: Rank correlation of predicted and measured.
    """

    nets: Count
    median_error: Amount
    p90_error: Amount
    spearman: Annotated[float, Meta(ge=-1, le=1)]


@dataclass(frozen=True)
class Profile:
    """Times of every block of a space on one device; a cost like any other.

    A network's time is ``fixed_ms + scale * (sum of its blocks' times)``: a block on its own finds its weights nearer
    or farther in the cache than inside a network, and ``scale``, fitted on whole networks, is the difference.

    Args:
        space: Name of the search space.
        conditions: Form, resolution, classes and input channels of its networks.
        setup: What the times depend on besides.
        versions: Versions of what ran the networks, by name.
        cores: Cores that the device has.
        date: Day of measuring, YYYY-MM-DD.
        fixed_ms: Time of what no choice changes, in milliseconds.
        scale: What a block's own time counts inside a network.
        blocks: The times.
        validation: How well all this predicts; None for a table measured elsewhere.
        source: Hub repo and commit that it was read at; empty where it comes from this machine.
    """

    space: str
    conditions: Conditions
    setup: Setup
    versions: Annotated[tuple[tuple[Word, Word], ...], Meta(max_length=20)]
    cores: Count
    date: Word
    fixed_ms: Amount
    scale: Positive
    blocks: Annotated[tuple[BlockTime, ...], Meta(min_length=1, max_length=MOST_BLOCKS)]
    validation: Validation | None = None
    source: str = field(default="", compare=False)

    name, unit = "latency_ms", "ms"

    @property
    def rule(self) -> str:
        """What is measured, in one line."""
        on = self.setup
        return (
            f"predicted time of a batch of {on.batch_size} at {self.conditions.resolution} px on {on.device}, "
            f"{on.runtime}, {on.threads} thread{'s' * (on.threads != 1)}, {on.dtype}"
        )

    @property
    def is_poor(self) -> bool:
        """Whether its predictions are known to be off by more than ``MOST_ERROR`` (median)."""
        return self.validation is not None and self.validation.median_error > MOST_ERROR

    @property
    def command(self) -> str:
        """The command that measures a profile of this form again for the cache."""
        form = self.conditions.form
        return "sgnas-zoo profile --force" + f" --form {form}" * (form != "final")

    @property
    def tolerance(self) -> float:
        """Share by which a measured time may differ from the predicted one before that says something.

        The 90th percentile error; ``MOST_ERROR`` where the error is not known or the profile is poor.
        """
        return MOST_ERROR if self.validation is None or self.is_poor else self.validation.p90_error

    def refuse_poor(self, otherwise: str = "or pass --force (force=True)") -> None:
        """Refuse a profile whose predictions are known to be poor.

        Args:
            otherwise: What else there is to do than to measure it again.

        Raises:
            ArtifactError: If ``is_poor``.
        """
        if self.validation is not None and self.is_poor:
            raise ArtifactError(
                f"The predictions of this profile are off by {self.validation.median_error:.1%} (median), more than "
                f"{MOST_ERROR:.0%}: measure it again on an idle machine with `{self.command}`, {otherwise}."
            )

    def table(self, space: SearchSpace, conditions: Conditions) -> CostTable:
        """Price every variant of every layer, in milliseconds.

        Raises:
            ArtifactError: If this profile is of another space or other conditions, or lacks a block. Fewer classes
                than it was measured with will do: they cannot take longer.
        """
        enough = max(conditions.num_classes, self.conditions.num_classes)
        wanted = {"space": space.name, **replace(conditions, num_classes=enough).of_network()}
        refuse_difference({"space": self.space, **self.conditions.of_network()}, wanted)
        layers = []
        for number in range(len(space.layers)):
            names = [space.deployed(number, variant) for variant in space.merge(number).variants]
            missing = [name for name in names if name != SKIP and (number, name) not in self._times]
            if missing:
                raise ArtifactError(
                    f"This profile lacks layer {number} as {missing[0]}; make it again with `sgnas-zoo profile`."
                )
            layers.append(tuple(0.0 if n == SKIP else self.scale * self._times[number, n] for n in names))
        return CostTable(self.name, self.unit, space, self.fixed_ms, tuple(layers))

    @cached_property
    def _times(self) -> dict[tuple[int, str], float]:
        return {(block.layer, block.choice): block.median_ms for block in self.blocks}


def refuse_difference(here: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a profile of other conditions than wanted.

    Raises:
        ArtifactError: Naming every difference.
    """
    different = [f"{name} {here[name]}, not {value}" for name, value in wanted.items() if here[name] != value]
    if different:
        raise ArtifactError(f"This profile is for {' and '.join(different)}; make one with `sgnas-zoo profile`.")
