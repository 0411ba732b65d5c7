"""Depthwise convolution whose weight gradient is also fast on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

TILE = 3
"""Widest kernel whose weight gradient oneDNN computes with its depthwise routine; wider ones fall to a dense one."""


def depthwise_conv(x: Tensor, weight: Tensor, stride: int, bias: Tensor | None = None) -> Tensor:
    """Convolve every channel with a kernel of its own, "same" padding.

    Args:
        x: (N, C, H, W).
        weight: (C, 1, k, k), k odd.
        stride: Stride.
        bias: (C,), or none.
    """
    learns = weight.requires_grad and torch.is_grad_enabled()
    if x.device.type == "cpu" and weight.shape[-1] > TILE and learns and bias is None:
        if torch.is_autocast_enabled("cpu"):  # its backward is our own, and nobody casts in there
            x, weight = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in (x, weight))
        return _TiledDepthwise.apply(x, weight, stride)  # type: ignore[no-any-return]
    return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=len(weight))


class _TiledDepthwise(torch.autograd.Function):
    """Forward and input gradient are torch's; the weight gradient is put together from three-column kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, _ = ctx.needs_input_grad
        pad = weight.shape[-1] // 2
        grad = grad.contiguous(memory_format=torch.channels_last)
        dx = _gradients(grad, x, weight, ctx.stride, pad, (True, False))[0] if wants_x else None
        return dx, _weight_gradient(grad, x, weight, ctx.stride) if wants_weight else None, None


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Gradient of the kernels, in column tiles: each is the weight gradient of a narrow kernel on a shifted input."""
    size = weight.shape[-1]
    pad, columns = size // 2, -(-size // TILE) * TILE
    height, width = ((n - 1) * stride for n in grad.shape[-2:])
    padded = F.pad(x, (pad, width + columns - pad - x.shape[-1], pad, height + size - pad - x.shape[-2]))
    tile = weight.new_empty((len(weight), 1, size, TILE))
    tiles = []
    for left in range(0, columns, TILE):
        shifted = padded[..., left : left + width + TILE].contiguous(memory_format=torch.channels_last)
        tiles.append(_gradients(grad, shifted, tile, stride, 0, (False, True))[1])
    return torch.cat(tiles, -1)[..., :size]


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, pad: int, mask: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], len(weight), [*mask, False]
    )
    return found[0], found[1]
