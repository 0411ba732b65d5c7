"""Generators as artifacts: ``model.safetensors`` and a config that is checked field by field."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta, Struct
from safetensors.torch import save_file

from sgnas_zoo.costs import COSTS, Conditions
from sgnas_zoo.errors import ArtifactError, ZooError
from sgnas_zoo.files import sha256, write_json
from sgnas_zoo.hub.artifacts import CONFIG, WEIGHTS, Artifact, fill, invalid_config
from sgnas_zoo.hub.remote import Access
from sgnas_zoo.hub.states import saved_state
from sgnas_zoo.plain_json import checked
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.search.decode import SPEND
from sgnas_zoo.search.generator import ArchGenerator, GeneratorSource
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.zoo import embedded_generator, published

FORMAT_VERSION = 1
MAX_WIDTH = 1024
"""Wider generators are refused before anything is allocated."""
Width = Annotated[int, Meta(ge=1, le=MAX_WIDTH)]
Share = Annotated[float, Meta(ge=0, le=1)]
Cost = Annotated[float, Meta(ge=1, le=1e15)]


class Config(Struct):
    """What ``config.json`` says of a generator."""

    space: str
    cost: str
    conditions: dict[str, Any]
    range: tuple[Cost, Cost]
    prior: str
    width: Width
    target_chs: Width
    spend: Share = SPEND


def save_generator(generator: ArchGenerator, folder: Path) -> None:
    """Write ``model.safetensors`` and ``config.json`` into an existing folder."""
    save_file(saved_state(generator), folder / WEIGHTS, metadata={"format": "pt"})
    write_json(
        folder / CONFIG,
        {
            "artifact": "generator",
            "format_version": FORMAT_VERSION,
            "space": generator.space.name,
            "cost": generator.cost,
            "conditions": generator.conditions.of_network(),
            "range": list(generator.cost_range),
            "prior": str(generator.prior),
            "width": generator.width,
            "target_chs": generator.target_chs,
            "spend": generator.spend,
        },
    )
    load_generator(folder)  # what does not load is not handed on


@plain_torch()
def load_generator(folder_or_repo: str | Path, *, revision: str | None = None, token: str | None = None,
                   cache_dir: str | Path | None = None, local_files_only: bool = False) -> ArchGenerator:  # fmt: skip
    """Load a generator artifact.

    Args:
        folder_or_repo: A folder, or a Hub repo id with an optional ``@revision``, in any spelling of ``read_name``.
        revision: Branch, tag or commit of a repo.
        token: Hub token; the stored one if left out.
        cache_dir: Hub cache to use.
        local_files_only: Take a repo from the cache without asking the Hub.

    Returns:
        The generator in evaluation mode; ``generator.source`` tells where it came from.

    Raises:
        ArtifactError: If it is missing, damaged, of another kind, or of a newer format.
    """
    artifact = Artifact(folder_or_repo, Access(revision, token, cache_dir, local_files_only))
    generator = _from_config(artifact.config("generator", FORMAT_VERSION), artifact.id)
    weights = artifact.weights()
    fill(generator, weights)
    generator.source = GeneratorSource(artifact.id, artifact.commit, sha256(weights))
    return generator.eval().requires_grad_(False)


@lru_cache(maxsize=8)
def published_generator(place: str, access: Access = Access()) -> ArchGenerator:  # noqa: B008  # immutable
    """A generator that the package names: in one of its own folders, or in a repo.

    Args:
        place: As ``SupernetEntry.generator``.
        access: How to reach a repo.

    Raises:
        ArtifactError: As ``load_generator`` does.
    """
    generator = load_generator(published(place), **access._asdict())
    if isinstance(published(place), Path):
        generator.source = replace(generator.source, id=f"sgnas_zoo/{place}")
    return generator


def default_generator(space: str) -> ArchGenerator:
    """The embedded generator of a space.

    Raises:
        ArtifactError: If the space has none.
    """
    folder = embedded_generator(space)
    if folder is None:
        raise ArtifactError(
            f"There is no embedded generator for {space}; give one of your own with generator=FOLDER (--generator), "
            f"or choose a space that has one: {', '.join(spaces_with_generator())}."
        )
    return published_generator(folder.name)


def spaces_with_generator() -> list[str]:
    """Names of the spaces with an embedded generator, in registry order."""
    return [name for name in SPACES if embedded_generator(name)]


def _from_config(config: dict[str, Any], where: str) -> ArchGenerator:
    """Build the generator a config describes; every field is checked before anything is allocated."""
    try:
        stated = checked(config, Config)
        low, high = stated.range
        if not low < high:
            raise ValueError("range: its first cost is not the smaller one")
        prior = SPACES[stated.space].parse(stated.prior)
        conditions = Conditions(**stated.conditions)
        cost = COSTS[stated.cost].name
    except (ZooError, TypeError, ValueError) as error:
        raise invalid_config(where, error) from error
    with torch.random.fork_rng(devices=[]):
        return ArchGenerator(prior, cost, conditions, stated.range, stated.width, stated.target_chs, stated.spend)
