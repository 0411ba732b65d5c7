"""The calls that a profile times: those of blocks, and those of whole networks that are joined from them."""

from __future__ import annotations

from collections.abc import Sequence

from sgnas_zoo.costs import Conditions
from sgnas_zoo.costs.profile import Setup
from sgnas_zoo.measure.blocks import TimedBlock, images, network
from sgnas_zoo.measure.ends import ends
from sgnas_zoo.measure.progress import Progress
from sgnas_zoo.measure.runtimes import RUNTIMES, Call
from sgnas_zoo.spaces import Arch
from sgnas_zoo.spaces.space import SKIP


def prepare(
    blocks: Sequence[TimedBlock], archs: Sequence[Arch], conditions: Conditions, setup: Setup, progress: Progress
) -> list[Call]:
    """Make the call of each block, then that of each network.

    Args:
        blocks: All blocks of a space, see ``timed_blocks``.
        archs: Architectures of that space.
        conditions: Form, resolution, classes and channels of the networks.
        setup: Runtime and what it is told.
        progress: Called after every model that is made, and every network that is opened.

    Raises:
        ModelError: If the runtime cannot run them.
    """
    runtime, batch = RUNTIMES[setup.runtime], images(conditions, setup.batch_size)
    layers = archs[0].space.kind.networks().layers
    whole = network(archs[0], conditions)
    parts = [*ends(whole, layers(whole), batch), *((block.module, block.example) for block in blocks)]
    models, total = [], len(parts) + len(archs)
    for model in runtime.export(parts):
        models.append(model)
        progress("preparing", len(models), total)
    before, after, *own = models
    calls = [runtime.open(model, block.example, setup) for model, block in zip(own, blocks, strict=True)]
    for number, arch in enumerate(archs, start=1):
        joined = runtime.join([before, *(own[block] for block in chain(arch, blocks)), after])
        calls.append(runtime.open(joined, batch, setup))
        progress("preparing", len(models) + number, total)
    return calls


def chain(arch: Arch, blocks: Sequence[TimedBlock]) -> list[int]:
    """Numbers of the blocks that an architecture consists of, in running order."""
    numbers = {place: number for number, block in enumerate(blocks) for place in block.places}
    variants = enumerate(map(arch.space.variant, arch.picks))
    chosen = [(layer, arch.space.deployed(layer, variant)) for layer, variant in variants]
    return [numbers[layer, choice] for layer, choice in chosen if choice != SKIP]
