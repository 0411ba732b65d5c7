"""Built networks: what one takes a picture for, and its folder. Pictures are strangers' and are looked at with care."""

from __future__ import annotations

import io
import os
import shutil
import warnings
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image, ImageOps
from torch import nn

from sgnas_zoo.api.create import create_model
from sgnas_zoo.demo.answers import Asked, read_asked
from sgnas_zoo.errors import DataError
from sgnas_zoo.hub.models import save_model
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.training.classification import Guess, classify

MOST_MEGABYTES, MOST_MEGAPIXELS = 10, 8
"""Of a picture."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""What is read, as far as Pillow can: nothing for which it starts another program, or that is drawn at any size."""
PREVIEW = 192
"""Longer side of the preview in pixels."""
KEPT = 4
"""Built networks that are kept."""


def name_picture(asked: Asked, path: str | Path) -> tuple[list[Guess], bytes]:
    """The five most probable classes of a picture, and a small JPEG of what was read.

    Args:
        asked: The network.
        path: A file that anybody may have sent.

    Raises:
        DataError: If it is too large, or not a picture.
    """
    picture = read_picture(path)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "picture.bmp"
        picture.save(file)
        (found,) = classify(_network(asked.text), [str(file)])
    if found.problem:
        raise DataError(f"This picture cannot be read: {found.problem}; choose another one.")
    picture.thumbnail((PREVIEW, PREVIEW))
    preview = io.BytesIO()
    picture.save(preview, "JPEG", quality=85)
    return [*found.guesses], preview.getvalue()


def read_picture(path: str | Path) -> Image.Image:
    """A picture as upright RGB; its size is known from its header before anything is decoded.

    Raises:
        DataError: If it is too large, or not a picture.
    """
    if Path(path).stat().st_size > MOST_MEGABYTES * 2**20:
        raise DataError(f"This file has more than {MOST_MEGABYTES} MB; choose a smaller picture.")
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as picture:
                width, height = picture.size
                if width * height <= MOST_MEGAPIXELS * 1e6:
                    return ImageOps.exif_transpose(picture).convert("RGB")
    except Image.DecompressionBombError:
        raise DataError(f"This picture has more than {MOST_MEGAPIXELS} megapixels; choose a smaller one.") from None
    except Exception as error:  # Pillow raises nearly anything
        kinds = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
        raise DataError(f"This file cannot be read as a picture; choose one in {kinds}.") from error
    raise DataError(
        f"This picture has {width * height / 1e6:.1f} megapixels; choose one of {MOST_MEGAPIXELS} or fewer."
    )


def zip_folder(asked: Asked, into: str | Path) -> Path:
    """Write the folder of a network as a zip file, as ``generate --output`` would have written it.

    Args:
        asked: The network.
        into: A folder for the file.
    """
    target = Path(into) / f"{asked.folder}.zip"
    with TemporaryDirectory(dir=into) as work:
        save_model(_network(asked.text), Path(work) / asked.folder)
        made = shutil.make_archive(str(Path(work) / "made"), "zip", work, asked.folder)
        os.replace(made, target)  # whoever is reading the last one reads on
    return target


@lru_cache(maxsize=KEPT)
def _network(text: str) -> nn.Module:
    """The network of ``Asked.text``, with the weights it inherits."""
    asked = read_asked(text)
    with plain_torch(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        budgets: dict[str, Any] = dict(asked.budgets)
        return create_model(space=asked.offer.space, pretrained=asked.offer.tag, **budgets).eval()
