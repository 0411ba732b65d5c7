"""What artifacts share: a folder or Hub repo with ``config.json`` and ``model.safetensors``, read as untrusted data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from sgnas_zoo.errors import ArtifactError, printable
from sgnas_zoo.files import read_config
from sgnas_zoo.hub.names import CONFIG as CONFIG
from sgnas_zoo.hub.names import read_place
from sgnas_zoo.hub.remote import Access, Repo

WEIGHTS, PROFILE = "model.safetensors", "profile.json"
OTHERS = {
    "pytorch_model.bin": "a pickle may run code; where you trust it, load it and save it again, with save_pretrained "
    "of transformers or sgnas_zoo.save_model",
    "model.safetensors.index.json": "save it again in one file, with save_pretrained(FOLDER, max_shard_size='100GB')",
}
"""Weights as others keep them, and how to come from there."""
FLOATS = ("F64", "F32", "F16", "BF16")
FORMATS = {
    torch.int64: ("I64",), torch.int32: ("I32",), torch.int16: ("I16",), torch.int8: ("I8",), torch.uint8: ("U8",),
    torch.bool: ("BOOL",),
}  # fmt: skip
"""How safetensors calls the formats that floating and other tensors may be kept in."""
Mean = Annotated[float, Meta(ge=-1e3, le=1e3)]
"""May be subtracted from images: pixels lie in 0..1, or in 0..255 for some networks."""
Std = Annotated[float, Meta(ge=1e-3, le=1e3)]
"""May divide images."""
Crop = Annotated[float, Meta(ge=0.1, le=1)]
"""May be a ``crop_pct``: images are scaled up by its inverse."""
MOST_VALUE = 1e12
"""Beyond the weights and statistics of any network that computes; their squares are still finite."""


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

    def weights(self) -> Path:
        """Where its weights are.

        Raises:
            ArtifactError: If it has none in one safetensors file; says how to make it of what is there instead.
        """
        try:
            path = self.file(WEIGHTS)
            if path.is_file():
                return path
            raise ArtifactError(f"{path} is missing or damaged; fetch the artifact again.")
        except ArtifactError:
            for name, how in OTHERS.items():
                if self._holds(name):
                    raise ArtifactError(f"{self.id} holds {name}, and only {WEIGHTS} is read: {how}.") from None
            raise

    def _holds(self, name: str) -> bool:
        return self._place.holds(name) if isinstance(self._place, Repo) else (self._place / name).exists()

    def config(self, kind: str, version: int) -> dict[str, Any]:
        """Its config, if it is of a kind and a format version.

        Raises:
            ArtifactError: If it is not, or the config is missing or damaged.
        """
        config = read_config(self.file(CONFIG))
        if config.get("artifact") != kind:
            raise ArtifactError(f"{self.id} does not hold a {kind}; name a {kind}'s folder or repo.")
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


def read_header(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and number format of the tensors of a safetensors file, from its header alone.

    Raises:
        ArtifactError: If it is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {name: (tuple(part.get_shape()), str(part.get_dtype())) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is missing or damaged; fetch the artifact again.") from error


def check_header(path: Path, state: Mapping[str, Tensor], where: object) -> None:
    """Compare a safetensors file with the tensors that a config describes, before any of it is read.

    Args:
        path: The file.
        state: What has to be in it, on any device, that without memory included.
        where: What to call it in errors.

    Raises:
        ArtifactError: If names, shapes or kinds of numbers are others.
    """
    found = read_header(path)
    same = {name: shape for name, (shape, _) in found.items()} == {n: tuple(t.shape) for n, t in state.items()}
    odd = [name for name, t in state.items() if same and found[name][1] not in FORMATS.get(t.dtype, FLOATS)]
    if not same or odd:
        why = f" ({brief(odd[0], 80)} is of {brief(found[odd[0]][1], 40)})" if odd else ""
        raise ArtifactError(f"The weights of {where} do not fit its config{why}; fetch the artifact again.")


def check_values(state: Mapping[str, Tensor], where: object) -> None:
    """Refuse weights that no network computes with.

    Raises:
        ArtifactError: If a number is not finite, or too large.
    """
    for tensor in state.values():
        if not tensor.numel() or tensor.is_meta or tensor.dtype == torch.bool:
            continue
        low, high = tensor.aminmax()
        if not (low >= -MOST_VALUE and high <= MOST_VALUE):  # neither holds for NaN
            raise ArtifactError(f"The weights of {where} are not finite, or beyond {MOST_VALUE:g}; fetch it again.")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; floating ones in single precision.

    Raises:
        ArtifactError: If it is missing or damaged, or holds numbers that are not finite.
    """
    try:
        state = {name: t.float() if t.is_floating_point() else t for name, t in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is missing or damaged; fetch the artifact again.") from error
    check_values(state, path)
    return state


def fill(module: nn.Module, path: Path) -> None:
    """Load the weights of ``path`` into a module that its config describes; the header is checked first.

    Raises:
        ArtifactError: If they do not fit, or as ``read_weights`` does.
    """
    check_header(path, module.state_dict(), path)
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
    """``value`` as one printable line of moderate length: what comes from a config may be neither."""
    line = printable(" ".join(str(value).split()))
    return line if len(line) <= most else f"{line[:most]}..."
