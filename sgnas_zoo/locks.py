"""Hidden folders in which something is being written, each with a lock that dies with its process."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sgnas_zoo.errors import ArtifactError

WORK = ".sgnas-zoo"
LOCK, OWNER, NAMES = "lock", "owner.json", "names.json"
TRIES, SWEEP = 20, 10
"""How often to begin anew where others remove a hidden folder, and seconds that looking through one may take them."""


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """Make a hidden folder in ``folder`` for as long as the block lasts; those of dead processes are removed."""
    for work in folder.glob(f"{WORK}-*"):
        if re.fullmatch(rf"{WORK}-[0-9a-f]{{12}}", work.name) and work.is_dir() and not work.is_symlink():
            with suppress(OSError, ArtifactError), locked(work, folder):
                pass  # leaving it removes it
    work = folder / f"{WORK}-{secrets.token_hex(6)}"
    with locked(work, folder, SWEEP):  # whoever else begins here may take it for a dead one's, for a moment
        yield work


@contextmanager
def locked(work: Path, folder: Path, wait: float = 0) -> Iterator[bool]:
    """Hold the lock of a hidden folder, which is made for it and removed afterwards; it may be held twice.

    Args:
        work: The hidden folder.
        folder: Where something is written, for the message.
        wait: Seconds to wait for another process.

    Yields:
        Whether it was not held before by this very thread.

    Raises:
        ArtifactError: If another process has it.
    """
    lock = FileLock(work / LOCK, is_singleton=True)
    first = not lock.is_locked
    _acquire(lock, work, folder, wait)
    try:
        if first:
            (work / OWNER).write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
        yield first
    finally:
        if first and not (work / NAMES).exists():  # else what it tells of has to be undone first
            with suppress(OSError):  # what is left is removed by whoever writes there next
                _clear(work)
        lock.release()


def _acquire(lock: FileLock, work: Path, folder: Path, wait: float) -> None:
    for _ in range(TRIES):
        with suppress(FileExistsError):
            work.mkdir()
        try:
            lock.acquire(timeout=wait)
        except (FileNotFoundError, FileExistsError):  # whoever had it removed the folder this moment
            continue
        except Timeout:
            raise ArtifactError(
                f"{folder} is being written to by {_owner(work)}; wait for it, or choose another place. "
                f"If it is dead, remove {work}."
            ) from None
        except OSError:
            with suppress(OSError):
                work.rmdir()
            raise
        if (work / LOCK).exists():
            return
        lock.release()
    raise ArtifactError(f"{folder} is being written to by several processes; wait for them, or choose another place.")


def _clear(work: Path) -> None:
    """Remove a hidden folder; its lock goes last, so that nobody else's is removed."""
    for entry in [*work.iterdir()] if work.is_dir() else []:
        if entry.name != LOCK:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink(missing_ok=True)
    with suppress(OSError):
        (work / LOCK).unlink(missing_ok=True)
        work.rmdir()


def _read_owner(work: Path) -> dict[str, object]:
    try:
        return dict(json.loads((work / OWNER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _owner(work: Path) -> str:
    owner = _read_owner(work)
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


def alive(work: Path) -> bool:
    """Whether the process that is named there lives, as far as can be told from this host."""
    owner = _read_owner(work)
    pid = owner.get("pid")
    if owner.get("host") != socket.gethostname() or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True
