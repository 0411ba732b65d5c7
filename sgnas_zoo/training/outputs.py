"""The folder of a run: its own, free of what others put there, and written to by one process at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import click
import yaml  # type: ignore[import-untyped, unused-ignore]

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import user_path
from sgnas_zoo.folders import CONFIG, OURS, RESULTS, alone, check_free, in_the_way, is_card, ours

SETTINGS, CHECKPOINTS, CURVES, METRICS = "settings.yaml", "checkpoints", "curves.png", "metrics.json"


def check_output(output: Path, resume: str, recipe: str) -> None:
    """Take the folder of a training for as long as the command runs.

    Args:
        output: The folder; it need not be there.
        resume: "never", "auto", or a checkpoint.
        recipe: Name of the recipe: the section of ``settings.yaml`` by which a run is known as its own.

    Raises:
        ArtifactError: If another run is at work there, it holds a name that the recipe would write and did not, or a
            model while ``resume`` is "never".
    """
    names = {SETTINGS, CHECKPOINTS, CURVES, recipe, RESULTS}.union(*OURS.values())
    claim(output, names, lambda folder: (SETTINGS, CHECKPOINTS, CURVES, recipe) if _is_run(folder, recipe) else ())
    if resume == "never" and (output / CONFIG).exists():
        raise ArtifactError(f"{output} already holds a model; choose another --output, or add --resume auto.")


def claim(output: Path, names: Iterable[str], own: Callable[[Path], Sequence[str]]) -> None:
    """Be the only one who writes in a folder for as long as the command runs, and see that nothing is in the way.

    Args:
        output: The folder; it need not be there.
        names: What the command would write there.
        own: Tells which of them an earlier run of it has written.

    Raises:
        ArtifactError: If another process is at work there, or one of the names is not this command's.
    """
    folder = user_path(output)
    if folder.exists() and not folder.is_dir():
        check_free(output, True)
    if int(os.environ.get("RANK", 0)) == 0:  # of the processes that torchrun or accelerate started, one writes
        click.get_current_context().with_resource(alone(folder))
    mine = {*own(folder), *(name.partition("/")[0] for name in ours(folder))}
    if foreign := sorted(name for name in {*names} - mine if os.path.lexists(folder / name)):
        raise in_the_way(output, foreign)


def is_page(path: Path) -> bool:
    """Whether a file is a page of ``compare`` or a card, and not somebody's notes."""
    return path.is_file() and (is_card(path) or path.read_bytes()[:2000].startswith(b"# Search strategies on "))


def _is_run(folder: Path, recipe: str) -> bool:
    with suppress(OSError, ValueError, yaml.YAMLError):
        return recipe in yaml.safe_load((folder / SETTINGS).read_text(encoding="utf-8"))
    return False


def reads_as(path: Path, *keys: str) -> bool:
    """Whether a file is a JSON object with these keys, as this library writes."""
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(path.read_bytes())
        return isinstance(content, dict) and all(key in content for key in keys)
    return False
