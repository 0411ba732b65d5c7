"""The unified block of SGNAS: one expansion, a choice of depthwise kernel per slot, one projection."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.spaces.arch import Picks
from sgnas_zoo.spaces.rows import Choice, Layer
from sgnas_zoo.supernet.depthwise import depthwise_conv
from sgnas_zoo.supernet.shares import Shares


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

    def __init__(self, chs: int, stride: int, kernels: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConvNorm(chs, chs, kernel, stride, chs) for kernel in kernels)


class Slots(nn.Module):
    """All slots of a layer."""

    def __init__(self, slots: int, chs: int, stride: int, kernels: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Slot(chs, stride, kernels) for _ in range(slots))


class Projection(nn.Module):
    """The 1 x 1 convolution at the end of a layer, whose norm is switchable and stands beside it."""

    def __init__(self, in_chs: int, out_chs: int) -> None:
        super().__init__()
        self.conv = convolution(in_chs, out_chs)


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
        self.kernels = [choice.adds.kernels[0] for choice in choices if choice.adds.kernels]
        self.residual = layer.keeps_shape
        self.act = act
        self.point_wise = ConvNorm(layer.in_chs, mid)
        self.depthwise = Slots(slots, layer.in_chs, layer.stride, self.kernels)
        self.point_wise_1 = Projection(mid, layer.out_chs)
        self.sbn = nn.ModuleList(nn.BatchNorm2d(layer.out_chs) for _ in range(slots))

    def forward(self, x: Tensor, picks: Picks) -> Tensor:
        """One path: map (N, in_chs, H, W) to (N, out_chs, H / stride, W / stride).

        Args:
            x: Input.
            picks: A choice index per slot; at least one is not a skip.
        """
        parts = []
        for choice in range(len(self.kernels)):
            slots = [slot for slot, pick in enumerate(picks) if pick == choice]
            if slots:
                parts.append(self._project(self._convolve(self._expand(x, slots), slots, choice), slots))
        return self._close(x, parts, sum(pick == len(self.kernels) for pick in picks))

    def relaxed(self, x: Tensor, shares: Shares) -> Tensor:
        """Every choice at once, weighted with its probability; shapes as in ``forward``.

        A choice of at most 0.01 is left out, and the norm is that of the rounded number of skips, as released.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        for slot in range(self.slots):
            groups.setdefault(shares.active(slot, range(len(self.kernels))), []).append(slot)
        parts = []
        for active, slots in groups.items():
            if active:
                wide = self._expand(x, slots)
                weights = shares.probs.repeat_interleave(self.chs, 0)[self.channels(slots, x.device)]
                weights = weights.t()[..., None, None]  # (choices, channels, 1, 1)
                mixed = weights[active[0]] * self._convolve(wide, slots, active[0])
                for choice in active[1:]:
                    mixed = torch.addcmul(mixed, weights[choice], self._convolve(wide, slots, choice))
                parts.append(self._project(mixed, slots))
        skipped = int(shares.told[:, len(self.kernels) :].sum().round())
        return self._close(x, parts, min(skipped, self.slots - 1))

    @torch.no_grad()
    def grow_kernels(self) -> None:
        """Give every slot's larger kernels the values of its smallest one: until trained they compute the same."""
        for slot in range(self.slots):
            smallest = self.candidate(slot, 0)
            for choice, kernel in enumerate(self.kernels[1:], 1):
                larger = self.candidate(slot, choice)
                frame = (kernel - self.kernels[0]) // 2
                larger.conv.weight.copy_(F.pad(smallest.conv.weight, (frame, frame, frame, frame)))
                larger.bn.load_state_dict(smallest.bn.state_dict())

    def candidate(self, slot: int, choice: int) -> ConvNorm:
        """Depthwise convolution and norm of a choice at a slot."""
        candidate: ConvNorm = self.depthwise.blocks[slot].blocks[choice]  # type: ignore[index, assignment]
        return candidate

    def channels(self, slots: Sequence[int], device: torch.device | None = None) -> Tensor:
        """Indices of the expanded channels of some slots."""
        return _channels(tuple(slots), self.chs, device or torch.device("cpu"))

    def _expand(self, x: Tensor, slots: Sequence[int]) -> Tensor:
        """The expanded channels of some slots."""
        index = self.channels(slots, x.device)
        norm = self.point_wise.bn
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, var = norm.running_mean[index], norm.running_var[index]
        affine = _Affine(mean, var, norm.weight[index], norm.bias[index], norm)
        wide = affine.after(F.conv2d, x, self.point_wise.conv.weight[index])
        if norm.training:
            norm.running_mean.index_copy_(0, index, mean)
            norm.running_var.index_copy_(0, index, var)
        out: Tensor = self.act(wide)
        return out

    def _convolve(self, x: Tensor, slots: Sequence[int], choice: int) -> Tensor:
        """Depthwise convolutions of one kernel on the channels of some slots, as one."""
        parts = [self.candidate(slot, choice) for slot in slots]
        norms = [part.bn for part in parts]
        means = [n.running_mean for n in norms if n.running_mean is not None]
        variances = [n.running_var for n in norms if n.running_var is not None]
        mean, var = torch.cat(means), torch.cat(variances)
        affine = _Affine(mean, var, torch.cat([n.weight for n in norms]), torch.cat([n.bias for n in norms]), norms[0])
        convolve = partial(depthwise_conv, stride=self.stride)
        x = affine.after(convolve, x, torch.cat([part.conv.weight for part in parts]))
        if norms[0].training:
            torch._foreach_copy_(means + variances, torch.cat([mean, var]).tensor_split(2 * len(slots)))
        out: Tensor = self.act(x)
        return out

    def _project(self, x: Tensor, slots: Sequence[int]) -> Tensor:
        """Project the channels of some slots: a linear layer, as a frozen one keeps no copy of its input."""
        weight = self.point_wise_1.conv.weight[:, self.channels(slots, x.device)].flatten(1)
        return F.linear(x.permute(0, 2, 3, 1), weight).permute(0, 3, 1, 2)

    def _close(self, x: Tensor, parts: Sequence[Tensor], skipped: int) -> Tensor:
        """Add up the projected parts, normalise for the number of skips, add the input."""
        out: Tensor = self.sbn[skipped](add_up(parts))
        return out + x if self.residual else out


