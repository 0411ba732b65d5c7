"""From a PIL image to a network's input, for training and for measuring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from PIL import Image
from timm.data import create_transform
from timm.data.transforms import MaybeToTensor, str_to_interp_mode
from torch import Tensor
from torchvision import transforms  # type: ignore[import-untyped]

from sgnas_zoo.errors import DataError

Transform = Callable[[Image.Image], Tensor]


def train_transform(
    size: int,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    scale: tuple[float, float] = (0.2, 1.0),
    color_jitter: float = 0.0,
    crop: Literal["resized", "pad"] = "resized",
    interpolation: str = "bilinear",
    auto_augment: str | None = None,
    re_prob: float = 0.0,
) -> Transform:
    """Random crop and flip, and what else is asked for.

    Args:
        size: Side of the network's input in pixels.
        mean: Subtracted from each channel.
        std: Each channel is divided by it.
        scale: Area of a ``resized`` crop, least and most, as a share of the image.
        color_jitter: Strength of random brightness, contrast and saturation.
        crop: ``resized`` is ImageNet's, of random area; ``pad`` is CIFAR's: shift by up to an eighth of the side.
        interpolation: How to resize, by timm's name.
        auto_augment: Policy as timm spells it, such as ``rand-m9-mstd0.5``; for a ``resized`` crop.
        re_prob: Probability of random erasing, pixel by pixel; likewise.

    Raises:
        DataError: If a padded crop is to have one of the last two, or timm knows no such policy.
    """
    jitter = color_jitter or None
    if crop == "resized":
        kind = {"scale": scale, "color_jitter": jitter, "interpolation": interpolation, "auto_augment": auto_augment}
        erasing = {"re_prob": re_prob, "re_mode": "pixel"}
        try:
            made: Transform = create_transform(size, is_training=True, mean=mean, std=std, **kind, **erasing)
        except (AssertionError, ValueError, KeyError) as error:
            raise DataError(f"timm knows no policy {auto_augment!r}; try --aa rand-m9-mstd0.5.") from error
        return made
    if auto_augment or re_prob:
        raise DataError("--aa and --reprob go with a resized crop; leave them out, or take --crop resized.")
    steps = [
        transforms.Resize(size, str_to_interp_mode(interpolation)),  # returns images of that size as they are
        transforms.RandomCrop(size, padding=size // 8),
        transforms.RandomHorizontalFlip(),
        *([transforms.ColorJitter(jitter, jitter, jitter)] if jitter else []),
        MaybeToTensor(),
        transforms.Normalize(mean, std),
    ]
    padded: Transform = transforms.Compose(steps)
    return padded


def eval_transform(
    size: int, *, mean: tuple[float, ...], std: tuple[float, ...], crop_pct: float = 1.0, interpolation: str = "bicubic"
) -> Transform:
    """Resize the shorter side to ``size / crop_pct`` and crop the centre."""
    kind = {"crop_pct": crop_pct, "interpolation": interpolation}
    made: Transform = create_transform(size, is_training=False, mean=mean, std=std, **kind)
    return made
