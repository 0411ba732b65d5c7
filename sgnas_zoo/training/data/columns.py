"""Columns of a table of images: which holds them, which their labels, and how both are brought into one form."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import datasets  # type: ignore[import-untyped]

from sgnas_zoo.errors import DataError

LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
"""Columns taken as labels where no column is declared as classes, the first that is there."""
MORE_LABEL_COLUMNS = ("target", "targets", "cls", "category", "y", "class_id", "class_name", "label_id", "label_name")
"""Taken if it is the only one, as are those above in other cases."""
IMAGE_COLUMNS = (
    "image",
    "img",
    "picture",
    "photo",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "bytes",
    "image_bytes",
    "pixels",
    "x",
)
"""Columns taken as images where no column is declared as images and several, or only texts, could be."""
PATH_COLUMNS = ("file_name", "filename", "file", "path", "filepath", "file_path", "image_path", "img_path")
"""Columns that may hold the paths of images, if no other holds images."""


@dataclass(frozen=True)
class Source:
    """A dataset, and which of its columns count where that cannot be guessed.

    Args:
        place: Hub id or folder.
        image_column: Its images; by default the only such column, or one with a usual name.
        label_column: Their labels; likewise.
        recorded: Columns ``image`` and ``label`` of an earlier run; they count where they are there.
    """

    place: str
    image_column: str | None = None
    label_column: str | None = None
    recorded: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, source: str | Source, record: Mapping[str, Any]) -> Source:
        """The same with the columns that the record of a dataset (``LabelledImages.record``) tells."""
        columns = record.get("columns")
        source = source if isinstance(source, Source) else cls(source)
        return replace(source, recorded=columns if isinstance(columns, Mapping) else {})


class NoLabels(DataError):
    """A table without a column of labels."""


def find_columns(source: Source, features: Mapping[str, Any]) -> tuple[str, str]:
    """The image column and the label column: as named, as recorded where that is there, else by type and by name.

    Args:
        source: The dataset.
        features: The columns, as ``datasets`` describes them.

    Raises:
        DataError: If there is none, or several could be meant.
    """
    known = {kind: name for kind, name in source.recorded.items() if isinstance(name, str) and name in features}
    image = _named(source, features, "image") or known.get("image") or _image(source.place, features)
    label = _named(source, features, "label") or known.get("label") or _label(source.place, features, image)
    return image, label


def _named(source: Source, features: Mapping[str, Any], kind: str) -> str | None:
    name = source.image_column if kind == "image" else source.label_column
    if name is None:
        return None
    fits = _may_be_images if kind == "image" else _holds_labels
    if name not in features or not fits(features[name]):
        why = f"that holds {kind}s" if name in features else "of that name"
        other = ", ".join(features) or "none"
        raise DataError(f"{source.place} has no column {name!r} {why}; name one of {other} with --{kind}-column.")
    return name


def _image(source: str, features: Mapping[str, Any]) -> str:
    declared = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    stored = [name for name, feature in features.items() if holds_images(feature)]
    texts = [name for name, feature in features.items() if _is_text(feature)]
    by_name = _of_these(stored, IMAGE_COLUMNS)
    found = declared or (by_name if len(by_name) == 1 else stored) or _of_these(texts, IMAGE_COLUMNS)
    found = found or _of_these(texts, PATH_COLUMNS)
    if len(found) == 1:
        return found[0]
    if not found:
        others = ", ".join(features) or "none"
        raise DataError(f"{source} has no image column among {others}; choose a dataset with one.")
    raise DataError(f"{source} has {len(found)} image columns ({', '.join(found)}); name one with --image-column.")


def _label(source: str, features: Mapping[str, Any], image: str) -> str:
    declared = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    plain = [name for name, feature in features.items() if _holds_labels(feature) and name != image]
    usual = [name for name in LABEL_COLUMNS if name in plain][:1]
    found = declared or usual or _of_these(plain, LABEL_COLUMNS) or _of_these(plain, MORE_LABEL_COLUMNS)
    if len(found) > 1 and "fine_label" in found:
        return "fine_label"
    if len(found) == 1:
        return found[0]
    if not found:
        hint = f"name one of {', '.join(plain)} with --label-column" if plain else "choose a dataset with one"
        raise NoLabels(f"{source} has no labels among {', '.join(features)}; {hint}.")
    raise DataError(f"{source} has {len(found)} label columns ({', '.join(found)}); name one with --label-column.")


def _of_these(names: Sequence[str], usual: Sequence[str]) -> list[str]:
    return [name for name in names if name.lower() in usual]


def holds_images(feature: Any) -> bool:
    """Whether a column is images, as declared or by its type; texts may be paths, which only their name tells."""
    if isinstance(feature, datasets.Image):
        return True
    if isinstance(feature, Mapping):
        return "bytes" in feature and _is_binary(feature["bytes"])
    return _is_binary(feature)


def _may_be_images(feature: Any) -> bool:
    return holds_images(feature) or _is_text(feature)


def _is_binary(feature: Any) -> bool:
    return isinstance(feature, datasets.Value) and "binary" in feature.dtype


def _is_text(feature: Any) -> bool:
    return isinstance(feature, datasets.Value) and "string" in feature.dtype


def _holds_labels(feature: Any) -> bool:
    if isinstance(feature, datasets.ClassLabel):
        return True
    numbers = r"u?int\d+|bool|float\d+|(large_)?string|string_view"
    return isinstance(feature, datasets.Value) and re.fullmatch(numbers, feature.dtype) is not None


def as_images(rows: Any, column: str, find: Callable[[str], str]) -> Any:
    """Give a column of images the form ``{"bytes", "path"}``, undecoded.

    Args:
        rows: A table or a stream whose images are declared, or bytes, or paths, or both.
        column: The images.
        find: Where a path of the table leads.
    """
    form, kept = datasets.Image(decode=False), rows.features[column]
    if isinstance(kept, datasets.Image):
        return rows.cast_column(column, form)
    one = partial(_as_image, find=find)
    if isinstance(rows, datasets.IterableDataset):
        features = datasets.Features({**rows.features, column: form})
        return rows.map(one, input_columns=column, fn_kwargs={"column": column}, features=features)
    rows = rows.cast_column(column, form)
    if _is_binary(kept) or (not _is_text(kept) and len(rows) and rows[0][column]["bytes"] is not None):
        return rows
    images = [one(image, column)[column] for image in rows[column]]
    return rows.remove_columns(column).add_column(column, images, feature=form)


def _as_image(image: Any, column: str, find: Callable[[str], str]) -> dict[str, Any]:
    """An image that was bytes, a path or both."""
    content = image.get("bytes") if isinstance(image, Mapping) else image if isinstance(image, bytes) else None
    path = image.get("path") if isinstance(image, Mapping) else image if isinstance(image, str) else None
    return {column: {"bytes": content, "path": find(path) if path is not None and content is None else None}}


def below(folders: Sequence[str], path: str) -> str:
    """A path of a table, taken from the first of its folders in which it leads to a file.

    Args:
        folders: The dataset's folder and those of its tables.
        path: A path or an address; absolute ones stay.
    """
    if "://" in path or os.path.isabs(path):
        return path
    places = [os.path.join(folder, path) for folder in folders]
    return next((place for place in places if os.path.isfile(place)), places[0] if places else path)


def is_hidden(label: Any) -> bool:
    """Whether a label is none: missing, -1, not a number, or an empty text."""
    return label is None or label == -1 or label == "" or label != label


def plain_label(source: str, label: Any) -> Any:
    """A label as a bool, a whole number or a text.

    Raises:
        DataError: If it is a number that is not whole.
    """
    if not isinstance(label, float):
        return label
    if not label.is_integer():
        raise DataError(f"The labels of {source} are numbers such as {label:g}, not classes; choose another column.")
    return int(label)
