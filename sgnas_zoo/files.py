"""Where a user's path leads, a file written whole or not at all, and one error for all that writes.

Folders are in ``folders.py``. Nothing else in the package or the recipes removes, renames or opens for writing what
lies at a path that a user named; a test reads the code for that.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.locks import workplace
from sgnas_zoo.plain_json import parse_json

MAX_CONFIG_BYTES = 1_000_000
"""A config is a few kilobytes; anything this large is not a config."""
KEEP_BOTH, SWAP = 1, 2
"""What ``renameat2`` does where the target is there: fail, or exchange the two (Linux)."""
_FULL = ("inline_container", "iostream error")
"""What is in the errors of ``torch.save`` where the disk takes no more."""


def user_cache(kind: str) -> Path:
    """Where this library keeps what it can make again: ``sgnas_zoo/KIND`` in the user's cache (``XDG_CACHE_HOME``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sgnas_zoo" / kind


def user_path(path: str | Path) -> Path:
    """Where a path leads that a user wrote: ``~`` is the home folder, links and ``..`` are followed.

    Raises:
        ArtifactError: If it leads nowhere, such as a broken link.
    """
    text = os.fspath(path)
    if not text or "\0" in text:
        raise ArtifactError(f"{text!r} names no place; name a file or folder.")
    try:
        written = Path(text).expanduser()
        found = Path(os.path.realpath(written))
    except (RuntimeError, OSError) as error:
        raise ArtifactError(f"{text} leads nowhere ({reason(error)}); name another place.") from error
    if os.path.islink(written) and (os.path.islink(found) or not os.path.exists(found)):
        raise ArtifactError(f"{text} is a link that leads nowhere; remove it or name another place.")
    return found


@contextmanager
def writing(place: object, then: str = "free space or choose another place") -> Iterator[None]:
    """Turn every error of a library that writes into one of ours.

    Args:
        place: What is written, for the message.
        then: The next step.

    Raises:
        ArtifactError: If the disk or the name is refused.
    """
    try:
        yield
    except (OSError, SafetensorError, UnicodeError) as error:
        raise ArtifactError(f"Cannot write {place}: {reason(error)}; {then}.") from error
    except RuntimeError as error:
        if not any(text in str(error) for text in _FULL):
            raise
        raise ArtifactError(f"Cannot write {place}: {reason(error)}; {then}.") from error


@contextmanager
def new_file(
    path: str | Path, *, force: bool = False, ours: Callable[[Path], bool] | None = None, suffix: str | None = None
) -> Iterator[Path]:
    """Give the path of a file that becomes ``path`` when the ``with`` block ends well; missing folders are made.

    Args:
        path: The file to make. A link is followed.
        force: Replace a file that is there.
        ours: Says of a file that is there whether it may be replaced; by default any may.
        suffix: Of the file given, as some loaders look at it; by default that of ``path``.

    Raises:
        ArtifactError: If something is in the way, or the disk refuses. Then all is as it was.
    """
    with writing(path):
        target = user_path(path)
        check_file(path, force=force, ours=ours)
        with parents(target), workplace(target.parent) as work:
            staging = work / f"new{target.suffix if suffix is None else suffix}"
            yield staging
            staging.chmod(0o644)  # some writers make files that only their owner can read
            check_file(path, force=force, ours=ours)  # it may have taken a while
            if force:
                os.replace(staging, target)
            else:
                rename_new(staging, target)


def check_file(path: str | Path, *, force: bool = False, ours: Callable[[Path], bool] | None = None) -> None:
    """Refuse to write a file where something is in the way; arguments as for ``new_file``.

    Raises:
        ArtifactError: If something is.
    """
    with writing(path):
        target = user_path(path)
        if target.is_dir():
            raise ArtifactError(f"{path} is a folder; name a file.")
        if not target.exists():
            return
        if not stat.S_ISREG(target.stat().st_mode):
            raise ArtifactError(f"{path} is not a regular file; name another.")
        if not force:
            raise ArtifactError(f"{path} exists; choose another name or add --force (force=True).")
        if ours and not ours(target):
            raise ArtifactError(f"{path} is not what sgnas_zoo writes there; choose another name or move it away.")


def write_file(path: str | Path, content: bytes | str) -> None:
    """Write a file whole or not at all; what is there is replaced.

    Raises:
        ArtifactError: If it cannot be written.
    """
    with new_file(path, force=True) as staging, writing(path):
        staging.write_bytes(content.encode() if isinstance(content, str) else content)


def write_whole(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON so that the file is whole or not there.

    Raises:
        ArtifactError: If it cannot be written.
    """
    with new_file(path, force=True) as staging:
        write_json(staging, json.loads(json.dumps(dict(content))))


def append_line(path: Path, line: str) -> None:
    """Add a line to a file, and have it on the disk.

    Raises:
        ArtifactError: If the disk refuses.
    """
    with writing(path, "free space, then go on with --resume"), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def check_writable(folder: Path) -> None:
    """See that a folder, or the nearest one above it that is there, takes a file: before minutes of work, not after.

    Raises:
        ArtifactError: If it does not.
    """
    with writing(f"to {folder}", "choose another folder, or set XDG_CACHE_HOME for the cache"):
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=there):
            pass


@contextmanager
def parents(target: Path) -> Iterator[None]:
    """Make the folders above a place; those made go again if they are empty in the end."""
    missing = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()


def rename_new(one: Path, other: Path) -> None:
    """Rename to a name that has to be free; FileExistsError where it is not, also if it was taken this very moment."""
    if renamed(one, other, KEEP_BOTH):
        return
    if os.path.lexists(other):
        raise FileExistsError(errno.EEXIST, "it is there by now", str(other))
    os.rename(one, other)


def renamed(one: Path, other: Path, how: int) -> bool:
    """Rename in one system call as ``KEEP_BOTH`` or ``SWAP`` says; False where the system cannot."""
    call = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here = -100  # AT_FDCWD: paths are as usual
    return call is not None and call(here, os.fsencode(one), here, os.fsencode(other), how) == 0


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Where a writer was killed while it replaced a folder in place, what was there before is put back first.

    Raises:
        ArtifactError: If the file is missing, too large, or not a JSON object.
    """
    from sgnas_zoo.folders import recover

    try:
        if not path.exists():
            recover(path.parent)
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ArtifactError(f"{path} is too large for a config; fetch the artifact again.")
        config = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; name a folder that holds config.json.") from None
    except (OSError, ValueError, RecursionError):
        raise ArtifactError(f"{path} is not valid JSON; fetch the artifact again.") from None
    if not isinstance(config, dict):
        raise ArtifactError(f"{path} does not contain a JSON object; fetch the artifact again.")
    return config


def record_key(config: Mapping[str, Any]) -> str:
    """Where a model's config holds its record; in configs of version 1 that is ``sgnas``."""
    return "zoo" if "zoo" in config else "sgnas"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON as people like to read it, into a folder that is being made."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reason(error: BaseException) -> str:
    """What went wrong as a library that reads or writes tells it, in one line without a full stop."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeError):
        return "the name or text is not valid Unicode"
    if any(text in str(error) for text in _FULL):
        return "the disk takes no more"
    inner = re.search(r"I/O error: (.*?)(?: \(os error|$)", str(error))  # as safetensors says it
    return inner[1] if inner else f"{error}\n".splitlines()[0].strip().rstrip(".:; ") or type(error).__name__
