"""Memory and flash of any built model, from its deploy form, by the execution model of ``costs/memory.py``."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sgnas_zoo.costs.memory import BYTES, WORD, weight_bytes
from sgnas_zoo.costs.table import DEFAULT_PRECISION, Precision
from sgnas_zoo.errors import ModelError
from sgnas_zoo.models.copying import copied
from sgnas_zoo.models.deploy import deploy
from sgnas_zoo.models.quantised import QuantisedConv2d
from sgnas_zoo.plain_torch import plain_torch

aten: Any = torch.ops.aten
NORMS = (aten.native_batch_norm.default, aten._native_batch_norm_legit_no_training.default, aten.batch_norm.default)
"""What overwrites its input although torch does not call it pointwise."""


@plain_torch()
def count_memory(model: nn.Module, resolution: int, in_chans: int = 3, precision: Precision = DEFAULT_PRECISION) -> int:
    """Bytes of the activations that are alive at once, at most, while one image passes.

    Args:
        model: Any model of images; it is copied, not changed.
        resolution: Side of the square input in pixels.
        in_chans: Input channels.
        precision: Number format of the activations.
    """
    ghost, image = _deployed(model), torch.empty(1, in_chans, resolution, resolution, device="meta")
    with torch.no_grad(), _Trace(image) as trace:
        ghost(image)
    peak: int = trace.peak() * BYTES[precision]
    return peak


@plain_torch()
def count_flash(model: nn.Module, precision: Precision = DEFAULT_PRECISION) -> int:
    """Bytes of the weights.

    Args:
        model: Any model; it is copied, not changed.
        precision: Number format of the weights of convolutions and linear layers.
    """
    form, total = _deployed(model), 0
    counted: set[int] = set()
    for module in form.modules():
        own = {id(tensor) for tensor in module.parameters(recurse=False)}
        if own <= counted:
            continue
        counted |= own
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight, bits = module.weight, getattr(module, "bits", ())
            bias = module.bias is not None
            total += weight_bytes(weight.numel(), len(weight), precision, bias=bias, bits=bits)
        else:
            each = WORD if precision == "int8" else BYTES[precision]
            total += sum(tensor.numel() for tensor in module.parameters(recurse=False)) * each
    return total


def _deployed(model: nn.Module) -> nn.Module:
    """The deploy form on the meta device, in which convolutions that round are plain ones with a note of their bits."""
    plain = copied(model).to("meta").float().eval()
    for module in plain.modules():
        for name, conv in module.named_children():
            if isinstance(conv, QuantisedConv2d):
                setattr(module, name, _plain(conv))
    try:
        return deploy(plain)
    except ModelError:  # one that cannot be traced is counted as it is
        return plain


def _plain(conv: Any) -> nn.Conv2d:
    """A convolution of the same weights that does not round."""
    with torch.device("meta"):
        made: Any = nn.Conv2d(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,
            conv.groups, bias=False,
        )  # fmt: skip
    made.weight, made.bits = conv.weight, (conv.weight_bits, conv.act_bits)
    return made  # type: ignore[no-any-return]


class _Done(NamedTuple):
    """An operation: numbers of the maps that it reads, that of the map it writes, and whether it works in place."""

    reads: tuple[int, ...]
    writes: int
    pointwise: bool


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Notes every operation on maps of one pass: weights are not maps.

    Args:
        image: The input.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes, self.done = [image.numel()], list[_Done]()
        self._tensors = [image]  # kept: what is freed would lend its id to another
        self._maps = {id(image): 0}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note it."""
        out = func(*args, **(kwargs or {}))
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and id(leaf) in self._maps]
        written = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if read and written:  # of several results the first is the map: statistics and indices are not kept
            alias = func.is_view and not _skips(func, args)
            self._note(func, alias, [self._maps[id(tensor)] for tensor in read], written[0])
        return out

    def _note(self, func: Any, alias: bool, reads: list[int], out: Tensor) -> None:
        if id(out) in self._maps:  # in place
            self.done.append(_Done(tuple(reads), self._maps[id(out)], True))
            return
        self._tensors.append(out)
        if alias:
            self._maps[id(out)] = reads[0]
            return
        self._maps[id(out)] = len(self.sizes)
        self.sizes.append(out.numel())
        pointwise = torch.Tag.pointwise in func.tags or func in NORMS
        self.done.append(_Done(tuple(reads), len(self.sizes) - 1, pointwise))

    def peak(self) -> int:
        """Most elements alive at once; a pointwise operation takes over the place of what nobody reads after it."""
        last = {read: at for at, done in enumerate(self.done) for read in done.reads}
        places = {0: 0}
        for at, done in enumerate(self.done):
            free = (r for r in done.reads if last[r] == at and self.sizes[r] == self.sizes[done.writes])
            over = next(free, None) if done.pointwise else None
            places.setdefault(done.writes, done.writes if over is None else places[over])
        until: dict[int, int] = {}
        since = {0: 0}
        for at, done in enumerate(self.done):
            since.setdefault(places[done.writes], at)
            for map_ in (*done.reads, done.writes):
                until[places[map_]] = max(at, until.get(places[map_], 0))
        alive = [0] * len(self.done)
        for place, end in until.items():
            for at in range(since[place], end + 1):
                alive[at] += self.sizes[place]
        return max(alive, default=0)


def _skips(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether a view takes every other channel or pixel, which runtimes copy."""
    return func is aten.slice.Tensor and len(args) > 4 and args[4] != 1
