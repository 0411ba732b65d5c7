"""Which layers of a network suffer most from int8, measured one by one in torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sgnas_zoo.errors import ModelError
from sgnas_zoo.export.checks import flat
from sgnas_zoo.models.quantised import QuantisedConv2d

LAYERS = (nn.Conv2d, nn.Linear)
SENSITIVITY_IMAGES = 64
"""The noise of a layer is a mean over all outputs of so many images."""


def check_images(images: Tensor, size: tuple[int, int, int]) -> None:
    """Refuse calibration images that the network does not see.

    Raises:
        ModelError: If there are none, or they have other channels or another side.
    """
    if images.ndim != 4 or not len(images) or tuple(images.shape[1:]) != size:
        raise ModelError(
            f"Calibration images of shape {tuple(images.shape)} do not fit a network that sees {size}; "
            "pass some of shape (N, channels, height, width)."
        )
    if not images.is_floating_point() or not images.isfinite().all():
        raise ModelError("Calibration images have to be finite floats, normalised as in training; prepare them so.")


def _check_layers(model: nn.Module, kept: int) -> None:
    """Refuse networks whose weights have fewer bits already, and more float layers than there are.

    Raises:
        ModelError: If it is such a network, or it has too few layers.
    """
    if any(isinstance(module, QuantisedConv2d) for module in model.modules()):
        raise ModelError("This network rounds its weights to few bits itself; export it without int8.")
    count = sum(isinstance(module, LAYERS) for module in model.modules())
    if not 0 <= kept <= count:
        raise ModelError(f"Cannot keep {kept} layers in float32: the network has {count}; choose from 0 to {count}.")


@torch.no_grad()
def sensitivities(model: nn.Module, images: Tensor) -> dict[str, float]:
    """What int8 in one layer alone does to a network's outputs.

    A layer's weights are rounded per output channel and its input per tensor, over the range that the images give.

    Args:
        model: The deploy form.
        images: Calibration images (N, channels, height, width); the first of them are used.

    Returns:
        For each convolution and linear layer, by its name in the model: the mean square of the change of the outputs,
        relative to the mean square of the outputs. The most sensitive comes first.
    """
    images = images[:SENSITIVITY_IMAGES]
    expected = flat(model(images))
    power = sum(float(output.square().mean()) for output in expected) or 1.0
    found = {}
    for name, layer in model.named_modules():
        if isinstance(layer, LAYERS):
            with _rounded(layer):
                outputs = flat(model(images))
            noise = sum(float((a - b).square().mean()) for a, b in zip(outputs, expected, strict=True))
            found[name] = noise / power
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def most_sensitive(model: nn.Module, images: Tensor, count: int) -> Mapping[str, float]:
    """The layers that int8 costs most, with what it costs; arguments and values as for ``sensitivities``.

    Raises:
        ModelError: If the network rounds its weights itself, or has fewer layers.
    """
    _check_layers(model, count)
    return dict([*sensitivities(model, images).items()][:count]) if count else {}


@contextmanager
def _rounded(layer: Any) -> Iterator[None]:
    """For the length of a ``with`` block, a layer computes with rounded weights and a rounded input."""
    weight = layer.weight.data
    steps = weight.abs().amax(tuple(range(1, weight.ndim))).clamp(min=torch.finfo(torch.float32).tiny) / 127
    zeros = torch.zeros_like(steps, dtype=torch.int32)
    hook = layer.register_forward_pre_hook(lambda _, inputs: (_rounded_input(inputs[0]),))
    layer.weight.data = torch.fake_quantize_per_channel_affine(weight, steps, zeros, 0, -127, 127)
    try:
        yield
    finally:
        layer.weight.data = weight
        hook.remove()


def _rounded_input(images: Tensor) -> Tensor:
    low, high = min(float(images.min()), 0.0), max(float(images.max()), 0.0)
    step = (high - low) / 255 or 1.0
    return torch.fake_quantize_per_tensor_affine(images, step, round(-low / step), 0, 255)
