"""Images of every kind as upright RGB of 8 bits."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import fsspec  # type: ignore[import-untyped]
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

DEPTHS = (8, 10, 12, 14, 16)
"""Bits that cameras and scanners store; an image's values are taken to have the fewest that hold the largest."""

LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L", "RGB;16L": "RGB;16B", "RGBA;16L": "RGBA;16B",
             "RGB;16N": "RGB;16B", "RGBA;16N": "RGBA;16B", "LA;16B": "RGBA"}  # fmt: skip
"""How Pillow is told to unpack the low bytes of 16-bit colours, by how it would unpack the high ones; it knows no more
than 8 bits a colour. Grey with alpha is four bytes, and so is RGBA."""

ORIENTATION_KEPT_IN = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")


def decode(image: Mapping[str, Any]) -> Image.Image:
    """Read an image as RGB, in silence.

    It is turned upright by its EXIF tag, as ``datasets`` and the pipelines of transformers do; timm and torchvision
    leave it lying (of ImageNet's images few have the tag). Alpha is dropped, as in timm: what a transparent pixel
    hides shows. Values of more than 8 bits are taken to have 8, 10, 12, 14, 16 or more, the fewest that hold the
    image's largest value, and of these the highest 8 are kept: 12-bit values in a 16-bit file are not black, and true
    16-bit ones keep their high byte. Floats up to 1 (2, for what resampling leaves) are shares of white; negative
    values and those that are not numbers are black.

    Args:
        image: ``bytes``, or None and ``path``: of a local file, or an address that fsspec knows.

    Raises:
        Exception: Nearly anything, if the content is broken or of a kind that Pillow does not know.
    """
    content = image["bytes"]
    if content is None:
        content = read_file(image["path"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a large image is not a bomb yet
        return _upright(*_rgb(content))


def read_file(path: str) -> bytes:
    """Content of a local path, whatever its characters, or of an address."""
    if path.startswith("file:///"):  # how a name that is not Unicode is kept
        return Path(os.fsdecode(unquote_to_bytes(path.removeprefix("file://")))).read_bytes()
    if os.path.isabs(path) or "://" not in path:
        return Path(path).read_bytes()
    with fsspec.open(path, "rb") as file:
        content: bytes = file.read()
        return content


@cache
def reads_heif() -> bool:
    """Teach Pillow to read HEIC and HEIF, if pillow-heif is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _open(content: bytes) -> Any:
    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        if not reads_heif():
            raise
        return Image.open(io.BytesIO(content))


def _rgb(content: bytes) -> tuple[Image.Image, Mapping[Any, Any]]:
    """RGB of 8 bits, and what else the file says of the image."""
    image = _open(content)
    if packed := _packing(image):
        return Image.fromarray(_eight_bits(_deep_colours(image, _open(content), packed))).convert("RGB"), image.info
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB"), image.info
    return image.convert("RGB"), image.info


def _packing(image: Any) -> str:
    """How Pillow unpacks the file, such as ``RGB;16B``; empty where it does not say."""
    packed = {tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args
              for tile in getattr(image, "tile", ())}  # fmt: skip
    return next(iter(packed)) if len(packed) == 1 and packed <= LOW_BYTES.keys() else ""


def _deep_colours(high: Any, low: Any, packed: str) -> Any:
    """All 16 bits of each colour, (H, W, 3) or grey (H, W), from two readings of one file."""
    other = LOW_BYTES[packed]
    low.tile = [
        tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other) for tile in low.tile
    ]
    low_bytes = np.asarray(low).astype(np.uint16)
    if packed == "LA;16B":
        return low_bytes[..., 0] << 8 | low_bytes[..., 1]
    return (np.asarray(high).astype(np.uint16) << 8 | low_bytes)[..., :3]


def _eight_bits(values: Any) -> Any:
    """Values of any depth as uint8, by the rule of :func:`decode`."""
    if np.issubdtype(values.dtype, np.floating):
        values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        if (largest := values.max(initial=0)) <= 255:
            return np.clip(np.rint(values * 255 if largest <= 2 else values), 0, 255).astype(np.uint8)
        values = np.minimum(values, 2**32 - 1)
    values = np.maximum(values.astype(np.int64), 0)
    most = int(values.max(initial=0))
    bits = next((bits for bits in DEPTHS if most < 1 << bits), most.bit_length())
    return (values >> bits - 8).astype(np.uint8)


def _upright(image: Image.Image, told: Mapping[Any, Any]) -> Image.Image:
    """Turn an image as its file says; a tag that cannot be read is none. (Pillow turns a TIFF itself.)"""
    image.info = {key: told[key] for key in ORIENTATION_KEPT_IN if key in told}
    try:
        return ImageOps.exif_transpose(image) if image.info else image
    except Exception:  # the pixels are sound
        return image
