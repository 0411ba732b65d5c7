"""What artifacts share: a folder or Hub repo with ``config.json`` and ``model.safetensors``, read as untrusted data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.hub.files import read_config

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def find_artifact(
    folder_or_repo: str | Path, revision: str | None = None, token: str | None = None,
    cache_dir: str | Path | None = None, local_files_only: bool = False,
) -> tuple[Path, str | None]:  # fmt: skip
    """The folder of an artifact, fetched into the Hub cache where it is a repo; and the commit it was fetched at.

    Raises:
        ArtifactError: If it is neither a folder nor a repo that can be fetched.
    """
    folder = Path(folder_or_repo)
    if folder.is_file():
        raise ArtifactError(f"{folder} is a file; name the folder that holds {CONFIG} and {WEIGHTS}.")
    if folder.exists():
        return folder, None
    return _pull(str(folder_or_repo), revision, token, cache_dir, local_files_only)


def read_artifact(folder: Path, kind: str, version: int) -> dict[str, Any]:
    """The config of an artifact of a kind.

    Raises:
        ArtifactError: If it is of another kind or format version, missing or damaged.
    """
    where = folder / CONFIG
    config = read_config(where)
    if config.get("artifact") != kind:
        raise ArtifactError(f"{where} describes no {kind}; name a {kind}'s folder.")
    if config.get("format_version") != version:
        raise ArtifactError(
            f"{where} has format version {config.get('format_version')!r}, this sgnas_zoo reads {version}; "
            "upgrade sgnas_zoo."
        )
    return config


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; floating ones in single precision.

    Raises:
        ArtifactError: If it is missing or damaged, or holds numbers that are not finite.
    """
    try:
        state = {name: t.float() if t.is_floating_point() else t for name, t in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is missing or damaged; fetch the artifact again.") from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise ArtifactError(f"{path} holds numbers that are not finite; fetch the artifact again.")
    return state


def fill(module: nn.Module, path: Path) -> None:
    """Load the weights of ``path`` into a module that its config describes.

    Raises:
        ArtifactError: If they do not fit, or as ``read_weights`` does.
    """
    state = read_weights(path)
    if {k: t.shape for k, t in state.items()} != {k: t.shape for k, t in module.state_dict().items()}:
        raise ArtifactError(f"{path} does not fit its config; fetch the artifact again.")
    module.load_state_dict(state)


def text(value: object) -> str:
    """``value`` if it is text; ValueError otherwise."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def items(value: object) -> list[Any]:
    """``value`` if it is a list; ValueError otherwise."""
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
            allow_patterns=["*.safetensors", CONFIG, "README.md"],
        ))  # fmt: skip
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, ConnectionError) as error:
        reason = type(error).__name__
        raise ArtifactError(
            f"Cannot fetch {repo} from the Hub ({reason}); check the name, the revision and your connection."
        ) from error
    return folder, folder.name
