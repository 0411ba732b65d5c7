"""One way to read what a user calls a model, a supernet, a generator or a profile: every spelling, at every door."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sgnas_zoo.errors import ArtifactError, UnknownNameError

LOCAL, HUB = "local-dir", "hf-hub"
REPO = re.compile(r"(?![.-])[\w.-]+/(?![.-])[\w.-]+(@.+)?")
CONFIG = "config.json"


class Place(NamedTuple):
    """Where an artifact is: in a folder, or in a repo of the Hub.

    Args:
        folder: The folder, or the file of a profile; it exists. None for a repo.
        repo: ``USER/NAME`` with an optional ``@REVISION``; empty for a folder.
    """

    folder: Path | None = None
    repo: str = ""

    @property
    def name(self) -> str:
        """What to call it, or what is made from it, by itself: the folder's own name, or NAME."""
        return self.repo.partition("@")[0].rpartition("/")[2] if self.folder is None else self.folder.resolve().name

    def __str__(self) -> str:
        return self.repo if self.folder is None else str(self.folder)


def read_name(name: str | Path, is_name: Callable[[str], bool] = lambda _: False) -> Place | None:
    """Where something is that a user has named; None for a plain name such as ``sgnas_a`` or ``sgnas_a.in1k``.

    A folder is written as it is (``my-model``, ``./my-model``, ``a/b``, ``.``, ``~/model``) or ``local-dir:FOLDER``,
    a repo ``USER/NAME[@REVISION]`` or ``hf-hub:USER/NAME[@REVISION]``. What is a folder here is not a repo.

    Args:
        name: What the user wrote; a Path is always a folder.
        is_name: Whether a word is the name of something that there is, beside folders and repos.

    Raises:
        ArtifactError: If the folder does not exist, or it is not a repo id.
        UnknownNameError: If it is a name and a folder that holds an artifact at once, or its source is unknown.
    """
    text, (source, colon, rest) = str(name), str(name).partition(":")
    source = source.lower().replace("_", "-")
    if isinstance(name, Path):
        return Place(_existing(text))
    if colon and source in (LOCAL, HUB):
        if not rest:
            raise UnknownNameError(f"{name} names nothing; write local-dir:FOLDER or hf-hub:USER/NAME.")
        return Place(_existing(rest)) if source == LOCAL else Place(repo=_repo(rest))
    folder = Path(os.path.expanduser(text))
    if text and is_name(text):
        if os.path.isfile(folder / CONFIG):
            raise UnknownNameError(
                f"{name} is a name and a folder here; write ./{name} for the folder, or move it away."
            )
        return None
    if text and os.path.exists(folder):
        return Place(folder)
    if REPO.fullmatch(text):
        return Place(repo=text)
    if colon and re.fullmatch(r"[\w+.-]{2,}", source):
        raise UnknownNameError(f"{source}: is not a source of models; write local-dir:FOLDER or hf-hub:USER/NAME.")
    if text.startswith(("/", "./", "../", "~")) or text in (".", ".."):
        return Place(_existing(text))
    if "/" in text:
        raise neither(text)
    return None


def read_place(name: str | Path) -> Place:
    """As ``read_name``, where nothing but a folder or a repo will do.

    Raises:
        ArtifactError: If it is neither; as ``read_name`` does.
    """
    place = read_name(name)
    if place is None:
        raise neither(str(name))
    return place


def read_folder(name: str | Path) -> Path:
    """As ``read_name``, where only what is on this machine will do; whether it exists is not looked up again.

    Raises:
        ArtifactError: If it is a repo; as ``read_name`` does.
    """
    place = read_name(name)
    if place is not None and place.folder is None:
        raise ArtifactError(f"There is no folder {name}; name one that a recipe or `generate --output` wrote.")
    return Path(name) if place is None or place.folder is None else place.folder


def neither(text: str) -> ArtifactError:
    """The error for a name that is not a folder here, and cannot be a repo."""
    return ArtifactError(f"{text[:200]!r} is neither a folder here nor a Hub repo id; write USER/NAME.")


def _existing(text: str) -> Path:
    folder = os.path.expanduser(text)
    if not os.path.exists(folder):
        raise ArtifactError(f"There is no folder {folder}; name one that save_model or a recipe wrote.")
    return Path(folder)


def _repo(text: str) -> str:
    if not REPO.fullmatch(text):
        raise ArtifactError(f"{text!r} is not a Hub repo id; write USER/NAME, with @REVISION behind it if need be.")
    return text
