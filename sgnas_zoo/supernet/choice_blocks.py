"""The choice-block supernet: per layer one whole block for each choice (SPOS, GreedyNAS)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgnas_zoo.errors import SpaceError
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.models.shufflenet import ShuffleBlock
from sgnas_zoo.spaces import Arch, SearchSpace, Shuffle, ShuffleSpace
from sgnas_zoo.supernet.layer import DROPPED, add_up
from sgnas_zoo.supernet.paths import check_path


class ChoiceSupernet(nn.Module):
    """Supernet whose layers hold a block per choice (SPOS, 1904.00420, section 3; GreedyNAS, 2003.11236, section 3).

    It is put together from stand-alone networks that take the same choice in every layer, so a path of it *is* a
    stand-alone network, and what it hands down needs no translation. Where a second slot decides the width of a
    shuffle block, a path works on the first channels of the widest one. Unlike those of the released SPOS code, its
    batch norms are affine. No active architecture is kept on the module: it is an argument of every pass.

    Args:
        space: A space of one slot per layer, or of blocks and widths.
        num_classes: Classes; by default the space's.
        in_chans: Input channels.
        zero_init_last: Start the norms at the end of residual blocks at 0, so that these begin as the identity.

    Raises:
        SpaceError: If the layers of the space have slots that are no block and no width.
    """

    def __init__(
        self, space: SearchSpace, num_classes: int | None = None, in_chans: int = 3, *, zero_init_last: bool = False
    ) -> None:
        super().__init__()
        self.space, self.in_chans = space, in_chans
        self.num_classes = space.num_classes if num_classes is None else num_classes
        if space.slots > 1 and not isinstance(space, ShuffleSpace):
            raise SpaceError(
                f"A choice supernet of {space.name} is not possible: a layer has several slots. Train a unified one, "
                "whose slots are expansions."
            )
        kinds = [i for i, choice in enumerate(space.choices) if choice.kernels]
        networks: list[Any] = [self._uniform(kind, 0 if i else self.num_classes) for i, kind in enumerate(kinds)]
        blocks = [[block for stage in network.blocks for block in stage] for network in networks]
        first = len(blocks[0]) - len(space.layers)
        trunk = networks[0]
        self.conv_stem, self.bn1 = trunk.conv_stem, trunk.bn1
        self.first = nn.Sequential(*blocks[0][:first])
        self.layers = nn.ModuleList(
            nn.ModuleDict({str(kind): own[first + i] for kind, own in zip(kinds, blocks, strict=True)})
            for i in range(len(space.layers))
        )
        self.conv_head, self.bn2 = trunk.conv_head, trunk.bn2
        self.global_pool, self.classifier = trunk.global_pool, trunk.classifier
        residual: list[Any] = [block for block in self.layers.modules() if getattr(block, "has_skip", False)]
        for block in residual if zero_init_last else ():
            nn.init.zeros_(block.bn3.weight)

    def forward(self, x: Tensor, path: Arch | Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_chans, H, W).

        Args:
            x: Images.
            path: An architecture: only its blocks run. Or probabilities (layers, slots, choices): every block runs,
                and their outputs are added up by these; widths become weights of channels.

        Raises:
            ArchError: If the path is of another space.
        """
        check_path(self.space, path)
        x = self.first(self.bn1(self.conv_stem(x.contiguous(memory_format=torch.channels_last))))
        if isinstance(path, Arch):
            for number, picks in enumerate(path.picks):
                x = self._run(number, picks[0], x, self.width(number, picks))
        else:
            for number, probs in enumerate(path):
                x = self._relaxed(number, x, probs)
        logits: Tensor = self.classifier(self.global_pool(self.bn2(self.conv_head(x))))
        return logits

    def block(self, number: int, choice: int) -> Any:
        """The block of a choice in a layer."""
        return self.layers[number][str(choice)]  # type: ignore[index]

    def width(self, number: int, picks: tuple[int, ...]) -> int | None:
        """Channels inside a shuffle block, where a second slot decides them."""
        if self.space.slots == 1:
            return None
        block = self.space.block(number, self.space.variant(picks), "search")
        assert isinstance(block, Shuffle)
        return block.mid_chs

    def _uniform(self, kind: int, num_classes: int) -> nn.Module:
        """The network that takes a choice wherever it may, as wide as it gets."""
        space = self.space
        widest = max(range(len(space.choices)), key=lambda i: space.choices[i].scale)
        arch = space.arch([[kind, widest][: space.slots] for _ in space.layers])
        return build_model(space.family, arch, "search", num_classes=num_classes, in_chans=self.in_chans)

    def _relaxed(self, number: int, x: Tensor, probs: Tensor) -> Tensor:
        """All blocks of a layer, weighted with ``probs`` (slots, choices); shapes as in ``_run``."""
        width, mask = None, None
        if self.space.slots > 1:
            scales = self.space.layers[number].allowed[1]
            widths = torch.tensor([self.width(number, (0, scale)) for scale in scales], device=x.device)
            width = int(widths.max())
            inside = torch.arange(width, device=x.device) < widths[:, None]
            mask = probs[1, list(scales)] @ inside.to(probs.dtype)
        allowed = self.space.layers[number].allowed[0]
        active = [choice for choice in allowed if probs[0, choice].detach() > DROPPED]
        return add_up([self._run(number, choice, x, width, mask) * probs[0, choice] for choice in active])

    def _run(self, number: int, choice: int, x: Tensor, width: int | None, mask: Tensor | None = None) -> Tensor:
        """One block: map (N, in_chs, H, W) to (N, out_chs, H / stride, W / stride)."""
        if choice == self.space.skip:
            return x
        block = self.block(number, choice)
        out: Tensor = block(x) if width is None else _narrow(block, x, width, mask)
        return out


