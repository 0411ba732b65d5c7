"""The images that travel with a supernet to calibrate what is inherited from it."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sgnas_zoo.errors import DataError
from sgnas_zoo.training.data.loaders import TransformedImages, TransformedStream
from sgnas_zoo.training.data.sources import LabelledImages


def calibration_images(images: LabelledImages, count: int, side: int, seed: int = 0) -> Tensor:
    """Draw training images as uint8 (N, 3, side, side) at most, smaller where the dataset's images all are.

    Args:
        images: Where to draw from.
        count: How many; fewer if there are no more.
        side: Side in pixels that larger or oddly sized images are scaled and cropped to.
        seed: Draws them; a stream gives its first.

    Raises:
        DataError: If none can be read.
    """
    found: list[Image.Image] = []
    if images.record["streaming"]:
        stream = TransformedStream(images, _keep, seed)
        found = [image for image, _ in islice(stream, count)]  # type: ignore[misc]
    else:
        rows = TransformedImages(images, _keep, seed)
        order = np.random.default_rng(seed).permutation(len(rows))
        read = (item[0] for index in order if (item := rows[int(index)]) is not None)
        found = list(islice(read, count))  # type: ignore[arg-type]
    if not found:
        raise DataError("No image can be read to calibrate with; check the dataset.")
    sizes = {image.size for image in found}
    own = sizes == {(found[0].width, found[0].width)} and found[0].width <= side
    scaled = found if own else [ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC) for image in found]
    return torch.from_numpy(np.stack([np.asarray(image) for image in scaled])).permute(0, 3, 1, 2).contiguous()


def _keep(image: Image.Image) -> Tensor:
    return image  # type: ignore[return-value]  # no transform: the image itself is wanted
