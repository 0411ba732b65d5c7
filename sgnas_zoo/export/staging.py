"""One file, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sgnas_zoo.errors import ArtifactError


@contextmanager
def staged(target: Path, suffix: str, force: bool) -> Iterator[Path]:
    """Give an empty file beside ``target`` that becomes ``target`` when the ``with`` block ends well.

    Args:
        target: The file to make, in a folder that exists.
        suffix: Of the file given: some loaders look at it.
        force: Replace a file that is there.

    Raises:
        ArtifactError: If something is in the way, or the disk refuses. As after any error and Ctrl-C, nothing is left.
    """
    staging = None
    try:
        _check_free(target, force)
        handle, name = tempfile.mkstemp(prefix=".export-", suffix=suffix, dir=target.parent)
        staging = Path(name)
        os.close(handle)
        yield staging
        _check_free(target, force)  # exporting takes a while
        staging.chmod(0o644)  # mkstemp makes files that only their owner can read
        os.replace(staging, target)
    except OSError as error:
        reason = error.strerror or error
        raise ArtifactError(f"Cannot write {target}: {reason}; free space or choose another folder.") from error
    finally:
        if staging is not None:
            staging.unlink(missing_ok=True)


def _check_free(target: Path, force: bool) -> None:
    if target.is_dir():
        raise ArtifactError(f"{target} is a folder; name a file.")
    if (target.exists() or target.is_symlink()) and not force:
        raise ArtifactError(f"{target} exists; choose another name or add --force (force=True).")
    if not target.parent.is_dir():
        raise ArtifactError(f"There is no folder {target.parent}; make it or choose another.")
