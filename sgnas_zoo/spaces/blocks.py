"""What a network is made of, as plain data: costs count it, models build it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol


@dataclass(frozen=True)
class Conv:
    """One convolution or linear layer: all that a cost has to know.

    Args:
        in_chs: Input channels.
        out_chs: Output channels.
        kernel: Side of the square kernel.
        groups: Channel groups.
        bias: Whether it has a bias.
        norm: Whether an affine batch norm follows.
        at: Size of its output: that of the part's "input" or "output" map, or one "pixel" after pooling.
        linear: Whether it is the classifier, which tables of the papers leave out of their FLOPs.
        bits: Bits of its weights and of its input, where it is quantised; it then has a learned clip besides.
    """

    in_chs: int
    out_chs: int
    kernel: int = 1
    groups: int = 1
    bias: bool = False
    norm: bool = True
    at: Literal["input", "output", "pixel"] = "output"
    linear: bool = False
    bits: tuple[int, ...] = ()

    @property
    def weights(self) -> int:
        """Number of its weights, without a bias."""
        return self.kernel**2 * self.in_chs // self.groups * self.out_chs


class Operation(NamedTuple):
    """An operation of a part of a network, as memory sees it.

    Args:
        reads: Numbers of the maps that it reads: 0 is the input of the part, n the map that its n-th operation writes.
        elements: Numbers in the map that it writes; 0 where it overwrites the first of what it reads.
    """

    reads: tuple[int, ...]
    elements: int


def peak(elements: int, operations: Sequence[Operation]) -> int:
    """Most numbers in maps that are alive at once: 0 of a part that does nothing.

    One operation runs at a time, on the whole map. While it runs, what it reads and writes is alive, and what a later
    one reads; the input of the part is dropped like any other map.

    Args:
        elements: Numbers in the input of the part.
        operations: Its operations in running order.
    """
    sizes = [elements, *(operation.elements for operation in operations)]
    last = {read: at for at, operation in enumerate(operations) for read in operation.reads}
    return max(
        (sum(size for map_, size in enumerate(sizes[: at + 2]) if map_ == at + 1 or last.get(map_, -1) >= at)
         for at in range(len(operations))), default=0,
    )  # fmt: skip


class Block(Protocol):
    """A part of a network, as costs see it."""

    @property
    def stride(self) -> int:
        """Stride on the main feature map."""
        ...

    @property
    def in_chs(self) -> int:
        """Input channels."""
        ...

    def convs(self) -> tuple[Conv, ...]:
        """Its convolutions in running order."""
        ...

    def deployed(self) -> tuple[Conv, ...]:
        """Its convolutions in the deploy form, where those of a block that can be one are one."""
        ...

    def operations(self, size: int) -> list[Operation]:
        """What it does to an input of ``size`` x ``size``, batch 1, in the deploy form.

        Activations, sums and products with a gate overwrite what they read; norms and biases are part of convolutions.
        """
        ...


def strided(size: int, stride: int) -> int:
    """Side of the map that a part returns: padding makes it ``ceil(size / stride)``."""
    return -(-size // stride)


@dataclass(frozen=True)
class Fixed:
    """A part of the network that no choice changes: the stem or the head.

    Args:
        in_chs: Input channels.
        stride: Stride on the main feature map; without convolutions on it, that of a pooling.
        parts: The convolutions in running order.
        pools: Whether the map becomes one pixel, before the convolutions of that.
    """

    in_chs: int
    stride: int
    parts: tuple[Conv, ...]
    pools: bool = False

    def convs(self) -> tuple[Conv, ...]:
        """Its convolutions in running order."""
        return self.parts

    def deployed(self) -> tuple[Conv, ...]:
        """The same."""
        return self.parts

    def operations(self, size: int) -> list[Operation]:
        """One after the other."""
        area = strided(size, self.stride) ** 2
        maps = [conv.out_chs * area for conv in self.parts if conv.at != "pixel"]
        if not maps and self.stride > 1:
            maps = [self.in_chs * area]
        chs = next((conv.out_chs for conv in reversed(self.parts) if conv.at != "pixel"), self.in_chs)
        pixels = [conv.out_chs for conv in self.parts if conv.at == "pixel"]
        maps += [*([chs] if self.pools else []), *pixels]
        return [Operation((number,), elements) for number, elements in enumerate(maps)]


def head(in_chs: int, head_chs: int, num_classes: int, bias: bool = True) -> Fixed:
    """A 1 x 1 convolution, pooling, and a linear classifier, which ``num_classes=0`` leaves out as timm does."""
    convolution = Conv(in_chs, head_chs)
    classifier = Conv(head_chs, num_classes, bias=bias, norm=False, at="pixel", linear=True)
    return Fixed(in_chs, 1, (convolution, classifier) if num_classes else (convolution,), pools=True)
