"""Batches of cached images: cut and flipped where they are computed on, all images of a batch at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from timm.data.transforms import MaybePILToTensor, MaybeToTensor, str_to_interp_mode
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms  # type: ignore[import-untyped]

from sgnas_zoo.errors import DataError
from sgnas_zoo.training.data.cache import CachedImages, cached
from sgnas_zoo.training.data.loaders import OnCorrupt, mix, unreadable
from sgnas_zoo.training.data.sources import LabelledImages
from sgnas_zoo.training.data.transforms import Look, Transform

GOLDEN = -7046029254386353131
FACTORS = (-4658895280553007687, -7723592293110705685)
"""Constants of splitmix64 (Steele, Lea and Flood, 2014), as signed numbers."""

SHARE = 4
"""An accelerator holds all images if they take no more than one part in so many of its free memory."""


class CachedRows(Dataset[int]):
    """Rows of a cache for a loader; what an image looks like is a pure function of (seed, epoch, index).

    Args:
        cached: The images.
        mean: Subtracted from each channel.
        std: Each channel is divided by it.
        pad: Pixels by which images are moved at most, with a black border, and then flipped or not; None: as they are.
        seed: Of both.
        on_corrupt: ``skip`` leaves out an image that could not be read; ``fail`` raises a ``DataError``.
    """

    def __init__(
        self, cached: CachedImages, mean: Sequence[float], std: Sequence[float], pad: int | None = None, seed: int = 0,
        on_corrupt: OnCorrupt = "skip",
    ) -> None:  # fmt: skip
        self.cached, self.pad, self.seed, self.epoch = cached, pad, seed, 0
        self._mean, self._std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
        self._pixels = torch.from_numpy(cached.pixels)
        broken = (~cached.readable).nonzero()[0]
        if on_corrupt == "fail" and len(broken):
            raise unreadable(cached.images, int(broken[0]))

    def set_epoch(self, epoch: int) -> None:
        """Draw other moves, and in a shuffled loader another order, from the next iterator on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.cached.labels)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, int]:
        """Pixels (N, side, side, 3) or nothing if the accelerator has them, rows, labels, and how many were left out.

        Raises:
            DataError: If none is left.
        """
        index = torch.tensor([row for row in rows if self.cached.readable[row]])
        if not len(index):
            raise DataError(f"None of the {len(rows)} images of a batch can be read; check the dataset.")
        pixels = self._pixels[index] if self._pixels.device.type == "cpu" else torch.empty(0)
        return pixels, index, torch.from_numpy(self.cached.labels)[index], len(rows) - len(index)

    def settle(self, device: torch.device) -> bool:
        """Move all images to an accelerator, if they fit there; say whether they did."""
        if device.type != "cuda" or self._pixels.nbytes * SHARE > torch.cuda.mem_get_info(device)[0]:
            return False
        self._pixels = self._pixels.to(device)
        return True

    def develop(self, batch: tuple[Tensor, Tensor, Tensor, int], epoch: int) -> tuple[Tensor, Tensor, int]:
        """Images (N, 3, side, side), labels and the number left out, of a batch that was moved to where it is used."""
        pixels, index, labels, left_out = batch
        if not len(pixels):
            pixels = self._pixels[index]
        if self.pad is not None:
            pixels = moved(pixels, draws(mix(self.seed, epoch), index), self.pad)
        if self._mean.device != pixels.device:  # once, not a copy for each batch
            self._mean, self._std = self._mean.to(pixels.device), self._std.to(pixels.device)
        images = pixels.permute(0, 3, 1, 2).float().div_(255).sub_(self._mean).div_(self._std)
        return images if self.pad is not None else images.contiguous(), labels, left_out


class Developed:
    """A loader of cached rows as one of images, for measurements."""

    def __init__(self, loader: Any, rows: CachedRows) -> None:
        self.loader, self.rows = loader, rows

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        return (self.rows.develop(batch, 0) for batch in self.loader)

    def __len__(self) -> int:
        return len(self.loader)


def cached_for_training(
    images: LabelledImages, look: Look, seed: int, on_corrupt: OnCorrupt, *, workers: int, quiet: bool
) -> CachedRows:
    """Rows to train on: images are cut to squares once, then moved and flipped anew in each epoch.

    Raises:
        DataError: If the look is another than a padded crop, or as ``cached``.
    """
    if look.crop != "pad" or look.color_jitter or look.auto_augment or look.re_prob:
        raise DataError("--cache moves and flips images of one size; add --crop pad, without colour jitter or erasing.")
    resize = transforms.Resize(look.size, str_to_interp_mode(look.interpolation))
    found = _cached([resize, transforms.CenterCrop(look.size)], look.size, images, workers, quiet)
    return CachedRows(found, look.mean, look.std, look.size // 8, seed, on_corrupt)


def cached_for_measuring(
    images: LabelledImages, transform: Transform, on_corrupt: OnCorrupt, *, workers: int, quiet: bool
) -> CachedRows:
    """Rows to measure on, as timm's evaluation transform shows them; only normalising is left for later.

    Raises:
        DataError: If it makes images that are not square, or as ``cached``.
    """
    *before, tensor, normalise = transform.transforms  # type: ignore[attr-defined]
    assert isinstance(tensor, MaybeToTensor)
    assert isinstance(normalise, transforms.Normalize)
    height, width = before[-1].size
    if height != width:
        raise DataError(f"--cache holds square images, not {height} x {width} pixels; leave it out.")
    found = _cached(before, height, images, workers, quiet)
    return CachedRows(found, normalise.mean.tolist(), normalise.std.tolist(), on_corrupt=on_corrupt)


def _cached(steps: Sequence[Any], side: int, images: LabelledImages, workers: int, quiet: bool) -> CachedImages:
    """Images that went through some steps, which make them square."""
    return cached(images, transforms.Compose([*steps, MaybePILToTensor()]), side, workers=workers, quiet=quiet)


def draws(seed: int, index: Tensor) -> Tensor:
    """Three whole numbers from 0 to 2^53 - 1 for each index (N,): (N, 3), the same on every device."""
    numbers = index.to(torch.int64)[:, None] * 3 + torch.arange(3, device=index.device)
    return (_mixed((seed - 2**63) + numbers * GOLDEN) >> 11) & (2**53 - 1)


def moved(pixels: Tensor, drawn: Tensor, pad: int) -> Tensor:
    """Images (N, side, side, 3) moved by up to ``pad`` pixels over a black border, half of them mirrored.

    Args:
        pixels: The images, uint8.
        drawn: What ``draws`` gives, (N, 3).
        pad: Pixels.
    """
    count, side = pixels.shape[:2]
    along = torch.arange(side, device=pixels.device)
    rows = along + drawn[:, :1] % (2 * pad + 1) - pad
    columns = along + drawn[:, 1:2] % (2 * pad + 1) - pad
    columns = torch.where(drawn[:, 2:] % 2 == 1, columns.flip(1), columns)
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None]
    each = torch.arange(count, device=pixels.device)[:, None, None]
    found = pixels[each, rows.clamp(0, side - 1)[:, :, None], columns.clamp(0, side - 1)[:, None]]
    return found * inside[..., None]


def _mixed(numbers: Tensor) -> Tensor:
    """64 well-mixed bits of each number."""
    for bits, factor in zip((30, 27), FACTORS, strict=True):
        numbers = (numbers ^ ((numbers >> bits) & (2 ** (64 - bits) - 1))) * factor
    return numbers ^ ((numbers >> 31) & (2**33 - 1))