def narrowed(block: ShuffleBlock, width: int) -> dict[str, Tensor]:
    """The state dict of a shuffle block that is narrower inside: the first channels of this one."""
    state = {f"branch_proj.{name}": tensor for name, tensor in block.branch_proj.state_dict().items()}
    for name, step in _steps(block, width).items():
        for key, tensor in step.module.state_dict().items():
            if tensor.ndim == 4:
                tensor = tensor[: step.chs_out, : 1 if step.module.groups > 1 else step.chs_in]
            state[f"branch_main.{name}.{key}"] = tensor[: step.chs_out] if tensor.ndim == 1 else tensor
    return state


def _narrow(block: ShuffleBlock, x: Tensor, width: int, mask: Tensor | None = None) -> Tensor:
    """A shuffle block of which only the first ``width`` channels inside work, each weighted with ``mask`` if given."""
    kept, worked = (x[:, ::2], x[:, 1::2]) if block.splits else (block.branch_proj(x), x)
    steps = _steps(block, width)
    for name, module in block.branch_main.named_children():
        step = steps.get(name)
        if step is None:
            worked = module(worked)
        elif isinstance(module, nn.Conv2d):
            depthwise = module.groups > 1
            weight = module.weight[: step.chs_out, : 1 if depthwise else step.chs_in]
            groups = step.chs_out if depthwise else 1
            worked = F.conv2d(worked, weight, None, module.stride, module.padding, module.dilation, groups)
        else:
            worked = _norm(module, worked, step.chs_out)
            worked = worked * mask[:, None, None] if mask is not None and step.inside else worked
    return torch.cat([kept, block.drop_path(worked)], 1)


def _norm(norm: Any, x: Tensor, chs: int) -> Tensor:
    """Batch norm with the first channels of a wider one, whose statistics it updates in training."""
    return F.batch_norm(
        x, norm.running_mean[:chs], norm.running_var[:chs], norm.weight[:chs], norm.bias[:chs], norm.training,
        norm.momentum, norm.eps,
    )  # fmt: skip


class _Step(NamedTuple):
    """A convolution or norm of the main branch at a width: its channels, and whether the output is inside."""

    module: Any
    chs_in: int
    chs_out: int
    inside: bool


def _steps(block: ShuffleBlock, width: int) -> dict[str, _Step]:
    """Convolutions and norms of the main branch by name."""
    convs = [m for m in block.branch_main if isinstance(m, nn.Conv2d)]
    found: dict[str, _Step] = {}
    chs, inside = convs[0].in_channels, False
    for name, module in block.branch_main.named_children():
        if isinstance(module, nn.Conv2d):
            before = chs
            if module.groups == 1:
                inside = module is not convs[-1]
                chs = width if inside else module.out_channels
            found[name] = _Step(module, before, chs, inside)
        elif isinstance(module, nn.BatchNorm2d):
            found[name] = _Step(module, chs, chs, inside)
    return found
