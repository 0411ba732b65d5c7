"""Depthwise convolution that is fast on small maps, and whose weight gradient is fast on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TILE = 3
"""Columns of a tile: the kernel whose weight gradient oneDNN computes fastest."""


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise ``nn.Conv2d`` without bias, "same" padding, that computes as ``depthwise_conv`` does."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H / stride, W / stride)."""
        return depthwise_conv(x, self.weight, self.stride[0])


def speed_up_depthwise(module: nn.Module) -> None:
    """Let the depthwise convolutions of a module compute as ``depthwise_conv`` does; weights stay as they are.

    Args:
        module: Any; only plain ``nn.Conv2d`` that ``DepthwiseConv2d`` can stand for are changed.
    """
    for part in module.modules():
        if type(part) is not nn.Conv2d or part.bias is not None or part.groups == 1:
            continue
        height, width = part.kernel_size
        same = part.padding == (height // 2, width // 2) and part.padding_mode == "zeros"
        square = height == width and height % 2 == 1 and part.stride[0] == part.stride[1]
        if part.in_channels == part.out_channels == part.groups and same and square and part.dilation == (1, 1):
            part.__class__ = DepthwiseConv2d  # a new one would draw weights, and so change those drawn after it


def restore_depthwise(module: nn.Module) -> None:
    """Undo ``speed_up_depthwise``: what counts or exports a network knows plain convolutions only."""
    for part in module.modules():
        if type(part) is DepthwiseConv2d:
            part.__class__ = nn.Conv2d  # type: ignore[assignment]


def depthwise_conv(x: Tensor, weight: Tensor, stride: int, bias: Tensor | None = None) -> Tensor:
    """Convolve every channel with a kernel of its own, "same" padding.

    On a CPU, what of a kernel only ever meets the border is left out: on a map of 2 pixels, 3 of 7 rows are left.

    Args:
        x: (N, C, H, W).
        weight: (C, 1, k, k), k odd.
        stride: Stride.
        bias: (C,), or none.
    """
    device = x.device.type
    weight = _core(weight, max(x.shape[-2:])) if device == "cpu" else weight
    size = weight.shape[-1]
    learns = weight.requires_grad and torch.is_grad_enabled()
    tiled = device == "cpu" and learns and bias is None and _tiles_are_faster(x, weight, stride)
    if not tiled and size > 1:
        return F.conv2d(x, weight, bias, stride, size // 2, groups=len(weight))
    casts = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)  # "meta" has none
    if casts:  # torch does so for its own convolutions alone
        x, weight = (tensor.to(torch.get_autocast_dtype(device)) for tensor in (x, weight))
    if tiled:
        return _TiledDepthwise.apply(x, weight, stride)  # type: ignore[no-any-return]
    out = x[..., ::stride, ::stride] * weight.view(-1, 1, 1)
    return out if bias is None else out + bias.to(out.dtype).view(-1, 1, 1)


def _core(weight: Tensor, side: int) -> Tensor:
    """The middle of kernels (C, 1, k, k): what reaches from one pixel of a map to another, for a map of a side."""
    beyond = weight.shape[-1] // 2 - (side - 1)
    return weight[..., beyond:-beyond, beyond:-beyond] if beyond > 0 else weight


def _tiles_are_faster(x: Tensor, weight: Tensor, stride: int) -> bool:
    """Measured: 4 to 28 times where the kernel is wider than the map, for which oneDNN has no depthwise routine.

    Else up to 1.5 times with stride 1, and slower with stride 2 or kernels of 3.
    """
    size = weight.shape[-1]
    return size > 1 and (size > min(x.shape[-2:]) or (size > TILE and stride == 1))


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
