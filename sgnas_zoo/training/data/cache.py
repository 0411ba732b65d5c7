"""Decoded images in one file: read once, then mapped into memory by every process and every later run.

A cache is a folder of two files: ``pixels.bin``, bytes of shape (N, side, side, 3), and ``cache.json``, which says what
they are of and how to tell that they are whole. It is written beside its place and renamed, so it is there or not.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from sgnas_zoo.errors import DataError
from sgnas_zoo.files import user_cache, write_json, writing
from sgnas_zoo.folders import among_others
from sgnas_zoo.training.data.decoding import decode
from sgnas_zoo.training.data.sources import LabelledImages

VERSION = 1
PIXELS, TOLD = "pixels.bin", "cache.json"
CHUNK = 1024
"""Images that a process decodes at once, and that share a checksum."""

LOOKED_AT = 32
"""Images of a cache that are compared with their source before it is used."""


@dataclass(frozen=True)
class CachedImages:
    """One split, decoded.

    Args:
        pixels: (N, side, side, 3), uint8, mapped; what is written to it stays in this process.
        labels: (N,), indices into the classes.
        readable: (N,), False for an image that could not be read; its pixels are 0.
        images: What they are of.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    readable: NDArray[np.bool_]
    images: LabelledImages


def cache_folder() -> Path:
    """Where caches are kept: ``sgnas_zoo/images`` in the user's cache (``XDG_CACHE_HOME``)."""
    return user_cache("images")


Cut = Callable[[Image.Image], Tensor]
"""From an image to uint8 pixels (3, side, side); its ``repr`` says all that it does."""


def cached(images: LabelledImages, cut: Cut, side: int, *, workers: int = 0, quiet: bool = False) -> CachedImages:
    """The images of a split, decoded and cut; from the cache, or decoded into it.

    Several processes may ask at once: one decodes, the others wait. A cache that is damaged, or of other images than
    its name says, is made again.

    Args:
        images: What to decode; not a stream.
        cut: Makes them all of one size.
        side: That size.
        workers: Processes that decode.
        quiet: Show no progress.

    Raises:
        DataError: If it is a stream.
        ArtifactError: If the cache cannot be written, as on a full disk; nothing half-made stays.
    """
    if images.record["streaming"]:
        raise DataError("A stream cannot be cached; leave out --cache or --streaming.")
    labels = np.asarray(images.rows["label"][:], np.int64)
    told = _told(images, labels, cut, side)
    folder = cache_folder() / hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=10).hexdigest()
    then = f"free {_size(told):,} bytes there, name another place with XDG_CACHE_HOME, or leave out --cache"
    with writing(folder.parent, then):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            found = _opened(folder, told, images, labels)
            if found is None:
                with among_others(folder, replacing=(PIXELS, TOLD)) as part, writing(folder.parent, then):
                    _build(part, told, images, cut, workers, quiet)
                found = _opened(folder, told, images, labels)
    if found is None:
        raise DataError(f"The cache {folder} does not keep what is written to it; leave out --cache.")
    return found


def _told(images: LabelledImages, labels: NDArray[np.int64], cut: Cut, side: int) -> dict[str, Any]:
    """What a cache is of: the same for the same images, whoever asks."""
    return {
        "version": VERSION, "side": side, "cut": repr(cut),
        "images": dict(images.record), "labels": hashlib.blake2b(labels.tobytes(), digest_size=16).hexdigest(),
    }  # fmt: skip


def _size(told: Mapping[str, Any]) -> int:
    """Bytes of the pixels."""
    return int(told["images"]["rows"] * told["side"] ** 2 * 3)


def _opened(
    folder: Path, told: Mapping[str, Any], images: LabelledImages, labels: NDArray[np.int64]
) -> CachedImages | None:  # fmt: skip
    """What is in a folder, if that is a whole cache of these images."""
    try:
        said = json.loads((folder / TOLD).read_text())
        size, side = told["images"]["rows"], told["side"]
        if said["told"] != told or (folder / PIXELS).stat().st_size != _size(told):
            return None
        pixels = np.memmap(folder / PIXELS, np.uint8, "c", shape=(size, side, side, 3))
        starts = range(0, size, CHUNK)
        if said["sums"] != [zlib.crc32(pixels[start : start + CHUNK].data) for start in starts]:
            return None
        if any(said["sources"][str(at)] != _source_sum(images.rows[at]["image"]) for at in _looked_at(size)):
            return None
        readable = np.ones(size, bool)
        readable[said["unreadable"]] = False
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    return CachedImages(pixels, labels, readable, images)


def _looked_at(size: int) -> list[int]:
    """Rows that are compared with their source."""
    return sorted({int(at) for at in np.linspace(0, size - 1, LOOKED_AT)})


def _source_sum(image: Mapping[str, Any]) -> int:
    """Checksum of an image as it lies in its dataset: of its bytes, or of its file's size and time."""
    if image["bytes"] is not None:
        return zlib.crc32(image["bytes"])
    try:
        status = os.stat(image["path"])
    except OSError:
        return 0
    return zlib.crc32(f"{status.st_size} {status.st_mtime_ns}".encode())


def _build(
    folder: Path, told: Mapping[str, Any], images: LabelledImages, cut: Cut, workers: int, quiet: bool
) -> None:  # fmt: skip
    """Decode into an empty folder."""
    size = told["images"]["rows"]
    with (folder / PIXELS).open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, _size(told))  # a full disk is met here, not in the middle
    chunks = [range(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)]
    decoded = _decoded(partial(_decode_chunk, images, cut, told["side"], folder / PIXELS), chunks, workers)
    sums, unreadable = [], []
    for total, failed in tqdm(decoded, "decoded", len(chunks), unit=f" x {CHUNK} images", disable=quiet):
        sums.append(total)
        unreadable += failed
    sources = {str(at): _source_sum(images.rows[at]["image"]) for at in _looked_at(size)}
    write_json(folder / TOLD, {"told": dict(told), "sums": sums, "unreadable": unreadable, "sources": sources})


def _decoded(
    decode_chunk: Callable[[range], tuple[int, list[int]]], chunks: list[range], workers: int
) -> Iterable[tuple[int, list[int]]]:
    """Checksums and unreadable rows of all chunks, in order."""
    if workers < 2 or len(chunks) < 2:
        yield from map(decode_chunk, chunks)
        return
    with ProcessPoolExecutor(min(workers, len(chunks)), get_context("spawn")) as pool:
        yield from pool.map(decode_chunk, chunks)


def _decode_chunk(images: LabelledImages, cut: Cut, side: int, path: Path, rows: range) -> tuple[int, list[int]]:
    """Decode some rows into their place in a file; give their checksum and those that cannot be read."""
    unreadable = []
    pixels = np.zeros((len(rows), side, side, 3), np.uint8)
    for place, row in enumerate(rows):
        try:
            pixels[place] = cut(decode(images.rows[row]["image"])).permute(1, 2, 0).numpy()
        except Exception:  # PIL raises nearly anything on broken bytes
            unreadable.append(row)
    with path.open("r+b") as file:
        file.seek(rows.start * pixels[0].nbytes)
        file.write(pixels.data)
    return zlib.crc32(pixels.data), unreadable
