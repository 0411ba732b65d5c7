"""Images for an export to int8: those that calibrate it, and those that tell what it costs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from sgnas_zoo.api.supernets import supernet_of
from sgnas_zoo.errors import DataError, printable
from sgnas_zoo.training.classification import find_images
from sgnas_zoo.training.data.columns import Source
from sgnas_zoo.training.data.decoding import decode
from sgnas_zoo.training.data.image_files import list_files
from sgnas_zoo.training.data.loaders import TransformedImages
from sgnas_zoo.training.data.sources import LabelledImages, load_images
from sgnas_zoo.training.networks import measuring_transform

CALIBRATION, COMPARED = 256, 1000
"""Images that give the ranges of activations, and images on which top-1 is compared."""
BATCH = 50


@dataclass(frozen=True)
class Images:
    """What an export to int8 is given.

    Args:
        calibration: Images (N, channels, height, width), prepared as the network is measured.
        labelled: Images apart from those, with labels of the network's classes; None where there are none.
        said: What there is to say of them, for people.
    """

    calibration: Tensor
    labelled: LabelledImages | None
    said: str


@dataclass(frozen=True)
class Compared:
    """Top-1 of a network in float32 and of its int8 file on the same images, in percent.

    Args:
        images: How many.
        split: Of which split.
        float32: The network's top-1.
        int8: The file's.
        error: Standard error of the difference, over images.
    """

    images: int
    split: str
    float32: float
    int8: float
    error: float

    @property
    def lost(self) -> float:
        """Percentage points that int8 costs."""
        return self.float32 - self.int8


def images_for(network: nn.Module, source: Source | None) -> Images:
    """Images for a network, from a dataset, a folder of images, or the supernet that it inherited its weights from.

    Args:
        network: A timm model; its ``pretrained_cfg`` says how images are prepared.
        source: Hub id or folder; None: the supernet's own.

    Raises:
        DataError: If there are none.
        ArtifactError: If the supernet cannot be loaded.
    """
    prepare = measuring_transform(network)
    if source is None:
        return _of_supernet(network, prepare)
    folder = os.path.expanduser(source.place)
    try:
        calibrating, labelled = _apart(source)
    except DataError:
        if not os.path.isdir(folder) or not list_files(folder).images:
            raise
        return _of_folder(folder, prepare)
    rows = TransformedImages(calibrating, prepare)
    prepared = _stacked(item[0] for number in range(len(rows)) if (item := rows[number]) is not None)
    said = f"{len(prepared)} images of the split {calibrating.record['split']} of {calibrating.record['source']}"
    if len(labelled.classes) != int(network.num_classes):  # type: ignore[arg-type]
        return Images(prepared, None, f"{said}, whose {len(labelled.classes)} classes are not the model's")
    return Images(prepared, labelled, said)


@torch.inference_mode()
def compare(network: nn.Module, file: nn.Module, images: LabelledImages) -> Compared:
    """Measure what int8 costs.

    Args:
        network: The model in float32.
        file: The file that was made from it, as ``ExportedModel``.
        images: Images with labels.

    Raises:
        DataError: If none can be read.
    """
    rows = TransformedImages(images, measuring_transform(network))
    items = [item for number in range(len(rows)) if (item := rows[number]) is not None]
    if not items:
        raise DataError("No image can be read to compare on; check the dataset.")
    labels = torch.tensor([label for _, label in items])
    pixels = torch.stack([image for image, _ in items])
    right = [
        torch.cat([model(some).argmax(1) for some in torch.split(pixels, BATCH)]).eq(labels).double()
        for model in (network.eval(), file)
    ]
    spread = float((right[0] - right[1]).std(correction=0)) / len(labels) ** 0.5
    before, after = (100 * float(hits.mean()) for hits in right)
    return Compared(len(labels), images.record["split"], before, after, 100 * spread)


def _of_supernet(network: nn.Module, prepare: Callable[[Any], Tensor]) -> Images:
    trained = supernet_of(network)
    if trained is None:
        raise DataError("These weights do not come from a supernet with images; add --calibration FOLDER or DATASET.")
    pixels = trained.calibration[:CALIBRATION].permute(0, 2, 3, 1).numpy()
    prepared = _stacked(prepare(Image.fromarray(image)) for image in pixels)
    return Images(prepared, None, f"{len(prepared)} images that travel with the supernet")


def _of_folder(folder: str, prepare: Callable[[Any], Tensor]) -> Images:
    """Images without labels."""

    def read(path: str) -> Tensor | None:
        try:
            return prepare(decode({"bytes": None, "path": os.path.abspath(path)}))
        except Exception:  # Pillow raises nearly anything
            return None

    prepared = _stacked(image for path in find_images([folder]) if (image := read(path)) is not None)
    return Images(prepared, None, f"{len(prepared)} images of {printable(os.path.basename(folder))}, without labels")


def _stacked(images: Iterable[Tensor]) -> Tensor:
    """The first images as one tensor.

    Raises:
        DataError: If there are none.
    """
    found = list(islice(images, CALIBRATION))
    if not found:
        raise DataError("None of the calibration images can be read; give images that Pillow opens.")
    return torch.stack(found)


def _apart(source: Source) -> tuple[LabelledImages, LabelledImages]:
    """Images to calibrate with and to compare on: of a training and a test split, or of the two halves of one.

    Raises:
        DataError: As ``load_images`` does.
    """
    found = {}
    for split, limit in (("train", CALIBRATION), ("test", COMPARED)):
        with suppress(DataError):
            found[split] = load_images(source, split, limit=limit)
    if len(found) == 2:
        return found["train"], found["test"]
    only = next(iter(found), "train")
    kept = load_images(source, only, holdout=0.5, limit=CALIBRATION)
    return kept, load_images(source, only, holdout=0.5, part="held", limit=COMPARED)
