"""Folders written whole or not at all, at whatever path a user named, and never over what sgnas_zoo did not write.

A folder that is not there appears by one rename; one that may be replaced is exchanged by one system call. Where that
cannot be (a mount point, the working directory, a system that cannot exchange), files move in one by one: the old ones
aside first, the config last, with a list of both. If a writer is killed in between, ``config.json`` is missing until
the next reader or writer of this library puts the old files back (``recover``).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import MAX_CONFIG_BYTES, SWAP, parents, record_key, rename_new, renamed, user_path, writing
from sgnas_zoo.locks import NAMES, WORK, alive, locked, workplace

CONFIG, CARD, RESULTS = "config.json", "README.md", ".eval_results"
COMMON = {CONFIG, CARD, "model.safetensors", "evaluation.json", "metrics.json"}
PLOTS = {"front.png", "budgets.png", "curves.png"}
OURS = {
    "model": COMMON | {"architecture.svg", "architecture.png", "modeling_sgnas_zoo.py"},
    "generator": COMMON | PLOTS,
    "supernet": COMMON | PLOTS | {"calibration.safetensors", "pool.json"},
}
"""Files that this library writes, or wrote once (``architecture.png``), by kind of artifact; and below
``.eval_results`` those that begin with its name."""
NEW, OLD = "new", "old"
WAIT = 15.0
"""Seconds that a writer may take to move files in, and the children of one that was killed to notice it."""


@contextmanager
def new_folder(path: str | Path, force: bool = False) -> Iterator[Path]:
    """Give a folder whose content becomes that of ``path`` when the ``with`` block ends well.

    Args:
        path: The folder to make: also ``.``, a link or a mount point.
        force: Replace an artifact of this library that is there.

    Raises:
        ArtifactError: If something else is in the way, or the disk refuses. Then all is as it was.
    """
    with writing(path):
        target = user_path(path)
        check_free(path, force)
        if target.is_dir() and not (force and _can_swap(target)):
            with alone(target) as work:
                yield from _staged(work, target)
                check_free(path, force)
                _move_in(work, target, set(ours(target)))
            return
        with parents(target), workplace(target.parent) as work:
            yield from _staged(work, target)
            _appear(work, target, path, force)


@contextmanager
def among_others(
    path: str | Path, *, replacing: Iterable[str] = (), stale: Iterable[str] = ()
) -> Iterator[Path]:  # fmt: skip
    """Give a folder whose files move into ``path`` when the ``with`` block ends well, beside what is there.

    Args:
        path: A folder, such as that of a training run.
        replacing: Names that may be replaced though no artifact of this library is there.
        stale: Names that go; only what this library wrote does.

    Raises:
        ArtifactError: If a file is in the way that this library did not write, or the disk refuses. Then all is as it
            was.
    """
    with writing(path), alone(user_path(path)) as work:
        target = user_path(path)
        yield from _staged(work, target)
        mine = {*ours(target), *replacing}
        new = _files(work / NEW / target.name)
        if foreign := [name for name in new if os.path.lexists(target / name) and name not in mine]:
            raise in_the_way(path, foreign)
        _move_in(work, target, {name for name in (*new, *stale) if name in mine and (target / name).is_file()})


@contextmanager
def alone(folder: Path) -> Iterator[Path]:
    """Be the only one who writes in a folder: a run for as long as it lasts. The folder is made where it is missing.

    Yields:
        A hidden folder in it.

    Raises:
        ArtifactError: If another process writes there, which is named, or the disk refuses.
    """
    work = folder / WORK
    with writing(folder), parents(work), locked(work, folder, 0 if alive(work) else WAIT) as first:
        if first:
            _undo(work, folder)
        yield work


def recover(folder: Path, wait: float = WAIT) -> None:
    """Put back the files of a folder whose writer was killed; wait for one that is at work.

    Raises:
        ArtifactError: If they cannot be put back.
    """
    work = folder / WORK
    if (work / NAMES).exists():
        with writing(folder, "make it writable: a writer was killed there"), locked(work, folder, wait):
            _undo(work, folder)


def check_free(path: str | Path, force: bool) -> None:
    """Refuse a file, a folder that holds what this library did not write, and one that is not empty unless ``force``.

    Raises:
        ArtifactError: If something is in the way; it is named.
    """
    with writing(path):
        target = user_path(path)
        if not target.is_dir():
            if target.exists():
                raise ArtifactError(f"{path} is a file; name a folder.")
            return
        if (target / WORK).exists():
            with alone(target):  # refused while somebody else writes; what a dead writer left is undone
                pass
        mine = ours(target)
        there = {name for name in os.listdir(target) if name != WORK}
        if foreign := sorted(name for name in there if name not in mine and not _is_results(target / name)):
            raise in_the_way(path, foreign)
        if there and not force:
            raise ArtifactError(f"{path} is not empty; choose another folder or add --force (force=True).")


def ours(folder: Path) -> list[str]:
    """Files in a folder that this library wrote: those of the artifact that its config tells of, by relative path."""
    own = OURS.get(_kind(folder), set())
    results = [f"{RESULTS}/{name}" for name in _list(folder / RESULTS) if _is_result(name)] if own else []
    found = [name for name in (*sorted(own), *results) if _is_plain(folder / name)]
    return [name for name in found if name != CARD or is_card(folder / name)]


def is_card(path: Path) -> bool:
    """Whether a file is a card that this library rendered: its head bears the tag ``sgnas-zoo``."""
    with path.open(encoding="utf-8", errors="replace") as file:
        head = file.read(20_000)
    return head.startswith("---\n") and "\n- sgnas-zoo\n" in head[: head.find("\n---\n", 4) + 1]


def in_the_way(path: object, names: list[str]) -> ArtifactError:
    """The error for a folder that holds what this library did not write."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ArtifactError(
        f"{path} is not empty: {', '.join(names[:5])}{more} would be lost, which this did not write; "
        "choose another folder, or move what is there away."
    )


