"""Labelled images from the Hub or a folder, undecoded: columns found, one part held out by a seed."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import datasets  # type: ignore[import-untyped]
import numpy as np

from sgnas_zoo.errors import DataError
from sgnas_zoo.training.data.columns import Source, as_images, find_columns, is_hidden, plain_label
from sgnas_zoo.training.data.image_files import as_text
from sgnas_zoo.training.data.image_folder import SPLIT_FOLDERS
from sgnas_zoo.training.data.opening import Splits, explained, open_splits_of

__all__ = ["LabelledImages", "Source", "load_images", "open_splits", "without_labels"]

MEASURED = ("test", "validation")
"""Kinds of splits that are not for training; asked for one that is not there, the other is taken."""


@dataclass(frozen=True)
class LabelledImages:
    """One split, undecoded.

    Args:
        rows: Columns ``image`` (``{"bytes", "path"}``) and ``label`` (an index into ``classes``).
        classes: Class names, in the order of the labels.
        record: Where the rows come from, as plain JSON.
    """

    rows: datasets.Dataset | datasets.IterableDataset
    classes: tuple[str, ...]
    record: Mapping[str, Any]


def load_images(
    source: str | Source,
    split: str = "train",
    *,
    holdout: float = 0.0,
    part: Literal["kept", "held"] = "kept",
    seed: int = 0,
    streaming: bool = False,
    limit: int | None = None,
) -> LabelledImages:
    """Open one split of a dataset with an image column and a label column.

    A stream cannot be counted, so its holdout is drawn by a hash of each image: the same images whatever the order and
    the number of workers, about ``holdout`` of them, not stratified. Its limit takes the first rows of the source.

    Args:
        source: Hub id, folder of parquet files, or folder of one folder per class (with or without split folders);
            with the columns to take, if they cannot be guessed.
        split: ``val``, ``valid`` and ``dev`` are other words for ``validation``; that and ``test`` stand in for each
            other.
        holdout: Share cut from the split, stratified by label.
        part: Which side of the cut.
        seed: Draws the holdout and the limit.
        streaming: Read rows as they come instead of storing the dataset.
        limit: Only so many rows, drawn by the seed; for quick runs.

    Raises:
        DataError: If the dataset is missing, closed, out of reach, empty, or has no images or no labels.
    """
    if not 0 <= holdout < 1 or (part == "held" and not holdout):
        raise DataError(f"Cannot take the {part} part of a holdout of {holdout}; give a share above 0 and below 1.")
    if limit is not None and limit < 1:
        raise DataError(f"A limit of {limit} leaves no images; give 1 or more, or leave it out.")
    source = source if isinstance(source, Source) else Source(source)
    place = source.place
    splits = open_splits_of(source, streaming)
    name = _choose_split(place, split, splits)
    image, label = _columns(source, splits, name)
    opened = splits.rows(name)
    with explained(place):
        rows = as_images(opened.select_columns([image, label]), image, splits.find)
    rows = rows.rename_columns({old: new for old, new in ((image, "image"), (label, "label")) if old != new})
    others = [other for other in splits.names if other != name]
    if streaming:
        rows, classes = _check_stream(place, name, rows, others)
        if holdout:
            rows = rows.filter(partial(_is_on_side, seed=seed, holdout=holdout, held=part == "held"))
        rows = rows if limit is None else rows.take(limit)
    else:
        rows, classes = _index_labels(place, name, rows, label, splits)
        chosen = _cut(rows["label"][:], holdout, part == "held", seed) if holdout else np.arange(len(rows))
        if limit is not None:
            chosen = np.random.default_rng(seed).permutation(chosen)[:limit]
        rows = rows.select(chosen, keep_in_memory=True)  # in memory: processes do not meet in one cache file
    record = {
        "source": _name(place),
        "revision": _revision(place, opened),
        "split": name,
        "rows": None if streaming else len(rows),
        "columns": {"image": image, "label": label},
        "holdout": holdout,
        "part": part,
        "seed": seed,
        "streaming": streaming,
        "limit": limit,
    }
    return LabelledImages(rows, classes, record)


def open_splits(
    source: str | Source, holdout: float, eval_split: str | None, **options: Any
) -> tuple[LabelledImages, LabelledImages | None, LabelledImages]:
    """What to train on, the held-out part if there is one, and what the final figure is measured on.

    Args:
        source: As ``load_images``.
        holdout: Share cut from the training split.
        eval_split: Split of the final figure; by default the held-out part, or else ``test``.
        options: ``seed``, ``streaming`` and ``limit``, as ``load_images``.

    Raises:
        DataError: As ``load_images`` does.
    """
    kept = load_images(source, "train", holdout=holdout, **options)
    held = load_images(source, "train", holdout=holdout, part="held", **options) if holdout else None
    if held and not eval_split:
        return kept, held, held
    try:
        return kept, held, load_images(source, eval_split or "test", **options)
    except DataError as error:
        if eval_split:
            raise
        raise DataError(f"{error} Or measure on a part of train, with a holdout of 0.1.") from error


def _choose_split(source: str, split: str, splits: Splits) -> str:
    """The split of this name, of another word for it, or, if it is not for training, of the other such kind."""
    kind = SPLIT_FOLDERS.get(split.casefold())
    same = [name for name in (*splits.names, *splits.unlabelled) if kind and SPLIT_FOLDERS.get(name.casefold()) == kind]
    others = [name for name in splits.names if kind in MEASURED and SPLIT_FOLDERS.get(name.casefold()) in MEASURED]
    for name in (split, *same, *others):
        if name in splits.unlabelled:
            count = splits.unlabelled[name]
            raise without_labels(source, name, splits.names, f"{count:,} images and no folder of a class")
        if name in splits.names:
            return name
    raise DataError(f"{source} has no split {split!r}; choose from {', '.join(splits.names) or 'none'}.")


def _columns(source: Source, splits: Splits, name: str) -> tuple[str, str]:
    """The image and the label column of a split; where only others have labels, that is what is wrong."""
    try:
        return find_columns(source, splits.features(name))
    except DataError:
        labelled = []
        for other in splits.names:
            with suppress(DataError):
                labelled += [other] if find_columns(source, splits.features(other)) else []
        if not labelled:
            raise
    raise without_labels(source.place, name, labelled, "no column of labels")


def without_labels(source: str, split: str, others: Sequence[str], what: str = "rows without labels") -> DataError:
    """The error for a split whose labels are hidden."""
    hint = f"choose the split {' or '.join(others)}" if others else "choose a labelled dataset"
    return DataError(f"The split {split} of {source} has {what}; {hint}.")


def _check_stream(source: str, split: str, rows: Any, others: Sequence[str]) -> tuple[Any, tuple[str, ...]]:
    """Look at the first row of a stream: more cannot be known without reading it all."""
    feature = rows.features["label"]
    if not isinstance(feature, datasets.ClassLabel):
        raise DataError(f"The labels of {source} have no names, and a stream cannot count them; load it whole.")
    with explained(source):
        first = next(iter(rows), None)
    if first is None:
        raise DataError(f"The split {split} of {source} is empty; choose another split or dataset.")
    if is_hidden(first["label"]):
        raise without_labels(source, split, others)
    return rows, tuple(feature.names)


def _index_labels(source: str, split: str, rows: Any, column: str, splits: Splits) -> tuple[Any, tuple[str, ...]]:
    """Refuse missing labels, and number those without names by sorting what all splits hold."""
    labels = rows["label"][:]
    others = [other for other in splits.names if other != split]
    if not labels:
        raise DataError(f"The split {split} of {source} is empty; choose another split or dataset.")
    if any(map(is_hidden, labels)):
        raise without_labels(source, split, others)
    feature = rows.features["label"]
    if isinstance(feature, datasets.ClassLabel):
        return rows, tuple(feature.names)
    labels = [plain_label(source, label) for label in labels]
    elsewhere = [plain_label(source, label) for other in others for label in splits.labels(other, column)
                 if not is_hidden(label)]  # fmt: skip
    try:
        values = sorted({*labels, *elsewhere})
    except TypeError as error:
        raise DataError(f"The splits of {source} have labels of different kinds; give them the same.") from error
    place = {value: index for index, value in enumerate(values)}
    classes = tuple(str(value) for value in values)
    indices = [place[label] for label in labels]
    feature = datasets.ClassLabel(names=list(classes))
    return rows.remove_columns("label").add_column("label", indices, feature=feature), classes


def _cut(labels: Sequence[int], holdout: float, held: bool, seed: int) -> Any:
    """Rows of one side of a stratified holdout, in their order.

    Each class is shuffled and its rows are spread evenly over 0..1; the holdout is what comes first. So every class
    gives its share to within one row, a class of a single row stays in training, and the total is exact. Not
    ``Dataset.train_test_split``: it refuses rare classes, and takes a minute for the labels of ImageNet.
    """
    draw = np.random.default_rng(seed)
    wanted = round(holdout * len(labels))
    if not 0 < wanted < len(labels):
        raise DataError(f"A holdout of {holdout} of {len(labels)} images leaves one side empty; choose another share.")
    drawn = draw.permutation(len(labels))
    drawn = drawn[np.argsort(np.asarray(labels)[drawn], kind="stable")]
    counts = np.bincount(labels)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    place = (np.arange(len(labels)) - first + 0.5) / np.repeat(counts, counts)
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[drawn[np.lexsort((draw.random(len(labels)), place))[:wanted]]] = True
    return np.flatnonzero(chosen == held)


def _is_on_side(row: Mapping[str, Any], seed: int, holdout: float, held: bool) -> bool:
    """Whether an image of a stream is held; by content, as its place changes with shuffling and with workers."""
    image = row["image"]
    content = image["bytes"] or "/".join(Path(image["path"]).parts[-2:]).encode()
    return (zlib.crc32(content, seed & 0xFFFFFFFF) < holdout * 2**32) == held


def _name(place: str) -> str:
    """A Hub id, or the name of a folder, without the way to it."""
    path = os.path.expanduser(place)
    return as_text(os.path.basename(os.path.abspath(path))) if os.path.isdir(path) else place


def _revision(source: str, rows: Any) -> str | None:
    """Commit of a Hub dataset, where ``datasets`` says it: in the addresses or in the cache folder."""
    if Path(source).expanduser().is_dir():
        return None
    places = [*(rows.info.download_checksums or {}), *(file["filename"] for file in getattr(rows, "cache_files", []))]
    found = re.search(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])", " ".join(places))
    return found[0] if found else None
