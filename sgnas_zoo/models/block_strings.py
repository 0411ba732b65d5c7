"""From an architecture to the block strings of timm's EfficientNet builder."""

from __future__ import annotations

from sgnas_zoo.spaces import Arch, FormName, MBConv
from sgnas_zoo.spaces.blocks import SE_RATIO

ACT_CODES = {"relu": "re", "relu6": "r6", "hard_swish": "hs", "swish": "sw", "mish": "mi"}
"""timm's activation names and their codes inside block strings."""


def arch_def(arch: Arch, form: FormName) -> list[list[str]]:
    """Block strings of an architecture, a list per stage: the fixed first block, then one stage per row.

    Layers that an architecture turns into the identity are left out.
    """
    space = arch.space
    style = space.form(form)
    act = "" if style.block_act == style.stem_act else f"_n{ACT_CODES[style.block_act]}"
    stages: list[list[str]] = [[] for _ in space.rows]
    for number, (layer, picks) in enumerate(zip(space.layers, arch.picks, strict=True)):
        block = space.block(number, space.variant(picks), form)
        if isinstance(block, MBConv) and block.kernels:
            stages[layer.stage].append(block_string(block) + act)
    return [[block_string(space.first_block(form)) + act], *(stage for stage in stages if stage)]


def block_string(block: MBConv) -> str:
    """One block in timm's notation: ``ir`` with an expansion, ``ds`` without.

    Equal kernels are one convolution (``k5``), different ones timm's mixed convolution (``k3.5.7``, a kernel per
    expansion group). timm's SE ratio is relative to the block's input, hence the factor.
    """
    kernels = block.kernels
    mixed = ".".join(map(str, kernels)) if len(set(kernels)) > 1 else str(kernels[0])
    text = f"{'ir' if block.expand else 'ds'}_r1_k{mixed}_s{block.stride}_c{block.out_chs}"
    if block.expand:
        text += f"_e{len(kernels)}"
    if block.se:
        text += f"_se{SE_RATIO * len(kernels):g}"
    return text
