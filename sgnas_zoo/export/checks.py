"""The original's outputs, and how far an exported file's are from them."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from sgnas_zoo.errors import ModelError
from sgnas_zoo.export.formats import Runner, readable
from sgnas_zoo.models.copying import copied

TOLERANCE = 1e-4
"""Relative to the largest absolute output. float32 carries 6e-8; after a hundred layers in another order of summation
1e-6 was measured, and a hundred times that is room for other processors. A wrong weight or layer is off by far more."""


def resolve_input_size(model: nn.Module, stated: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """Channels, height and width: as stated, or the model's own.

    Raises:
        ModelError: If what is stated is not a size, or nothing is stated and the model names none.
    """
    size: Any = stated
    if stated is None:
        cfg = getattr(model, "pretrained_cfg", None) or {}
        size = cfg.get("input_size")
        if size is None:
            raise ModelError(f"{type(model).__name__} names no input size; pass input_size=(3, 224, 224).")
        size = (getattr(model, "in_chans", size[0]), *size[1:])  # timm leaves 3 there whatever in_chans was
    if len(size) != 3 or not all(type(side) is int and side > 0 for side in size):
        raise ModelError(f"{size!r} is not an input size; pass channels, height and width, such as (3, 224, 224).")
    return (size[0], size[1], size[2])


def float32_on_cpu(model: nn.Module) -> nn.Module:
    """Copy a model to the CPU in evaluation mode.

    Raises:
        ModelError: If its weights are not float32, or it has none (meta device).
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_meta:
            raise ModelError("The model is on the meta device and has no weights; build it on the CPU.")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            name = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(f"The model is in {name}, and float32 is exported; pass model.float().")
    return copied(model).eval().requires_grad_(False).cpu()


def example(size: tuple[int, int, int], batch: int) -> Tensor:
    """Normal noise of shape (batch, channels, height, width), the same at every call."""
    return torch.randn(batch, *size, generator=torch.Generator().manual_seed(batch))


def run(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Outputs of the original.

    Raises:
        ModelError: If it cannot run on these images, or gives infinities or no numbers.
    """
    size = tuple(images.shape[1:])
    with (
        readable(f"{type(model).__name__} cannot run on inputs of {size}", "pass another input_size."),
        torch.no_grad(),
    ):
        outputs = flat(model(images))
    if not all(output.isfinite().all() for output in outputs):
        raise ModelError("The model's own outputs are not finite, so nothing can be compared; check its weights.")
    return outputs


def flat(outputs: Any) -> list[Tensor]:
    """Tensors of a tensor, or of a list, tuple or dict of them, in order."""
    if isinstance(outputs, Tensor):
        return [outputs]
    values = outputs.values() if isinstance(outputs, Mapping) else outputs
    return [tensor for value in values for tensor in flat(value)]


def check(
    runner: Runner, images: list[Tensor], expected: list[list[Tensor]], format: str, tolerance: float = TOLERANCE
) -> float:
    """Run an exported file and compare it with the original.

    Args:
        runner: Runs the file.
        images: Batches.
        expected: For each of them, the original's outputs.
        format: Name for the error message.
        tolerance: Largest error that is accepted; infinity where it is to be finite only.

    Returns:
        The largest difference relative to the largest absolute value of its output.

    Raises:
        ModelError: If it is above the tolerance, or outputs have other shapes or are not finite.
    """
    with torch.no_grad():
        worst = max(_error(flat(runner(batch)), outputs) for batch, outputs in zip(images, expected, strict=True))
    if worst > tolerance or worst == inf:
        raise ModelError(
            f"The exported {format} file is off by {worst:.1e} of the largest output, more than {tolerance:.0e}; "
            "it is not kept. Choose another format."
        )
    return worst


@torch.no_grad()
def agreement(runner: Runner, original: nn.Module, images: Tensor, batch: int) -> float | None:
    """Share of images for which a file names the class that the original names; None for maps of features.

    Args:
        runner: Runs the file.
        original: The network that it was made from.
        images: (N, channels, height, width).
        batch: Images that the file takes at once.
    """
    same = 0
    for some in torch.split(images, batch):
        ours, theirs = flat(runner(some)), flat(original(some))
        if len(ours) != 1 or ours[0].ndim != 2:
            return None
        same += int((ours[0].argmax(1) == theirs[0].argmax(1)).sum())
    return same / len(images)


def _error(outputs: list[Tensor], expected: list[Tensor]) -> float:
    """Infinity where the number of outputs or a shape differs, or an output is not finite."""
    if [output.shape for output in outputs] != [output.shape for output in expected]:
        return float("inf")
    errors = [
        ((output - wanted).abs().max() / wanted.abs().max().clamp(min=torch.finfo(torch.float32).tiny)).item()
        for output, wanted in zip(outputs, expected, strict=True)
    ]
    return max(error if error == error else float("inf") for error in errors)  # a NaN compares as nothing
