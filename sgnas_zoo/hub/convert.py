"""Convert checkpoints to safetensors artifacts: the only place where a pickle is opened.

It is opened with ``weights_only=True``: a file that would run code is refused, not run.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import user_path, write_json
from sgnas_zoo.folders import check_free, new_folder
from sgnas_zoo.hub.cards import EVALUATION, write_card
from sgnas_zoo.hub.from_tensors import State, network_of
from sgnas_zoo.hub.generators import save_generator
from sgnas_zoo.hub.models import save_model
from sgnas_zoo.hub.released import is_generator, is_network, released_generator, released_network
from sgnas_zoo.spaces import SPACES, FormName

DEFAULT_SPACE = "sgnas_imagenet"


def convert(
    file: str | Path,
    output: str | Path,
    *,
    space: str | None = None,
    arch: str | None = None,
    form: FormName | None = None,
    prior: str | Path | None = None,
    force: bool = False,
) -> Path:
    """Convert a released SGNAS generator or stand-alone network, or the state dict of a network of ours.

    Args:
        file: A torch checkpoint or a safetensors file.
        output: Folder of the artifact.
        space: Search space; found from the layers of a released network, else ``sgnas_imagenet``.
        arch: Architecture string, for a state dict with timm's names (``model.state_dict()``, a checkpoint of a
            recipe): its tensors are then loaded as they are.
        form: Form of the network: "final", "lite" or "search". By default that which a released network fits, and
            "final" with ``arch``.
        prior: A released generator's prior pool (JSON); by default ``prior_pool.json`` beside ``file``.
        force: Replace a folder that is there.

    Returns:
        The folder.

    Raises:
        ArtifactError: If the file is damaged, would run code, or is none of these; then nothing is written.
        ZooError: If there is no such space, architecture or form.
    """
    check_free(output, force)
    state = _read(Path(file))
    if is_generator(state):
        pool = Path(prior) if prior else Path(file).parent / "prior_pool.json"
        return _save_generator(state, space or DEFAULT_SPACE, pool, output, force)
    if arch is not None:
        model = network_of(state, SPACES[space or DEFAULT_SPACE].parse(arch), form or "final")
    elif is_network(state):
        model = released_network(state, space, form)
    else:
        raise ArtifactError(
            f"{file} is neither a released SGNAS generator nor a stand-alone network; check the file, or say --space, "
            "--arch and --form of a state dict with timm's names."
        )
    return save_model(model, output, weights="converted", force=force)


def _save_generator(state: State, space: str, pool: Path, output: str | Path, force: bool) -> Path:
    """Write the folder of a released generator."""
    generator = released_generator(state, SPACES[space], pool)
    with new_folder(output, force) as folder:
        save_generator(generator, folder)
        origin = "Converted from a released checkpoint; the weights are the released ones."
        write_json(folder / EVALUATION, {"origin": origin})
        write_card(folder, name=user_path(output).name)
    return Path(output)


def _read(file: Path) -> State:
    """The state dict in a file, from under "model" or "state_dict" where it is nested."""
    if not file.is_file():
        raise ArtifactError(f"{file} does not exist or is not a file; name a checkpoint.")
    try:
        with file.open("rb") as handle:
            safe = handle.read(9)[8:9] == b"{"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of odd pickles; whether they load is all that matters
            content: Any = load_file(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"{file} is not a checkpoint of tensors (damaged, cut short, or it would run code); fetch it again."
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ArtifactError(f"{file} does not contain a state dict; save one and convert that.")
    return {str(name).removeprefix("module."): value for name, value in content.items()}
