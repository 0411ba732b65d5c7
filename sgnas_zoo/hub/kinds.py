"""The kinds of artifacts: which files each consists of, and how one proves to be whole.

To add a kind: write ``hub/<kind>s.py`` as the docstring of this package says, and register it here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgnas_zoo.errors import ArtifactError, UntrainedWarning
from sgnas_zoo.files import read_config
from sgnas_zoo.hub.artifacts import CONFIG, PROFILE, WEIGHTS, Artifact, described_by, kind_name
from sgnas_zoo.hub.generators import load_generator
from sgnas_zoo.hub.loading import load_model
from sgnas_zoo.hub.profiles import load_profile
from sgnas_zoo.hub.supernets import CALIBRATION, load_supernet
from sgnas_zoo.registry import Registry


@dataclass(frozen=True)
class Kind:
    """A kind of artifact.

    Args:
        name: What users call it.
        files: Files it cannot do without.
        load: Loads a folder or repo of it, or raises ArtifactError.
    """

    name: str
    files: tuple[str, ...]
    load: Callable[[Any], object]


KINDS: Registry[Kind] = Registry("kind of artifact")
for _kind in (
    Kind("model", (CONFIG, WEIGHTS), load_model),
    Kind("generator", (CONFIG, WEIGHTS), load_generator),
    Kind("supernet", (CONFIG, WEIGHTS, CALIBRATION), load_supernet),
    Kind("profile", (PROFILE,), load_profile),
):
    KINDS.register(_kind.name, _kind)


def kind_of(config: dict[str, Any], where: object) -> Kind:
    """The kind that a config speaks of.

    Raises:
        ArtifactError: If it is of none.
    """
    name = kind_name(config)
    if name is None or name not in KINDS:
        raise ArtifactError(f"{where} does not hold a {' or '.join(KINDS)}; pass the output folder of a recipe.")
    return KINDS[name]


def find_kind(artifact: Artifact) -> tuple[Kind, dict[str, Any]]:
    """What kind an artifact is of, in a folder or a repo, and the config that says so.

    Raises:
        ArtifactError: If it is of none.
    """
    try:
        config = read_config(artifact.file(CONFIG))
    except ArtifactError as error:
        try:
            config = read_config(artifact.file(PROFILE))
        except ArtifactError:
            raise error from None
    return kind_of(config, artifact.id), config


def check_folder(folder: Path) -> Kind:
    """Load an artifact's folder to see that it is whole, and tell what it is.

    Raises:
        ArtifactError: If it is not an artifact, or a file is missing, damaged, a link, or does not fit the others.
    """
    if not folder.is_dir():
        raise ArtifactError(f"There is no folder {folder}; name one that a recipe or `generate --output` wrote.")
    kind = kind_of(read_config(described_by(folder)), folder)
    for name in kind.files:
        if (folder / name).is_symlink():
            raise ArtifactError(f"{folder / name} is a link; put the file itself there.")
        if name == WEIGHTS:
            Artifact(folder).weights()
        elif not (folder / name).is_file():
            raise ArtifactError(f"{folder} lacks {name}; let its recipe write it again.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWarning)  # its card says so
        kind.load(folder)
    return kind
