"""What artifacts share: a folder or Hub repo with ``config.json`` and ``model.safetensors``, read as untrusted data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import read_config
from sgnas_zoo.hub.names import CONFIG as CONFIG
from sgnas_zoo.hub.names import read_place
from sgnas_zoo.hub.remote import Access, Repo

WEIGHTS, PROFILE = "model.safetensors", "profile.json"


class Artifact:
    """A folder, or a Hub repo at one commit whose files are fetched when they are asked for.

    Args:
        folder_or_repo: A folder, or a repo id with an optional ``@revision``, in any spelling of ``read_name``.
        access: How to reach a repo; nothing of it concerns a folder.

    Raises:
        ArtifactError: If it is neither a folder nor a repo that can be reached.
    """

    def __init__(self, folder_or_repo: str | Path, access: Access = Access()) -> None:  # noqa: B008  # immutable
        place = read_place(folder_or_repo)
        self.id = str(place)
        if place.folder is not None and place.folder.is_file():
            raise ArtifactError(f"{place} is a file; name the folder that holds {CONFIG} and {WEIGHTS}.")
        self._place: Path | Repo = place.folder or Repo(place.repo, access)
        self.commit = self._place.commit if isinstance(self._place, Repo) else None

    def file(self, name: str) -> Path:
        """Where a file of it is; in a folder, whether or not it is there.

        Raises:
            ArtifactError: If a repo has none, or it cannot be fetched.
        """
        return self._place.file(name) if isinstance(self._place, Repo) else self._place / name

    def config(self, kind: str, version: int) -> dict[str, Any]:
        """Its config, if it is of a kind and a format version.

        Raises:
            ArtifactError: If it is not, or the config is missing or damaged.
        """
        config = read_config(self.file(CONFIG))
        if config.get("artifact") != kind:
            raise ArtifactError(f"{self.id} holds no {kind}; name a {kind}'s folder or repo.")
        if config.get("format_version") != version:
            raise ArtifactError(
                f"{self.id} has format version {brief(config.get('format_version'))}, this sgnas_zoo reads {version}; "
                "upgrade sgnas_zoo."
            )
        return config


def kind_name(config: Mapping[str, Any]) -> str | None:
    """What kind of artifact a config says it is of: a model's is timm's and does not name it. None if it says none.

    Args:
        config: Any JSON object; whether there is such a kind is not looked up.
    """
    if "pretrained_cfg" in config or "architecture" in config:
        return "model"
    name = config.get("artifact")
    return name if isinstance(name, str) else None


def described_by(folder: Path) -> Path:
    """The file of a folder that says what artifact it is: that of a profile, which is all data, or else the config."""
    profile = folder / PROFILE
    return profile if profile.is_file() and not (folder / CONFIG).exists() else folder / CONFIG


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a safetensors file, from its header alone.

    Raises:
        ArtifactError: If it is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is missing or damaged; fetch the artifact again.") from error


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
    """Load the weights of ``path`` into a module that its config describes; the header is checked first.

    Raises:
        ArtifactError: If they do not fit, or as ``read_weights`` does.
    """
    if read_shapes(path) != {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}:
        raise ArtifactError(f"{path} does not fit its config; fetch the artifact again.")
    state = read_weights(path)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:  # a kind of number that cannot become what the module holds
        raise ArtifactError(f"{path} does not fit its config; fetch the artifact again.") from error


def invalid_config(where: str, error: Exception) -> ArtifactError:
    """The error for a config that is not valid, and why."""
    reason = brief(error) or type(error).__name__
    return ArtifactError(f"The config of {where} is not valid ({reason}); fetch the artifact again.")


def brief(value: object, most: int = 200) -> str:
    """``value`` as one line of moderate length: what comes from a config may be neither."""
    line = " ".join(str(value).split())
    return line if len(line) <= most else f"{line[:most]}..."


def text(value: object) -> str:
    """``value`` if it is text; ValueError otherwise."""
    if not isinstance(value, str):
        raise ValueError(f"{brief(repr(value), 40)} is no text")
    return value


def items(value: object) -> list[Any]:
    """``value`` if it is a list; ValueError otherwise."""
    if not isinstance(value, list):
        raise ValueError(f"{brief(repr(value), 40)} is no list")
    return value
