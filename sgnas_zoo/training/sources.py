"""Labelled images from the Hub or a folder, undecoded: columns found, one part held out by a seed."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import datasets  # type: ignore[import-untyped]
import numpy as np
from datasets.exceptions import DatasetNotFoundError  # type: ignore[import-untyped]
from huggingface_hub import constants, get_session
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from sgnas_zoo.errors import DataError

TEST_SPLITS = ("test", "validation", "val", "valid")
"""Names of the split that is not for training; asked for one, the first that exists is taken."""

LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
"""Columns taken as labels where no column is declared as classes."""

SECONDS = 10
"""How long the Hub may take to answer at all."""

NETWORK_MODULES = ("httpx", "httpx2", "requests", "urllib3")
"""Where the exceptions come from that mean: the Hub did not answer."""


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
    source: str,
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
        source: Hub id, folder of parquet files, or folder of one folder per class (with or without split folders).
        split: ``test``, ``validation``, ``val`` and ``valid`` stand in for one another.
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
    splits = _open(source, streaming)
    name = _choose_split(source, split, list(splits))
    image, label = _find_columns(source, splits[name].features or {})
    rows = splits[name].select_columns([image, label]).cast_column(image, datasets.Image(decode=False))
    rows = rows.rename_columns({old: new for old, new in ((image, "image"), (label, "label")) if old != new})
    others = [other for other in splits if other != name]
    if streaming:
        rows, classes = _check_stream(source, name, rows, others)
        if holdout:
            rows = rows.filter(partial(_is_on_side, seed=seed, holdout=holdout, held=part == "held"))
        rows = rows if limit is None else rows.take(limit)
    else:
        columns = [table.select_columns([label])[label] for table in splits.values() if label in table.column_names]
        rows, classes = _index_labels(source, name, rows, columns, others)
        chosen = _cut(rows["label"][:], holdout, part == "held", seed) if holdout else np.arange(len(rows))
        if limit is not None:
            chosen = np.random.default_rng(seed).permutation(chosen)[:limit]
        rows = rows.select(chosen, keep_in_memory=True)  # in memory: processes do not meet in one cache file
    record = {
        "source": Path(source).name if Path(source).expanduser().is_dir() else source,
        "revision": _revision(source, splits[name]),
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
    source: str, holdout: float, eval_split: str | None, **options: Any
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
    final = held if held and not eval_split else load_images(source, eval_split or "test", **options)
    return kept, held, final


def _open(source: str, streaming: bool) -> Mapping[str, Any]:
    """All splits of a dataset, or a :class:`DataError` that says what to do."""
    path = Path(source).expanduser()
    is_folder = bool(source) and path.is_dir()
    if path.is_file():
        raise DataError(f"{source} is a file; name the folder that holds the images or parquet files.")
    if not is_folder and not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", source):
        raise DataError(f"The folder {source} does not exist; name a folder, or a Hub dataset as user/name.")
    if not sys.stderr.isatty() and not datasets.are_progress_bars_disabled():
        datasets.disable_progress_bars()
    with _explained(source):
        if not is_folder:
            _knock(source)
        return dict(datasets.load_dataset(str(path) if is_folder else source, streaming=streaming))


def _knock(source: str) -> None:
    """Ask the Hub once, unless the dataset is in the cache: ``datasets`` would retry for half a minute."""
    cached = Path(datasets.config.HF_DATASETS_CACHE) / source.replace("/", "___")
    if not cached.is_dir():
        get_session().head(f"{constants.ENDPOINT}/api/datasets/{source}", timeout=SECONDS)


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """Turn whatever ``datasets`` raises, which is nearly anything, into one line."""
    try:
        yield
    except Exception as error:
        chain: list[BaseException] = [error]
        while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
            chain.append(cause)
        page = f"https://huggingface.co/datasets/{source}"
        if any(isinstance(e, GatedRepoError) or "gated dataset" in str(e) for e in chain):
            hint = f"Dataset {source} is gated; accept its terms at {page}, then run `hf auth login`."
        elif any(isinstance(e, DatasetNotFoundError | RepositoryNotFoundError) for e in chain):
            hint = f"{source} is no folder here and no public dataset on the Hub; check the name, or `hf auth login`."
        elif any(
            isinstance(e, ConnectionError | LocalEntryNotFoundError)
            or type(e).__module__.partition(".")[0] in NETWORK_MODULES
            for e in chain
        ):
            hint = f"Cannot reach the Hub for {source}, and it is not in the cache; go online, or name a local folder."
        else:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
            hint = f"Cannot read {source}: {reason}; name a folder of images or parquet files, or a Hub dataset."
        raise DataError(hint) from error


def _choose_split(source: str, split: str, names: list[str]) -> str:
    stand_ins: tuple[str, ...] = TEST_SPLITS if split in TEST_SPLITS else ()
    for name in (split, *stand_ins):
        if name in names:
            return name
    raise DataError(f"{source} has no split {split!r}; choose from {', '.join(names) or 'none'}.")


def _find_columns(source: str, features: Mapping[str, Any]) -> tuple[str, str]:
    """The image column and the label column, by their type."""
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if len(images) != 1:
        found = f"{len(images)} image columns ({', '.join(images)})" if images else "no image column"
        raise DataError(f"{source} has {found} among {', '.join(features) or 'none'}; choose a dataset with one.")
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if not labels:
        plain = [name for name in LABEL_COLUMNS if isinstance(features.get(name), datasets.Value)]
        labels = [name for name in plain if re.match("u?int|(large_)?string", features[name].dtype)][:1]
    if len(labels) > 1 and "fine_label" in labels:
        labels = ["fine_label"]
    if len(labels) != 1:
        found = f"{len(labels)} label columns ({', '.join(labels)})" if labels else "no labels"
        raise DataError(
            f"{source} has {found} among {', '.join(features)}; choose a dataset with one column of classes."
        )
    return images[0], labels[0]


def without_labels(source: str, split: str, others: Sequence[str]) -> DataError:
    """The error for a split whose labels are hidden."""
    hint = f"choose the split {' or '.join(others)}" if others else "choose a labelled dataset"
    return DataError(f"The split {split} of {source} has rows without labels; {hint}.")


def _check_stream(source: str, split: str, rows: Any, others: Sequence[str]) -> tuple[Any, tuple[str, ...]]:
    """Look at the first row of a stream: more cannot be known without reading it all."""
    feature = rows.features["label"]
    if not isinstance(feature, datasets.ClassLabel):
        raise DataError(f"The labels of {source} have no names, and a stream cannot count them; load it whole.")
    with _explained(source):
        first = next(iter(rows), None)
    if first is None:
        raise DataError(f"The split {split} of {source} is empty; choose another split or dataset.")
    if first["label"] in (None, -1):
        raise without_labels(source, split, others)
    return rows, tuple(feature.names)


def _index_labels(
    source: str, split: str, rows: Any, columns: Sequence[Any], others: Sequence[str]
) -> tuple[Any, tuple[str, ...]]:
    """Refuse missing labels, and number those without names by sorting what all splits hold."""
    labels = rows["label"][:]
    if not labels:
        raise DataError(f"The split {split} of {source} is empty; choose another split or dataset.")
    if any(label is None or label == -1 for label in labels):
        raise without_labels(source, split, others)
    feature = rows.features["label"]
    if isinstance(feature, datasets.ClassLabel):
        return rows, tuple(feature.names)
    values = sorted(set().union(*(column[:] for column in columns)) - {None, -1})
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


def _revision(source: str, rows: Any) -> str | None:
    """Commit of a Hub dataset, where ``datasets`` says it: in the addresses or in the cache folder."""
    if Path(source).expanduser().is_dir():
        return None
    places = [*(rows.info.download_checksums or {}), *(file["filename"] for file in getattr(rows, "cache_files", []))]
    found = re.search(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])", " ".join(places))
    return found[0] if found else None
