"""Names for images: what a trained network takes them for."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import UnidentifiedImageError
from timm.data import ImageNetInfo, create_transform, infer_imagenet_subset, resolve_data_config
from torch import nn

from sgnas_zoo.errors import DataError, printable
from sgnas_zoo.training.data.decoding import decode
from sgnas_zoo.training.data.image_files import list_files

MODES = {1: "L", 3: "RGB"}
"""How Pillow calls images of so many channels."""


@dataclass(frozen=True)
class Guess:
    """A class that an image may be of, with its probability from 0 to 1."""

    label: int
    name: str
    probability: float


@dataclass(frozen=True)
class Classified:
    """What a network takes an image for, most probable first; nothing, but why, if it cannot be read."""

    image: str
    guesses: tuple[Guess, ...] = ()
    problem: str = ""


def find_images(places: Sequence[str]) -> list[str]:
    """Image files: those that are named, those in folders, sub-folders included, and those that match patterns.

    Raises:
        DataError: If a place holds or matches none.
    """
    found: dict[str, None] = {}
    for place in places:
        inside = _inside(place)
        if not inside:
            raise DataError(
                f"There are no images at {printable(place)}; give image files, folders, or patterns such as "
                "'photos/*.jpg'."
            )
        found |= dict.fromkeys(inside)
    return [*found]


def classify(network: nn.Module, images: Sequence[str], top: int = 5) -> Iterator[Classified]:
    """Classify images one by one, with the transform of the network's config.

    Args:
        network: A timm model with a classifier, of images with one or three channels.
        images: Files.
        top: Most probable classes to tell.

    Raises:
        DataError: If the network has no classifier, or takes images with other channels.
    """
    config = resolve_data_config({}, model=network)
    first = next((part for part in network.modules() if isinstance(part, nn.Conv2d)), None)
    channels = first.in_channels if first else config["input_size"][0]  # timm's config keeps those of the weights
    mode, names = MODES.get(channels), class_names(network)
    if mode is None or not names:
        wants = "has no classifier" if mode else f"takes images of {channels} channels"
        raise DataError(f"This model {wants}; name one that classifies images of one or three channels.")
    transform = create_transform(**{**config, **_look(config, channels)})
    for image in images:
        try:
            pixels = decode({"bytes": None, "path": os.path.abspath(image)}).convert(mode)
        except Exception as error:  # Pillow raises nearly anything
            yield Classified(image, problem=_why(error))
            continue
        with torch.inference_mode():
            probabilities = network.eval()(transform(pixels)[None])[0].float().softmax(0)
        values, labels = probabilities.topk(min(top, len(names)))
        pairs = zip(labels.tolist(), values.tolist(), strict=True)
        yield Classified(image, tuple(Guess(label, names[label], value) for label, value in pairs))


def class_names(network: nn.Module) -> list[str]:
    """Names of a network's classes, from its config or timm's lists of ImageNet's; else their numbers.

    A classifier that was replaced has other classes than its config says, and these have no names.
    """
    count = int(getattr(network, "num_classes", 0))
    config: dict[str, Any] = getattr(network, "pretrained_cfg", None) or {}
    names = config.get("label_names")
    if names and len(names) == count:
        return [*map(str, names)]
    subset = infer_imagenet_subset({**config, "num_classes": count})
    if subset and config.get("num_classes") == count:
        told = ImageNetInfo(subset)
        return [told.index_to_description(label) for label in range(count)]
    return [f"class {label}" for label in range(count)]


def _look(config: dict[str, Any], channels: int) -> dict[str, Any]:
    """Mean and deviation of each channel: of one channel, those of the grey that three make."""
    if len(config["mean"]) == channels:
        return {}
    return {name: (sum(config[name]) / len(config[name]),) * channels for name in ("mean", "std")}


def _why(error: Exception) -> str:
    """Why an image cannot be read, in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image that Pillow reads"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _inside(place: str) -> list[str]:
    """Images of a place."""
    if os.path.isdir(place):
        return [os.path.join(place, *parts) for parts in sorted(list_files(place).images)]
    if os.path.exists(place):
        return [place]
    matches = sorted(glob.glob(place, recursive=True))
    return [image for match in matches for image in (_inside(match) if os.path.isdir(match) else [match])]
