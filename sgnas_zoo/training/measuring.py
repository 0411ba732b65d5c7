"""A model measured on a split of a dataset: the protocol behind every published figure."""

from __future__ import annotations

import time
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from sgnas_zoo.training.data.loaders import OnCorrupt
from sgnas_zoo.training.data.sources import LabelledImages
from sgnas_zoo.training.evaluation import evaluate
from sgnas_zoo.training.runs import EVAL_BATCH, measuring_loader

SHOWN = ("mean", "std", "interpolation", "crop_pct", "crop_mode")


def measure(
    network: nn.Module, images: LabelledImages, accelerator: Accelerator, *, batch_size: int = EVAL_BATCH,
    on_corrupt: OnCorrupt = "skip", workers: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Top-1, top-5 and cross entropy, every image once, prepared as the model's ``pretrained_cfg`` says.

    Args:
        network: A timm model or an exported file.
        images: A split.
        accelerator: Of all processes.
        batch_size: Images of one process at a time.
        on_corrupt: What to do about an image that cannot be read.
        workers: Processes that decode.

    Returns:
        What ``evaluate`` finds, with "images_per_second" (of the network alone, in this process, without reading),
        "dataset" and "preprocessing".

    Raises:
        DataError: If classes do not match, or an image cannot be read and is not to be skipped.
    """
    loader = measuring_loader(
        images, network, accelerator, batch_size=batch_size, on_corrupt=on_corrupt, workers=workers
    )
    timed = Timed(network.to(accelerator.device).eval())
    figures = evaluate(timed, loader, accelerator)
    cfg: Any = network.pretrained_cfg
    return {
        **figures,
        "images_per_second": timed.images / timed.seconds if timed.seconds else 0.0,
        "dataset": dict(images.record),
        "preprocessing": {key: cfg[key] for key in SHOWN if key in cfg},
    }


class Timed:
    """A network that counts what it is given, and how long it takes."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.images = 0
        self.seconds = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        begun = time.perf_counter()
        logits: Tensor = self.network(images)
        if logits.is_cuda:  # it has only been asked for so far
            logits.sum().item()
        self.images += len(images)
        self.seconds += time.perf_counter() - begun
        return logits


def other_names(network: nn.Module, images: LabelledImages) -> str | None:
    """One line where a model's classes have other names than a dataset's; None where they are the same or unknown."""
    cfg: Any = network.pretrained_cfg
    if not (names := cfg.get("label_names")) or list(names) == list(images.classes):
        return None
    return "The model's classes have other names than the dataset's; see that they are the same."