def _kind(folder: Path) -> str:
    path = folder / CONFIG
    if not _is_plain(path) or path.stat().st_size > MAX_CONFIG_BYTES:
        return ""
    with suppress(ValueError, RecursionError):
        config = json.loads(path.read_bytes())
        if isinstance(config, dict):
            return "model" if isinstance(config.get(record_key(config)), dict) else str(config.get("artifact"))
    return ""


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_result(name: str) -> bool:
    return name.startswith("sgnas_zoo") and name.endswith(".yaml")


def _list(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() and not folder.is_symlink() else []


def _is_results(folder: Path) -> bool:
    """Whether a folder holds only results that this library wrote."""
    real = folder.name == RESULTS and folder.is_dir() and not folder.is_symlink()
    return real and all(_is_result(name) and _is_plain(folder / name) for name in _list(folder))


def _files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir())


def _staged(work: Path, target: Path) -> Iterator[Path]:
    """Make the folder to fill; it is called as the target is, which titles the card."""
    shutil.rmtree(work / NEW, ignore_errors=True)
    staging = work / NEW / target.name
    staging.mkdir(parents=True)
    yield staging
    for file in staging.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)  # safetensors writes files that only their owner can read


def _can_swap(target: Path) -> bool:
    free = target != Path.cwd() and not os.path.ismount(target)
    return sys.platform == "linux" and free and os.access(target.parent, os.W_OK)


def _appear(work: Path, target: Path, path: object, force: bool) -> None:
    """Let a whole folder take its place by one system call."""
    staging = work / NEW / target.name
    if not target.exists():
        staging.chmod(0o755)
        try:
            return rename_new(staging, target)
        except FileExistsError:  # it appeared this moment
            pass
    check_free(target, force)
    staging.chmod(target.stat().st_mode & 0o7777)
    if renamed(staging, target, SWAP):
        try:
            check_free(staging, force)  # what was put there this moment
        except ArtifactError:
            renamed(staging, target, SWAP)
            raise
    else:
        with alone(target) as inside:
            shutil.rmtree(inside / NEW, ignore_errors=True)
            (inside / NEW).mkdir()
            shutil.move(staging, inside / NEW / target.name)
            _move_in(inside, target, set(ours(target)))


def _move_in(work: Path, folder: Path, old: set[str]) -> None:
    """Let the new files of a folder take the place of the old ones; after an error all is as it was."""
    new = sorted(_files(work / NEW / folder.name), key=lambda name: name == CONFIG)
    first = sorted(old, key=lambda name: name != CONFIG)
    part = work / f"{NAMES}.part"
    part.write_text(json.dumps({NEW: new, OLD: first}), encoding="utf-8")
    os.rename(part, work / NAMES)
    try:
        for name in first:
            _move(folder / name, work / OLD / name)
        for name in new:
            _move(work / NEW / folder.name / name, folder / name)
        for name in {os.path.dirname(name) for name in first} - {""}:
            with suppress(OSError):
                (folder / name).rmdir()
        (work / NAMES).unlink()  # from here on the new ones count
    except BaseException:
        _undo(work, folder)
        raise


def _undo(work: Path, folder: Path) -> None:
    """Put the old files back, if a list of them says that this was begun and not ended; it may be begun again."""
    if not (work / NAMES).exists():
        return
    names = json.loads((work / NAMES).read_text(encoding="utf-8"))
    staging = work / NEW / folder.name
    for name in reversed(names[NEW]):
        if os.path.lexists(folder / name) and not os.path.lexists(staging / name):
            _move(folder / name, staging / name)
            if os.path.dirname(name):
                with suppress(OSError):
                    (folder / name).parent.rmdir()
    for name in reversed(names[OLD]):
        if os.path.lexists(work / OLD / name):
            _move(work / OLD / name, folder / name)
    (work / NAMES).unlink()


def _move(one: Path, other: Path) -> None:
    other.parent.mkdir(parents=True, exist_ok=True)
    rename_new(one, other)
