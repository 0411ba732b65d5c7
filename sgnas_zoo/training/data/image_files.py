"""Which files of a folder are images that can be read, and what is left out for which reason."""

from __future__ import annotations

import mimetypes
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError, features

from sgnas_zoo.errors import printable
from sgnas_zoo.training.data.decoding import reads_heif

Parts = tuple[str, ...]
"""A path below the folder, name by name."""

TABLES = (".parquet",)
METADATA = ("metadata.csv", "metadata.jsonl")
HEIF = (".heic", ".heif", ".hif")
AVIF = (".avif", ".avifs")
NO_IMAGES = ("MPEG", "EPS", "WMF", "HDF5", "GRIB", "BUFR")
"""What Pillow registers and cannot read, or not without another program."""
UNREADABLE = (".svg", ".svgz", ".jxl", ".exr", ".hdr", ".dcm", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf",
              ".rw2", ".raf")  # fmt: skip
"""Image files that Pillow cannot read; so is whatever else the table of media types calls an image."""
TYPES = mimetypes.MimeTypes()
SNIFFED = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "HEIF")
"""Formats that a file without a known suffix may have: those that begin with a signature."""
NAMED = 3
"""How many files of each reason a message names."""


class LeftOut:
    """What is not read, by reason."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}

    def add(self, reason: str, parts: Parts) -> None:
        """Note a file or folder."""
        self.names.setdefault(reason, []).append(printable("/".join(parts)))

    def __str__(self) -> str:
        """Counts, reasons and the first names, in one line."""
        told = []
        for reason, names in self.names.items():
            more = ", ..." if len(names) > NAMED else ""
            told.append(f"{len(names):,} {reason} ({', '.join(sorted(names)[:NAMED])}{more})")
        return "; ".join(told)


@dataclass
class Files:
    """The files of a folder that matter here.

    Args:
        root: The folder.
        images: Readable images.
        tables: Parquet files.
        folders: Folders that are not hidden, two levels deep.
        metadata: Whether a file is there in which ``datasets`` looks for what images are of.
        left_out: What was not read.
    """

    root: str
    images: list[Parts] = field(default_factory=list)
    tables: list[Parts] = field(default_factory=list)
    folders: list[Parts] = field(default_factory=list)
    metadata: bool = False
    left_out: LeftOut = field(default_factory=LeftOut)


def list_files(root: str | Path) -> Files:
    """Look through a folder and its sub-folders, linked ones included.

    Args:
        root: The folder.
    """
    found = Files(os.path.abspath(root))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images
        for parts in _walk(found, (), ()):
            _sort_in(parts, found)
    return found


def _sort_in(parts: Parts, found: Files) -> None:
    suffix = os.path.splitext(parts[-1])[1].lower()
    if _hidden(parts):
        if suffix in readable_suffixes() or suffix in HEIF:
            found.left_out.add("hidden", parts)
    elif suffix in TABLES:
        found.tables.append(parts)
    elif (reason := _why_not(os.path.join(found.root, *parts), suffix)) is None:
        found.images.append(parts)
    elif reason:
        found.left_out.add(reason, parts)
    elif parts[-1] in METADATA:
        found.metadata = True


def _hidden(parts: Parts) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _why_not(path: str, suffix: str) -> str | None:
    """Why a file is not read: None if it is, an empty text if it is not an image at all."""
    if suffix in readable_suffixes():
        return None
    if suffix in HEIF:
        return None if reads_heif() else "HEIC that need `pip install pillow-heif`"
    if suffix in AVIF:
        return "AVIF that need `pip install 'pillow>=11.3'`"
    media_type = TYPES.types_map[True].get(suffix) or TYPES.types_map[False].get(suffix)
    if suffix in UNREADABLE or (media_type or "").startswith("image/"):
        return f"{suffix} that Pillow cannot read"
    return "" if media_type else _sniff(path)


@cache
def readable_suffixes() -> frozenset[str]:
    """Suffixes of the files that Pillow reads here, in lower case."""
    registered = Image.registered_extensions().items()
    found = {suffix for suffix, form in registered if form in Image.OPEN and form not in NO_IMAGES}
    return frozenset(found.difference(HEIF, () if features.check("avif") else AVIF, (".pdf",)))


def _sniff(path: str) -> str | None:
    """Look into a file whose suffix says nothing: as :func:`_why_not`."""
    try:
        with open(path, "rb") as file:
            if file.read(12)[4:] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
                return _why_not(path, HEIF[0])
            Image.open(file, formats=[form for form in SNIFFED if form in Image.OPEN]).close()
    except UnidentifiedImageError:
        return ""
    except Image.DecompressionBombError:
        return None
    except OSError as error:
        return f"that cannot be opened ({error.strerror})" if error.strerror else ""
    except Exception:  # a header that only begins like an image's
        return ""
    return None


def _walk(found: Files, parts: Parts, above: tuple[tuple[int, int], ...]) -> Iterator[Parts]:
    """All regular files, through links too, but not back up through one that leads to a folder above itself."""
    folder = os.path.join(found.root, *parts)
    try:
        status = os.stat(folder)
        if (here := (status.st_dev, status.st_ino)) in above:
            found.left_out.add("links to a folder above", parts)
            return
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        found.left_out.add(f"that cannot be opened ({error.strerror})", parts or (found.root,))
        return
    if 0 < len(parts) < 3 and not _hidden(parts):
        found.folders.append(parts)
    for entry in inside:
        place = (*parts, entry.name)
        try:
            if entry.is_dir():
                yield from _walk(found, place, (*above, here))
            elif entry.is_file():
                yield place
            elif entry.is_symlink():
                found.left_out.add("links to nothing", place)
        except OSError as error:
            found.left_out.add(f"that cannot be opened ({error.strerror})", place)


def as_text(name: str) -> str:
    """A file's name as Unicode; bytes that are none are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
