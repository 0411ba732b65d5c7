"""The unified block of SGNAS: one expansion, a choice of depthwise kernel per slot, one projection."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgnas_zoo.spaces.arch import Picks
from sgnas_zoo.spaces.space import Layer
from sgnas_zoo.spaces.variants import Choice
from sgnas_zoo.supernet.depthwise import depthwise_conv

DROPPED = 0.01
"""Choices at most this probable are left out of the relaxed pass, as released."""


class ConvNorm(nn.Module):
    """A convolution with "same" padding and the batch norm behind it."""

    def __init__(self, in_chs: int, out_chs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = convolution(in_chs, out_chs, kernel, stride, groups)
        self.bn = nn.BatchNorm2d(out_chs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_chs, H, W) to (N, out_chs, H / stride, W / stride)."""
        out: Tensor = self.bn(self.conv(x))
        return out


class Slot(nn.Module):
    """The depthwise candidates of one expansion group; a skip has none."""

    def __init__(self, chs: int, stride: int, choices: Sequence[Choice]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConvNorm(chs, chs, c.kernels[0], stride, chs) for c in choices if c.kernels)


class Slots(nn.Module):
    """All slots of a layer."""

    def __init__(self, slots: int, chs: int, stride: int, choices: Sequence[Choice]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Slot(chs, stride, choices) for _ in range(slots))

    def candidate(self, slot: int, choice: int) -> ConvNorm:
        """Convolution and norm of a choice at a slot."""
        candidate: ConvNorm = self.blocks[slot].blocks[choice]  # type: ignore[union-attr, index, assignment]
        return candidate


class UnifiedLayer(nn.Module):
    """A searched layer with every choice in it (arXiv 2103.07289, unified block; names as released).

    Skipped slots vanish: their channels are neither expanded nor projected. The norm behind the projection is
    switchable: one per number of skipped slots.

    Args:
        layer: Widths and stride.
        slots: Slots per layer.
        choices: One kernel each, the skip last.
        act: The activation behind expansion and depthwise convolution.
    """

    def __init__(self, layer: Layer, slots: int, choices: Sequence[Choice], act: nn.Module) -> None:
        super().__init__()
        mid = slots * layer.in_chs
        self.chs, self.slots, self.stride = layer.in_chs, slots, layer.stride
        self.kernels = [choice.kernels[0] for choice in choices if choice.kernels]
        self.residual = layer.stride == 1 and layer.in_chs == layer.out_chs
        self.act = act
        self.point_wise = ConvNorm(layer.in_chs, mid)
        self.depthwise = Slots(slots, layer.in_chs, layer.stride, choices)
        self.point_wise_1 = nn.Sequential()
        self.point_wise_1.conv = convolution(mid, layer.out_chs)
        self.sbn = nn.ModuleList(nn.BatchNorm2d(layer.out_chs) for _ in range(slots))

    def forward(self, x: Tensor, picks: Picks) -> Tensor:
        """One path: map (N, in_chs, H, W) to (N, out_chs, H / stride, W / stride) with a choice index per slot."""
        out = None
        for choice in range(len(self.kernels)):
            slots = [slot for slot, pick in enumerate(picks) if pick == choice]
            if slots:
                part = self._project(self._depthwise(self._expand(x, slots), slots, choice), slots)
                out = part if out is None else out + part
        skipped = sum(pick == len(self.kernels) for pick in picks)
        return self._close(x, out, skipped)

    def relaxed(self, x: Tensor, probs: Tensor) -> Tensor:
        """Every choice at once, weighted with ``probs`` (slots, choices)."""
        weights = probs.detach()
        out = None
        groups: dict[tuple[int, ...], list[int]] = {}
        for slot in range(self.slots):
            active = tuple(c for c in range(len(self.kernels)) if weights[slot, c] > DROPPED)
            groups.setdefault(active, []).append(slot)
        for active, slots in groups.items():
            if not active:
                continue
            wide = self._expand(x, slots)
            mixed = None
            for choice in active:
                share = probs[slots, choice].repeat_interleave(self.chs)[:, None, None]
                part = self._depthwise(wide, slots, choice) * share
                mixed = part if mixed is None else mixed + part
            part = self._project(mixed, slots)
            out = part if out is None else out + part
        skipped = int(weights[:, len(self.kernels) :].sum().round())
        return self._close(x, out, min(skipped, self.slots - 1))

    def _expand(self, x: Tensor, slots: Sequence[int]) -> Tensor:
        index = self.channels(slots, x.device)
        conv, norm = self.point_wise.conv, self.point_wise.bn
        wide = F.conv2d(x, conv.weight[index])
        mean, var = norm.running_mean[index], norm.running_var[index]
        wide = F.batch_norm(wide, mean, var, norm.weight[index], norm.bias[index], norm.training, norm.momentum, norm.eps)
        if norm.training:
            norm.running_mean.index_copy_(0, index, mean)
            norm.running_var.index_copy_(0, index, var)
        return self.act(wide)

    def _depthwise(self, x: Tensor, slots: Sequence[int], choice: int) -> Tensor:
        parts = [self.depthwise.candidate(slot, choice) for slot in slots]
        norms = [part.bn for part in parts]
        x = depthwise_conv(x, torch.cat([part.conv.weight for part in parts]), self.stride)
        mean, var = (torch.cat([getattr(n, name) for n in norms]) for name in ("running_mean", "running_var"))
        weight, bias = torch.cat([n.weight for n in norms]), torch.cat([n.bias for n in norms])
        first = norms[0]
        x = F.batch_norm(x, mean, var, weight, bias, first.training, first.momentum, first.eps)
        if first.training:
            for norm, m, v in zip(norms, mean.split(self.chs), var.split(self.chs), strict=True):
                norm.running_mean.copy_(m)
                norm.running_var.copy_(v)
        return self.act(x)

    def _project(self, x: Tensor, slots: Sequence[int]) -> Tensor:
        return F.conv2d(x, self.point_wise_1.conv.weight[:, self.channels(slots, x.device)])

    def _close(self, x: Tensor, out: Tensor, skipped: int) -> Tensor:
        out = self.sbn[skipped](out)
        return out + x if self.residual else out

    def channels(self, slots: Sequence[int], device: torch.device | None = None) -> Tensor:
        """Indices of the expanded channels of some slots."""
        start = torch.tensor(slots, device=device)[:, None] * self.chs
        return (start + torch.arange(self.chs, device=device)).flatten()


def convolution(in_chs: int, out_chs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, "same" padding, initialised by its fan-out as timm's EfficientNets are."""
    conv = nn.Conv2d(in_chs, out_chs, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.normal_(conv.weight, std=math.sqrt(2 * groups / (kernel * kernel * out_chs)))
    return conv