def convolution(in_chs: int, out_chs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, "same" padding, initialised by its fan-out as timm's EfficientNets are."""
    conv = nn.Conv2d(in_chs, out_chs, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.normal_(conv.weight, std=math.sqrt(2 * groups / (kernel * kernel * out_chs)))
    return conv


class _Affine(NamedTuple):
    """A batch norm put together from parts of one or several: statistics, weights, and one that it behaves like."""

    mean: Tensor
    var: Tensor
    weight: Tensor
    bias: Tensor
    like: nn.BatchNorm2d

    def after(self, convolve: Callable[..., Tensor], x: Tensor, kernels: Tensor) -> Tensor:
        """Convolve, then normalise. In training the statistics are updated in place; in evaluation it is one step."""
        if self.like.training:
            assert self.like.momentum is not None, "calibrate what was inherited, not the supernet"
            x = convolve(x, kernels)
            return F.batch_norm(x, self.mean, self.var, self.weight, self.bias, True, self.like.momentum, self.like.eps)
        scale = self.weight * torch.rsqrt(self.var + self.like.eps)
        return convolve(x, kernels * scale[:, None, None, None], bias=self.bias - self.mean * scale)


@lru_cache(maxsize=4096)
@plain_torch()
def _channels(slots: tuple[int, ...], chs: int, device: torch.device) -> Tensor:
    """Indices (N,) of the channels of some slots of ``chs`` each, copied to a device once."""
    return torch.tensor([slot * chs + channel for slot in slots for channel in range(chs)], device=device)


def add_up(parts: Sequence[Tensor]) -> Tensor:
    """Sum of maps of one shape."""
    out = parts[0]
    for part in parts[1:]:
        out = out + part
    return out
