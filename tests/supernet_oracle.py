"""A unified supernet as plain as the paper puts it: slow, whole, and the measure for the fast one.

Every layer expands all channels, hands each slot its own share of them, runs whole candidates, puts the slots back side
by side and projects all of it. Parameters and buffers have the released names, so states copy as they are.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = {"relu": F.relu, "relu6": F.relu6, "hard_swish": F.hardswish}
LEAST = 0.01


def convolve(in_chs, out_chs, kernel=1, stride=1, groups=1):
    return nn.Conv2d(in_chs, out_chs, kernel, stride, kernel // 2, groups=groups, bias=False)


class Unit(nn.Module):
    """A convolution and its norm."""

    def __init__(self, *shape):
        super().__init__()
        self.conv = convolve(*shape)
        self.bn = nn.BatchNorm2d(self.conv.out_channels)

    def forward(self, x):
        return self.bn(self.conv(x))


class Listed(nn.Module):
    """Parts under the name ``blocks``."""

    def __init__(self, parts):
        super().__init__()
        self.blocks = nn.ModuleList(parts)


class OracleLayer(nn.Module):
    """Picks count through the kernels; the number after them is the skip."""

    def __init__(self, in_chs, out_chs, stride, kernels, slots, act):
        super().__init__()
        self.in_chs, self.stride, self.slots, self.act = in_chs, stride, slots, act
        self.skip = len(kernels)
        self.keeps_shape = stride == 1 and in_chs == out_chs
        self.point_wise = Unit(in_chs, slots * in_chs)
        self.depthwise = Listed(
            Listed(Unit(in_chs, in_chs, kernel, stride, in_chs) for kernel in kernels) for _ in range(slots)
        )
        self.point_wise_1 = nn.Module()
        self.point_wise_1.conv = convolve(slots * in_chs, out_chs)
        self.sbn = nn.ModuleList(nn.BatchNorm2d(out_chs) for _ in range(slots))

    def forward(self, x, picks):
        shares = self.act(self.point_wise(x)).chunk(self.slots, 1)
        parts = [
            self.nothing(share) if pick == self.skip else self.run(slot, pick, share)
            for slot, (pick, share) in enumerate(zip(picks, shares, strict=True))
        ]
        return self.project(x, parts, list(picks).count(self.skip))

    def relaxed(self, x, probs):
        shares = self.act(self.point_wise(x)).chunk(self.slots, 1)
        parts = []
        for slot, share in enumerate(shares):
            part = self.nothing(share)
            for choice in range(self.skip):
                if probs[slot, choice].item() > LEAST:
                    part = part + probs[slot, choice] * self.run(slot, choice, share)
            parts.append(part)
        return self.project(x, parts, round(probs[:, self.skip].sum().item()))

    def run(self, slot, choice, share):
        return self.act(self.depthwise.blocks[slot].blocks[choice](share))

    def nothing(self, share):
        return torch.zeros_like(share[..., :: self.stride, :: self.stride])

    def project(self, x, parts, skipped):
        out = self.sbn[skipped](self.point_wise_1.conv(torch.cat(parts, 1)))
        return out + x if self.keeps_shape else out


class OracleSupernet(nn.Module):
    """Takes choice numbers (layers, slots), or probabilities (layers, slots, choices) as a floating tensor."""

    def __init__(self, space, num_classes=None, in_chans=3):
        super().__init__()
        form = space.search or space.final
        self.act, inner = ACTIVATIONS[form.stem_act], ACTIVATIONS[form.block_act]
        kernels = [kernel for choice in space.choices for kernel in choice.adds.kernels]
        self.first = Unit(in_chans, space.stem_chs, 3, space.stem_stride)
        self.first_mb = nn.Module()
        self.first_mb.depthwise = Listed([convolve(space.stem_chs, space.stem_chs, 3, 1, space.stem_chs)])
        self.first_mb.depthwise.bn = nn.BatchNorm2d(space.stem_chs)
        self.first_mb.point_wise_1 = Unit(space.stem_chs, space.first_chs)
        self.inner, self.first_keeps = inner, space.stem_chs == space.first_chs
        self.stages = nn.ModuleList()
        in_chs = space.first_chs
        for row in space.rows:
            for repeat in range(row.repeats):
                stride = 1 if repeat else row.stride
                self.stages.append(OracleLayer(in_chs, row.out_chs, stride, kernels, space.slots, inner))
                in_chs = row.out_chs
        self.last_stage = nn.Sequential(convolve(in_chs, space.head_chs), nn.BatchNorm2d(space.head_chs))
        self.classifier = nn.Linear(space.head_chs, space.num_classes if num_classes is None else num_classes)

    def forward(self, x, path):
        x = self.act(self.first(x))
        wide = self.inner(self.first_mb.depthwise.bn(self.first_mb.depthwise.blocks[0](x)))
        narrow = self.first_mb.point_wise_1(wide)
        x = narrow + x if self.first_keeps else narrow
        relaxed = torch.is_tensor(path) and path.is_floating_point()
        for layer, decision in zip(self.stages, path, strict=True):
            x = layer.relaxed(x, decision) if relaxed else layer(x, [int(pick) for pick in decision])
        return self.classifier(F.adaptive_avg_pool2d(self.act(self.last_stage(x)), 1).flatten(1))
