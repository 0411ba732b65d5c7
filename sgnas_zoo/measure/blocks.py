"""The blocks of a space, each once, as they are deployed; and whole networks spread over its range."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sgnas_zoo.costs import COSTS, Conditions
from sgnas_zoo.errors import SpaceError
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.models.deploy import deploy
from sgnas_zoo.spaces import Arch, SearchSpace
from sgnas_zoo.spaces.variants import Variant

SPREAD = 0.15
"""How far, as a share of a layer's variants, its variant strays from its network's place in the range."""


class TimedBlock(NamedTuple):
    """One block to time, and every (layer, choice) that is such a block.

    Args:
        module: Its deploy form.
        example: An input of it, batch first.
        places: Pairs of layer and choice.
    """

    module: nn.Module
    example: Tensor
    places: list[tuple[int, str]]


def network(arch: Arch, conditions: Conditions) -> nn.Module:
    """The deploy form of an architecture with random weights: time does not depend on them."""
    model = build_model(
        arch.space.family, arch, conditions.form, num_classes=conditions.num_classes, in_chans=conditions.in_chans
    )
    return deploy(model)


def images(conditions: Conditions, batch_size: int) -> Tensor:
    """Random images (batch_size, in_chans, resolution, resolution)."""
    size = conditions.resolution
    return torch.randn(batch_size, conditions.in_chans, size, size, generator=torch.Generator().manual_seed(0))


def timed_blocks(space: SearchSpace, conditions: Conditions, batch_size: int) -> list[TimedBlock]:
    """Every block that a layer of the space can be deployed as; equal ones of several layers once.

    They are taken out of whole networks: as many as the layer with the most choices has, each layer another one in
    each of them.

    Raises:
        SpaceError: If times of its blocks say nothing.
    """
    if space.kind.untimed:
        raise SpaceError(f"Networks of {space.name} {space.kind.untimed}")
    options = [_options(space, layer) for layer in range(len(space.layers))]
    found: dict[tuple[object, ...], TimedBlock] = {}
    for number in range(max(map(len, options))):
        chosen = [[*own.items()][number % len(own)] for own in options]
        arch = space.arch([space.merge(i).picks(variant) for i, (_, variant) in enumerate(chosen)])
        blocks = _blocks(network(arch, conditions), arch, images(conditions, batch_size))
        for layer, (choice, _) in enumerate(chosen):
            if layer in blocks:
                module, example = blocks[layer]
                row = space.layers[layer]
                same = (row.in_chs, row.out_chs, row.stride, choice, example.shape[-1])
                known = found.setdefault(same, TimedBlock(module, example, []))
                if (layer, choice) not in known.places:
                    known.places.append((layer, choice))
    return [*found.values()]


def spread_archs(space: SearchSpace, conditions: Conditions, number: int, seed: int) -> list[Arch]:
    """Random architectures that lie all over the range of the space's costs.

    Slots drawn uniformly add up to networks of nearly one cost; here each network has a place in the range, and every
    layer draws a variant from around that place.
    """
    rng, table = random.Random(seed), COSTS["macs"].table(space, conditions)
    ranked = [
        [variant for _, variant in sorted(zip(costs, space.merge(i).variants, strict=True))]
        for i, costs in enumerate(table.layers)
    ]
    archs = []
    for place in ((i + rng.random()) / number for i in range(number)):
        picks = []
        for layer, variants in enumerate(ranked):
            share = min(max(rng.gauss(place, SPREAD), 0.0), 1.0)
            picks.append(space.merge(layer).picks(variants[round(share * (len(variants) - 1))]))
        archs.append(space.arch(picks))
    return archs


def _options(space: SearchSpace, layer: int) -> dict[str, Variant]:
    """What a layer can be deployed as, with one variant for each."""
    return {space.deployed(layer, variant): variant for variant in space.merge(layer).variants}


def _blocks(model: nn.Module, arch: Arch, batch: Tensor) -> dict[int, tuple[nn.Module, Tensor]]:
    """The searched layers of a deployed network by number, each with the input that it gets; identities have none."""
    space = arch.space
    variants = enumerate(map(space.variant, arch.picks))
    present = [layer for layer, variant in variants if space.block(layer, variant, "final") is not None]
    modules = space.kind.networks().layers(model)
    inputs: list[Tensor] = []

    def keep(module: nn.Module, arguments: Sequence[Tensor]) -> None:
        inputs.append(arguments[0].clone())

    handles = [module.register_forward_pre_hook(keep) for module in modules]
    with torch.no_grad():
        model(batch)
    for handle in handles:
        handle.remove()
    return dict(zip(present, zip(modules, inputs, strict=True), strict=True))
