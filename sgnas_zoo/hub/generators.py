"""Generators as artifacts: ``model.safetensors`` and a config that is checked field by field."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sgnas_zoo.costs import COSTS, Conditions
from sgnas_zoo.errors import ArtifactError, ZooError
from sgnas_zoo.hub.files import read_config, sha256, write_json
from sgnas_zoo.search.generator import ArchGenerator, GeneratorSource
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.zoo import embedded_generator

FORMAT_VERSION = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"
MAX_WIDTH = 1024
"""Wider generators are refused before anything is allocated."""


def save_generator(generator: ArchGenerator, folder: Path) -> None:
    """Write ``model.safetensors`` and ``config.json`` into an existing folder."""
    state = {name: tensor.contiguous().cpu() for name, tensor in generator.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    write_json(
        folder / CONFIG,
        {
            "artifact": "generator",
            "format_version": FORMAT_VERSION,
            "space": generator.space.name,
            "cost": generator.cost,
            "conditions": asdict(generator.conditions),
            "range": list(generator.cost_range),
            "prior": str(generator.prior),
            "width": generator.width,
            "target_chs": generator.target_chs,
        },
    )


def load_generator(folder_or_repo: str | Path, *, revision: str | None = None, token: str | None = None,
                   cache_dir: str | Path | None = None, local_files_only: bool = False) -> ArchGenerator:  # fmt: skip
    """Load a generator artifact.

    Args:
        folder_or_repo: A folder, or a Hub repo id with an optional ``@revision``.
        revision: Branch, tag or commit of a repo.
        token: Hub token; the stored one if left out.
        cache_dir: Hub cache to use.
        local_files_only: Take a repo from the cache without asking the Hub.

    Returns:
        The generator in evaluation mode; ``generator.source`` tells where it came from.

    Raises:
        ArtifactError: If it is missing, damaged, of another kind, or of a newer format.
    """
    folder, commit = Path(folder_or_repo), None
    if folder.is_file():
        raise ArtifactError(f"{folder} is a file; name the folder that holds {CONFIG} and {WEIGHTS}.")
    if not folder.exists():
        folder, commit = _pull(str(folder_or_repo), revision, token, cache_dir, local_files_only)
    generator = _from_config(read_config(folder / CONFIG), folder)
    try:
        state = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{folder / WEIGHTS} is missing or damaged; fetch the artifact again.") from error
    expected = {name: tensor.shape for name, tensor in generator.state_dict().items()}
    if {name: tensor.shape for name, tensor in state.items()} != expected:
        raise ArtifactError(f"{folder / WEIGHTS} does not fit its config; fetch the artifact again.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise ArtifactError(f"{folder / WEIGHTS} holds numbers that are not finite; fetch the artifact again.")
    generator.load_state_dict(state)
    generator.source = GeneratorSource(str(folder_or_repo), commit, sha256(folder / WEIGHTS))
    return generator.eval().requires_grad_(False)


@lru_cache(maxsize=8)
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
    generator = load_generator(folder)
    generator.source = replace(generator.source, id=f"sgnas_zoo/{folder.name}")
    return generator


def spaces_with_generator() -> list[str]:
    """Names of the spaces with an embedded generator, in registry order."""
    return [name for name in SPACES if embedded_generator(name)]


def _from_config(config: dict[str, Any], folder: Path) -> ArchGenerator:
    """Build the generator a config describes; every field is checked before anything is allocated."""
    where = folder / CONFIG
    if config.get("artifact") != "generator":
        raise ArtifactError(f"{where} describes no generator; name a generator's folder.")
    if config.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{where} has format version {config.get('format_version')!r}, this sgnas_zoo reads {FORMAT_VERSION}; "
            "upgrade sgnas_zoo."
        )
    try:
        low, high = (float(value) for value in _list(config["range"]))
        width, target_chs = config["width"], config["target_chs"]
        if not 0 < low < high < math.inf or not all(type(n) is int and 0 < n <= MAX_WIDTH for n in (width, target_chs)):
            raise ValueError("range or width out of bounds")
        prior = SPACES[_text(config["space"])].parse(_text(config["prior"]))
        conditions = Conditions(**config["conditions"])
        cost = COSTS[_text(config["cost"])].name
    except (ZooError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(f"{where} is not valid ({error}); fetch the artifact again.") from error
    with torch.random.fork_rng():
        return ArchGenerator(prior, cost, conditions, (low, high), width, target_chs)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is no list")
    return value


def _pull(repo: str, revision: str | None, token: str | None, cache_dir: str | Path | None,
          local_files_only: bool) -> tuple[Path, str]:  # fmt: skip
    """Fetch a repo's artifact at one commit; return its folder in the cache and the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, at = repo.partition("@")
    if name.count("/") != 1:
        raise ArtifactError(f"There is no folder {repo!r}, and it is no Hub repo id either; write USER/NAME.")
    try:
        folder = Path(snapshot_download(
            name, revision=revision or at or None, token=token, cache_dir=cache_dir, local_files_only=local_files_only,
            allow_patterns=[WEIGHTS, CONFIG, "README.md"],
        ))  # fmt: skip
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, ConnectionError) as error:
        reason = type(error).__name__
        raise ArtifactError(
            f"Cannot fetch {repo} from the Hub ({reason}); check the name, the revision and your connection."
        ) from error
    return folder, folder.name
