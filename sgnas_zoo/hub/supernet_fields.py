"""Fields of a supernet's config that say what it saw and how it was trained, checked as later code reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sgnas_zoo.hub.artifacts import brief, is_crop, is_mean, is_number, is_std, items, text

MAX_TEXT = 1000


def read_preprocessing(stated: object) -> Mapping[str, Any]:
    """What images go through, as timm spells it.

    Raises:
        KeyError: If a field is missing.
        ValueError: If one is out of bounds.
    """
    fields = _mapping(stated)
    mean, std, crop_pct = items(fields["mean"]), items(fields["std"]), fields["crop_pct"]
    if len(mean) != 3 or not all(is_mean(value) for value in mean):
        raise ValueError("preprocessing.mean is out of bounds")
    if len(std) != 3 or not all(is_std(value) for value in std):
        raise ValueError("preprocessing.std is out of bounds")
    if not is_crop(crop_pct):
        raise ValueError("preprocessing.crop_pct is out of bounds")
    if (interpolation := text(fields["interpolation"])) not in ("bilinear", "bicubic"):
        raise ValueError(f"unknown interpolation {interpolation!r}")
    return MappingProxyType(
        {
            "mean": [float(value) for value in mean],
            "std": [float(value) for value in std],
            "interpolation": interpolation,
            "crop_pct": float(crop_pct),
        }
    )


def read_dataset(stated: object) -> Mapping[str, Any]:
    """What a supernet was trained on, as ``LabelledImages.record`` says.

    Raises:
        KeyError: If its source is missing, or the seed of its holdout.
        ValueError: If a field is out of bounds.
    """
    fields = _mapping(stated)
    needed = ("source", "seed") if fields.get("holdout") else ("source",)
    for name in needed:
        fields[name]
    for name, fits in DATASET.items():
        if not fits(fields.get(name)) or (name in needed and fields[name] is None):
            raise ValueError(f"dataset.{name} is out of bounds")
    return MappingProxyType(dict(fields))


def read_training(stated: object) -> Mapping[str, Any]:
    """How a supernet was trained: any plain data, but for what others read.

    Raises:
        ValueError: If a field is of another type.
    """
    fields = _mapping(stated)
    _mapping(fields.get("final", {}))
    if not _text(fields.get("sampler")):
        raise ValueError("training.sampler is out of bounds")
    return MappingProxyType(dict(fields))


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{brief(repr(value), 40)} is no object")
    return value


def _text(value: object) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= MAX_TEXT)


def _count(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < 2**63)


DATASET: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("source", "revision", "split", "part"), _text),
    **dict.fromkeys(("seed", "rows", "limit"), _count),
    "holdout": lambda value: value is None or (is_number(value, 0, 1) and value != 1),
    "streaming": lambda value: value is None or isinstance(value, bool),
}
"""Fields that are read later: by searches, by the training of a generator, and by cards."""
