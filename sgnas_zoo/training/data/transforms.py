"""From a PIL image to a network's input, for training and for measuring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from PIL import Image
from timm.data import create_transform
from timm.data.transforms import MaybeToTensor, str_to_interp_mode
from torch import Tensor
from torchvision import transforms  # type: ignore[import-untyped]

from sgnas_zoo.errors import DataError

Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True, kw_only=True)
class Look:
    """How images look when a network is trained on them: a random crop and flip, and what else is asked for.

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
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: tuple[float, float] = (0.2, 1.0)
    color_jitter: float = 0.0
    crop: Literal["resized", "pad"] = "resized"
    interpolation: str = "bilinear"
    auto_augment: str | None = None
    re_prob: float = 0.0

    def transform(self) -> Transform:
        """The transform of one image.

        Raises:
            DataError: If a padded crop is to have a policy or erasing, or timm knows no such policy.
        """
        jitter = self.color_jitter or None
        if self.crop == "pad":
            return self._padded(jitter)
        kind = {"interpolation": self.interpolation, "auto_augment": self.auto_augment, "color_jitter": jitter}
        erasing = {"scale": self.scale, "re_prob": self.re_prob, "re_mode": "pixel"}
        try:
            made: Transform = create_transform(
                self.size, is_training=True, mean=self.mean, std=self.std, **kind, **erasing
            )
        except (AssertionError, ValueError, KeyError) as error:
            raise DataError(f"timm knows no policy {self.auto_augment!r}; try --aa rand-m9-mstd0.5.") from error
        return made

    def _padded(self, jitter: float | None) -> Transform:
        if self.auto_augment or self.re_prob:
            raise DataError("--aa and --reprob go with a resized crop; leave them out, or take --crop resized.")
        steps = [
            transforms.Resize(self.size, str_to_interp_mode(self.interpolation)),  # returns images of that size as is
            transforms.RandomCrop(self.size, padding=self.size // 8),
            transforms.RandomHorizontalFlip(),
            *([transforms.ColorJitter(jitter, jitter, jitter)] if jitter else []),
            MaybeToTensor(),
            transforms.Normalize(self.mean, self.std),
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
