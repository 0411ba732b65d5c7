"""Search spaces, in pure Python.

To add one: write ``spaces/<name>.py`` with a ``SearchSpace`` (rows, choices, forms), and register it below.
The contract tests then sample it, round-trip its strings, build its networks and check that every cost is exact.
Blocks of a new kind are a folder in ``kinds/``, whose docstring says how.
"""

from __future__ import annotations

import json

from sgnas_zoo.errors import ArchError
from sgnas_zoo.registry import Registry
from sgnas_zoo.spaces.arch import Arch
from sgnas_zoo.spaces.blocks import Block, Conv
from sgnas_zoo.spaces.greedynas import GREEDYNAS, GREEDYNAS_SE
from sgnas_zoo.spaces.kinds.bits import Bits, BitsKind
from sgnas_zoo.spaces.kinds.mbconv import Kernels, MBConvKind
from sgnas_zoo.spaces.kinds.shuffle import Branch, ShuffleKind
from sgnas_zoo.spaces.nas_bench_macro import NAS_BENCH_MACRO
from sgnas_zoo.spaces.resnet_bits import RESNET18_BITS, RESNET34_BITS, RESNET_MICRO_BITS
from sgnas_zoo.spaces.rows import Choice, Form, FormName, Layer, Row
from sgnas_zoo.spaces.sgnas import SGNAS_CIFAR, SGNAS_IMAGENET
from sgnas_zoo.spaces.sgnas_micro import SGNAS_MICRO
from sgnas_zoo.spaces.space import SearchSpace
from sgnas_zoo.spaces.spos import SPOS, SPOS_CHANNEL

SPACES: Registry[SearchSpace] = Registry("space")
for _space in (
    SGNAS_IMAGENET, SGNAS_CIFAR, SGNAS_MICRO, GREEDYNAS, GREEDYNAS_SE, SPOS, SPOS_CHANNEL, RESNET18_BITS, RESNET34_BITS,
    RESNET_MICRO_BITS, NAS_BENCH_MACRO,
):  # fmt: skip
    SPACES.register(_space.name, _space)


def families() -> list[str]:
    """Names of the families: networks of their spaces, made for a budget or by architecture string."""
    return [*dict.fromkeys(SPACES[name].family for name in SPACES)]


def arch_from_json(text: str) -> Arch:
    """Read an architecture that ``Arch.to_json`` wrote.

    Raises:
        ArchError: If the text is not of that form, or not in its space.
        UnknownNameError: If no space of that name is registered.
    """
    try:
        fields = json.loads(text)
        space, arch = fields["space"], fields["arch"]
    except (ValueError, KeyError, TypeError):
        space = arch = None
    if not isinstance(space, str) or not isinstance(arch, str):
        raise ArchError('This is not an architecture; write {"space": NAME, "arch": STRING}.')
    return SPACES[space].parse(arch)


__all__ = [
    "SPACES", "Arch", "Bits", "BitsKind", "Block", "Branch", "Choice", "Conv", "Form", "FormName", "Kernels", "Layer",
    "MBConvKind", "Row", "SearchSpace", "ShuffleKind", "arch_from_json", "families",
]  # fmt: skip
