"""Folders of images, with a folder for each class and perhaps one above for each split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]

from sgnas_zoo.errors import DataError, printable
from sgnas_zoo.training.data.image_files import Files, LeftOut, Parts, as_text

SPLIT_FOLDERS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
"""Folder names, in lower case, that are splits, and the split that each is; the words of ``datasets``."""

Place = tuple[str, str, Parts]
"""Split, class and path of an image."""


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images by split and class.

    Args:
        root: The folder.
        classes: Class names, sorted: those of the training split, if there is one.
        splits: Label and path of every image, sorted as torchvision does: by class, folder, name.
        unlabelled: How many images a split has that lie in no class folder, where all of its images do not.
        left_out: What was not read.
        hint: What may be meant by a folder of a single class; empty for others.
    """

    root: str
    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[tuple[int, Parts]]]
    unlabelled: Mapping[str, int]
    left_out: LeftOut
    hint: str = ""

    def rows(self, split: str, streaming: bool) -> Any:
        """A split as ``datasets`` holds it: ``image`` (``{"bytes": None, "path"}``) and ``label``."""
        labels = [label for label, _ in self.splits[split]]
        paths = [_address(self.root, parts) for _, parts in self.splits[split]]
        features = datasets.Features(
            {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=list(self.classes))}
        )
        if streaming:  # a row is a shard, so that shuffling and workers reach every row
            kept = {"paths": paths, "labels": labels}
            return datasets.IterableDataset.from_generator(_stream, features, gen_kwargs=kept)
        places = pa.array(paths, pa.string())
        images = pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), places], ["bytes", "path"])
        table = pa.table({"image": images, "label": pa.array(labels, pa.int64())})
        return datasets.Dataset(table.cast(features.arrow_schema), datasets.DatasetInfo(features=features))


def arrange(files: Files) -> ImageFolder:
    """Find splits and classes in a folder of images.

    Folders named as splits (``SPLIT_FOLDERS``, in any case) are splits, and the folders in them the classes, if one of
    them has images in folders, and where there are other folders, more than beside these. Otherwise the folders are
    the classes, one called "train" or "test" too, unless each of them parts its images into splits. Images of a class
    may lie in folders of any depth.

    Args:
        files: What is in the folder.

    Raises:
        DataError: If no image lies in a class folder, or the splits are a folder deeper.
    """
    tops = {parts[0] for parts in files.images if len(parts) > 1}
    named = {top for top in tops if _split(top)}
    deep = Counter(parts[0] for parts in files.images if len(parts) > 2)
    flat = Counter(parts[0] for parts in files.images if len(parts) == 2)
    if any(deep[top] > (flat[top] if named < tops else 0) for top in named):
        _note_empty(files, [parts for parts in files.folders if len(parts) == 2 and parts[0] in named])
        return _collect(files, _below_splits(files, named), above=2)
    if not tops or named == tops:
        where = f"lie in {' and '.join(sorted(map(printable, named)))}" if named else "lie in it"
        raise DataError(
            f"{len(files.images):,} images of {printable(files.root)} {where} without a folder for their class; "
            "put them in one folder per class."
        )
    _note_empty(files, [parts for parts in files.folders if len(parts) == 1])
    return _collect(files, _classes_on_top(files, tops), above=1)


def _note_empty(files: Files, folders: Sequence[Parts]) -> None:
    """Name folders of classes in which there is no image."""
    filled = {parts[:depth] for parts in files.images for depth in (1, 2)}
    for parts in folders:
        if parts not in filled:
            files.left_out.add("folders without a readable image", parts)


def _split(name: str) -> str | None:
    return SPLIT_FOLDERS.get(name.strip().casefold())


def _below_splits(files: Files, named: set[str]) -> Iterator[Place]:
    """Places of images where the folders on top are splits; an image without a class has an empty one."""
    for parts in files.images:
        split = _split(parts[0]) if parts[0] in named else None
        if split is None:
            files.left_out.add("beside the folders of splits", parts)
        else:
            yield split, as_text(parts[1]) if len(parts) > 2 else "", parts


def _classes_on_top(files: Files, tops: set[str]) -> Iterator[Place]:
    """The same where they are classes, each of which may hold splits."""
    inside = [parts for parts in files.images if len(parts) > 1]
    parted = all(len(parts) > 2 and _split(parts[1]) for parts in inside)
    if parted and 2 * sum(len(parts) > 3 for parts in inside) > len(inside):
        deeper = printable(os.path.join(files.root, sorted(tops)[0]))
        raise DataError(f"The splits of {printable(files.root)} are a folder deeper; name {deeper}.")
    for parts in files.images:
        if len(parts) == 1:
            files.left_out.add("beside the folders of classes", parts)
        else:
            split = _split(parts[1]) if parted else "train"
            yield split or "train", as_text(parts[0]), parts


def _collect(files: Files, places: Iterator[Place], above: int) -> ImageFolder:
    """Number the classes, which end so many folders down, and sort the images."""
    by_split: dict[str, list[tuple[str, Parts]]] = {}
    for split, name, parts in places:
        by_split.setdefault(split, []).append((name, parts))
    known = {name for name, _ in by_split.get("train", [])} - {""}
    known = known or {name for placed in by_split.values() for name, _ in placed} - {""}
    classes = tuple(sorted(known))
    label = {name: index for index, name in enumerate(classes)}
    splits: dict[str, list[tuple[int, Parts]]] = {}
    unlabelled: dict[str, int] = {}
    for split in sorted(by_split, key=("train", "validation", "test").index):
        placed = sorted(
            (label[name], os.sep.join(parts[:-1]), parts) for name, parts in by_split[split] if name in label
        )
        if placed:
            splits[split] = [(index, parts) for index, _, parts in placed]
        else:
            unlabelled[split] = len(by_split[split])
        for name, parts in by_split[split]:
            if name not in label:
                files.left_out.add("in no folder of a class" if placed else f"of {split} without a class", parts)
    hint = _hint(files.root, classes, next(iter(splits.values())), above)
    return ImageFolder(files.root, classes, splits, unlabelled, files.left_out, hint)


def _hint(root: str, classes: Sequence[str], images: Sequence[tuple[int, Parts]], above: int) -> str:
    """Say so where the only class, below so many folders, may be a folder too much, as archives often have it."""
    within = {parts[above] if len(parts) > above + 1 else "" for _, parts in images}
    if len(classes) > 1 or len(within) < 2 or "" in within:
        return ""
    whole = printable(os.path.join(root, *images[0][1][:above]))
    return f"All images are of one class, {printable(classes[0])}; if its folders are the classes, name {whole}."


def _address(root: str, parts: Parts) -> str:
    """An absolute path as Arrow can hold it: one that is not Unicode becomes an address of its bytes."""
    path = os.path.join(root, *parts)
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(path).as_uri()
    return path


def _stream(paths: Sequence[str], labels: Sequence[int]) -> Iterator[dict[str, Any]]:
    for path, label in zip(paths, labels, strict=True):
        yield {"image": {"bytes": None, "path": path}, "label": label}
