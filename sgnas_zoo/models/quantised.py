"""Convolutions that compute with few bits: values are rounded to them, gradients pass straight through.

torch's own ``fake_quantize_*_affine`` would do (the tests compare with it), but with steps that are tensors it can be
neither counted, compiled nor exported. Libraries of quantised layers (torchao, brevitas) tie a layer to its bits; here
a supernet runs one weight with many.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FIRST_CLIP = 3.0
"""Clip of activations before training: three standard deviations behind a norm."""


def quantise_weights(weight: Tensor, bits: int) -> Tensor:
    """Weights rounded to ``2^bits - 1`` levels around zero, per output channel.

    The step is the first one of LSQ (1902.08153, section 2.1), twice the mean magnitude over the root of the largest
    level, taken anew from the weights at every pass; that ties it to no number of bits.

    Args:
        weight: (out, in / groups, k, k); its gradient is 1 between the outermost levels and 0 beyond.
        bits: 2 or more.
    """
    most = 2 ** (bits - 1) - 1
    step = 2 * weight.detach().abs().mean((1, 2, 3), keepdim=True) / most**0.5
    return _rounded(weight.clamp(-most * step, most * step), step)


def quantise_activations(x: Tensor, clip: Tensor, bits: int) -> Tensor:
    """Activations cut to [0, ``clip``] and rounded to ``2^bits`` levels; the clip learns (PACT, 1805.06085, section 3).

    Args:
        x: Any shape; its gradient is 1 between 0 and the clip and 0 beyond.
        clip: Scalar; its gradient is that of the values above it.
        bits: 1 or more.
    """
    clip = clip.clamp_min(0)
    return _rounded(torch.minimum(x.clamp_min(0), clip), clip.detach() / (2**bits - 1))


def _rounded(x: Tensor, step: Tensor) -> Tensor:
    """The nearest multiples of a step; the gradient passes straight through."""
    step = step.clamp_min(1e-7)  # weights or a clip of zero must not divide
    return x + ((x / step).round() * step - x).detach()


class QuantisedConv2d(nn.Conv2d):
    """A convolution without bias whose weights and inputs have few bits.

    Args:
        conv: The convolution that it takes the place of; its weight is taken over.
        bits: Bits of weights and of activations.
    """

    def __init__(self, conv: nn.Conv2d, bits: tuple[int, ...]) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,  # type: ignore[arg-type]
            conv.groups, bias=False, device=conv.weight.device, dtype=conv.weight.dtype,
        )  # fmt: skip
        self.weight = conv.weight
        self.weight_bits, self.act_bits = bits
        self.clip = nn.Parameter(torch.full((), FIRST_CLIP, device=conv.weight.device, dtype=conv.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W), not negative, to (N, out, H / stride, W / stride)."""
        x, weight = quantise_activations(x, self.clip, self.act_bits), quantise_weights(self.weight, self.weight_bits)
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """What the module prints beside its name."""
        return f"{super().extra_repr()}, weight_bits={self.weight_bits}, act_bits={self.act_bits}"  # type: ignore[no-untyped-call]


class Place(NamedTuple):
    """Where a searched convolution is."""

    module: nn.Module
    name: str

    @property
    def conv(self) -> Any:
        """The convolution."""
        return getattr(self.module, self.name)

    def put(self, conv: nn.Module) -> None:
        """Put another one there."""
        setattr(self.module, self.name, conv)


def basic_blocks(model: nn.Module) -> list[Any]:
    """The blocks of a ResNet of timm's, in running order."""
    stages: list[Any] = [stage for name, stage in model.named_children() if name.startswith("layer")]
    return [block for stage in stages for block in stage]


def searched_convolutions(model: nn.Module) -> list[Place]:
    """Where the searched convolutions of a ResNet of basic blocks are, in the order of ``QuantisedSpace``."""
    places = []
    for block in basic_blocks(model):
        places += [Place(block, "conv1"), Place(block, "conv2")]
        if block.downsample is not None:
            places.append(Place(block.downsample, "0"))
    return places
