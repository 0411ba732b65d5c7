"""Opens datasets: folders of images, folders of tables, and the Hub; each as splits whose rows are read when asked."""

from __future__ import annotations

import glob
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from datasets.data_files import DataFilesDict, get_data_patterns, sanitize_patterns  # type: ignore[import-untyped]
from datasets.exceptions import DatasetNotFoundError  # type: ignore[import-untyped]
from datasets.packaged_modules.parquet.parquet import Parquet  # type: ignore[import-untyped]
from huggingface_hub import constants, get_session
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from sgnas_zoo.errors import DataError, DataWarning, printable
from sgnas_zoo.training.data.columns import Source, below, find_columns, holds_images
from sgnas_zoo.training.data.image_files import Files, LeftOut, Parts, list_files
from sgnas_zoo.training.data.image_folder import ImageFolder, arrange

SECONDS = 10
"""How long the Hub may take to answer at all."""

NETWORK_MODULES = ("httpx", "httpx2", "requests", "urllib3")
"""Where the exceptions come from that mean: the Hub did not answer."""


Tables = dict[str, tuple[list[str], Any]]
"""Parquet files and features of each split."""


@dataclass(frozen=True)
class Splits:
    """The splits of a dataset.

    Args:
        names: Of the splits with labels, or that may have them.
        rows: Opens one.
        features: The columns of one.
        labels: All values of a column of one; none where it lacks the column.
        unlabelled: Splits without any label, and how many images they have.
        find: Where a relative path in a table leads.
    """

    names: tuple[str, ...]
    rows: Callable[[str], Any]
    features: Callable[[str], Mapping[str, Any]]
    labels: Callable[[str, str], Sequence[Any]]
    unlabelled: Mapping[str, int] = field(default_factory=dict)
    find: Callable[[str], str] = str


def open_splits_of(source: Source, streaming: bool) -> Splits:
    """Open a dataset.

    Args:
        source: Folder or Hub id.
        streaming: Read rows as they come.

    Raises:
        DataError: If there is none, it is out of reach, or none of its images has a class.
    """
    place = source.place
    path = Path(place).expanduser()
    is_folder = bool(place) and path.is_dir()
    if path.is_file():
        raise DataError(f"{place} is a file; name the folder that holds the images or parquet files.")
    if not is_folder and not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", place):
        raise DataError(f"The folder {place} does not exist; name a folder, or a Hub dataset as user/name.")
    if not sys.stderr.isatty() and not datasets.are_progress_bars_disabled():
        datasets.disable_progress_bars()
    return _folder(replace(source, place=str(path)), streaming) if is_folder else _loaded(place, streaming)


def _folder(source: Source, streaming: bool) -> Splits:
    """A folder of whatever kind."""
    place, files = source.place, list_files(source.place)
    if files.metadata:
        return _described(source, files, streaming)
    tables = _tables(place, files) if files.tables else {}
    if tables and (not files.images or any(_may_be_it(source, features) for _, features in tables.values())):
        return _of_tables(place, files, tables, streaming)
    if files.images:
        for parts in files.tables:
            files.left_out.add("tables without images", parts)
        return _of_images(place, arrange(files), streaming)
    if files.left_out.names:
        raise DataError(f"{place} has no image that can be read; left out: {files.left_out}.")
    return _loaded(place, streaming)


def _may_be_it(source: Source, features: Mapping[str, Any]) -> bool:
    """Whether a table that lies among images is the dataset: those of an embedding or of scores are not."""
    return any(map(holds_images, features.values())) or _has_columns(source, features)


def _has_columns(source: Source, features: Mapping[str, Any]) -> bool:
    try:
        find_columns(source, features)
    except DataError:
        return False
    return True


def _of_images(place: str, found: ImageFolder, streaming: bool) -> Splits:
    _tell(place, found.left_out)
    if found.hint:
        warnings.warn(found.hint, DataWarning, stacklevel=2)
    return Splits(
        tuple(found.splits),
        partial(found.rows, streaming=streaming),
        lambda split: {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(found.classes))},
        lambda split, column: [label for label, _ in found.splits[split]],
        found.unlabelled,
    )


def _described(source: Source, files: Files, streaming: bool) -> Splits:
    """Images whose labels are in a file metadata.csv or metadata.jsonl, as ``datasets`` reads it; else in folders."""
    opened = _loaded(source.place, streaming)
    if not _has_columns(source, opened.features(opened.names[0])):
        return _of_images(source.place, arrange(files), streaming)
    if not streaming and (lacking := len(files.images) - sum(len(opened.rows(name)) for name in opened.names)) > 0:
        told = f"{printable(source.place)}: {lacking:,} images are not read; list them in the metadata file."
        warnings.warn(told, DataWarning, stacklevel=2)
    return opened


