"""Folders written whole or not at all, and JSON read as untrusted data."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sgnas_zoo.errors import ArtifactError

MAX_CONFIG_BYTES = 1_000_000
"""A config is a few kilobytes; anything this large is no config."""


@contextmanager
def new_folder(path: str | Path, force: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` that becomes ``path`` when the ``with`` block ends well.

    Args:
        path: The folder to make.
        force: Replace a folder that is there.

    Raises:
        ArtifactError: If something is in the way, or the disk refuses. Then nothing is left behind.
    """
    target = Path(path)
    check_free(target, force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ArtifactError(f"Cannot write to {target}: {error.strerror}; choose another folder.") from error
    try:
        yield staging
        staging.chmod(0o755)
        for file in staging.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)  # safetensors writes files that only their owner can read
        if target.exists():
            shutil.rmtree(target)
        os.replace(staging, target)
    except OSError as error:
        raise ArtifactError(f"Cannot write {target}: {error.strerror}; free space or choose another folder.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def among_others(path: str | Path, last: str = "config.json") -> Iterator[Path]:
    """Give a temporary folder whose files move into ``path`` when the ``with`` block ends well, beside what is there.

    The file ``last`` goes first and comes last: whenever it is there, what it speaks of is there and belongs to it.

    Args:
        path: The folder, such as that of a training run.
        last: Name of the file that describes the others.

    Raises:
        ArtifactError: If the disk refuses.
    """
    target = Path(path)
    staging = target / ".staging"
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
        (target / last).unlink(missing_ok=True)
        for file in sorted(staging.iterdir(), key=lambda file: file.name == last):
            if file.is_dir():
                shutil.rmtree(target / file.name, ignore_errors=True)
            file.chmod(0o755 if file.is_dir() else 0o644)
            os.replace(file, target / file.name)
    except OSError as error:
        raise ArtifactError(
            f"Cannot write to {target}: {error.strerror}; free space or choose another folder."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_free(path: Path, force: bool) -> None:
    """Refuse to overwrite a file, or a folder that is not empty unless ``force``.

    Raises:
        ArtifactError: If something is in the way.
    """
    if path.is_dir():
        if any(path.iterdir()) and not force:
            raise ArtifactError(f"{path} is not empty; choose another folder or add --force (force=True).")
    elif path.exists() or path.is_symlink():
        raise ArtifactError(f"{path} is a file; name a folder.")


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ArtifactError: If the file is missing, too large, or not a JSON object.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ArtifactError(f"{path} is too large for a config; fetch the artifact again.")
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; name a folder that holds config.json.") from None
    except (OSError, ValueError, RecursionError):
        raise ArtifactError(f"{path} is no readable JSON; fetch the artifact again.") from None
    if not isinstance(config, dict):
        raise ArtifactError(f"{path} holds no JSON object; fetch the artifact again.")
    return config


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON as people like to read it."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