def _loaded(place: str, streaming: bool) -> Splits:
    """Whatever ``datasets`` opens by itself."""
    with explained(place):
        if not os.path.isdir(place):
            _knock(place)
        splits = dict(datasets.load_dataset(place, streaming=streaming))

    def labels(split: str, column: str) -> Sequence[Any]:
        table = splits[split]
        return table.select_columns([column])[column][:] if column in table.column_names else []

    return Splits(tuple(splits), splits.__getitem__, lambda split: splits[split].features or {}, labels)


def _tables(place: str, files: Files) -> Tables:
    """The parquet files of each split and their features, as far as ``datasets`` takes the folder for parquet."""
    with explained(place):
        chosen, features = _parquet_files(place)
        found = {
            str(split): (list(paths), features or datasets.Features.from_arrow_schema(pq.read_schema(paths[0])))
            for split, paths in chosen.items() if paths
        }  # fmt: skip
    read = {os.path.realpath(path) for paths, _ in found.values() for path in paths}
    for parts in files.tables:
        if os.path.realpath(os.path.join(files.root, *parts)) not in read:
            files.left_out.add("tables whose names tell no split", parts)
    return found


def _parquet_files(place: str) -> tuple[Mapping[Any, Sequence[str]], Any]:
    """Files by split as ``datasets`` tells them from their names, and the features that a card declares."""
    if glob.escape(place) == place:
        builder = datasets.load_dataset_builder(place)
        if isinstance(builder, Parquet):
            return builder.config.data_files, builder.info.features
    # Such a folder's name is a pattern to datasets, or it takes the files beside the tables for the dataset.
    escaped = glob.escape(os.path.abspath(place))
    patterns = sanitize_patterns(get_data_patterns(escaped))
    return DataFilesDict.from_patterns(patterns, escaped, [".parquet"]), None


def _of_tables(place: str, files: Files, tables: Tables, streaming: bool) -> Splits:
    """Parquet files, one split at a time: their columns need not be the same."""
    folders = [files.root, *dict.fromkeys(os.path.dirname(path) for paths, _ in tables.values() for path in paths)]
    with explained(place):
        for parts in _beside(files, tables, folders):
            files.left_out.add("images in no table", parts)
    _tell(place, files.left_out)

    def rows(split: str) -> Any:
        paths, features = tables[split]
        with explained(place):
            chosen = {split: [glob.escape(path) for path in paths]}
            return datasets.load_dataset(
                "parquet", data_files=chosen, split=split, features=features, streaming=streaming
            )

    def labels(split: str, column: str) -> Sequence[Any]:
        with explained(place):
            return [
                label
                for path in tables[split][0] if column in pq.read_schema(path).names
                for label in pq.read_table(path, columns=[column])[column].to_pylist()
            ]  # fmt: skip

    return Splits(tuple(tables), rows, lambda split: tables[split][1], labels, find=partial(below, folders))


def _beside(files: Files, tables: Tables, folders: Sequence[str]) -> Iterator[Parts]:
    """Images that lie among tables, and whose paths are in none of them."""
    known: set[str] = set()
    if files.images:
        known.update(text for paths, _ in tables.values() for path in paths for text in _texts(path))
    for parts in files.images:
        whole = os.path.join(files.root, *parts)
        if not {whole, *(os.path.relpath(whole, folder) for folder in folders)} & known:
            yield parts


def _texts(path: str) -> Iterator[str]:
    """All texts of a parquet file that may be paths, those beside the bytes of images too."""
    columns = [
        f"{column.name}.path" if pa.types.is_struct(column.type) else column.name
        for column in pq.read_schema(path)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        or (pa.types.is_struct(column.type) and column.type.get_field_index("path") >= 0)
    ]  # fmt: skip
    for column in pq.read_table(path, columns=columns).flatten().columns:
        yield from column.to_pylist()


def _tell(place: str, left_out: LeftOut) -> None:
    if left_out.names:
        warnings.warn(f"{printable(place)}: left out {left_out}.", DataWarning, stacklevel=2)


def _knock(source: str) -> None:
    """Ask the Hub once, unless the dataset is in the cache: ``datasets`` would retry for half a minute."""
    cached = Path(datasets.config.HF_DATASETS_CACHE) / source.replace("/", "___")
    if not cached.is_dir():
        get_session().head(f"{constants.ENDPOINT}/api/datasets/{source}", timeout=SECONDS)


@contextmanager
def explained(source: str) -> Iterator[None]:
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
            hint = f"{source} is neither a folder nor a public dataset on the Hub; check the name, or `hf auth login`."
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
