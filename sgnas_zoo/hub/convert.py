"""Convert released checkpoints to safetensors artifacts: the only place where a pickle is opened.

It is opened with ``weights_only=True``: a file that would run code is refused, not run.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sgnas_zoo.costs import Conditions
from sgnas_zoo.errors import ArtifactError, ZooError
from sgnas_zoo.files import read_config, user_path, write_json
from sgnas_zoo.folders import check_free, new_folder
from sgnas_zoo.hub.cards import EVALUATION, write_card
from sgnas_zoo.hub.generators import MAX_WIDTH, save_generator
from sgnas_zoo.hub.models import save_model
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.models.record import remember
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.spaces import SPACES, Arch, FormName, SearchSpace

State = Mapping[str, Tensor]

RELEASED_RANGES = {"sgnas_imagenet": (270e6, 450e6), "sgnas_cifar": (80e6, 120e6)}
"""Targets (MACs of convolutions, search form) that released generators were trained for (released configurations)."""

GENERATOR_NAMES = {"hc_head": "target_head", "bb_head": "prior_head", "body.block": "trunk_body", "head": "trunk_head"}
"""Released part names and ours."""


def convert(
    file: str | Path,
    output: str | Path,
    *,
    space: str | None = None,
    prior: str | Path | None = None,
    force: bool = False,
) -> Path:
    """Convert a released SGNAS generator or stand-alone network.

    Args:
        file: A torch checkpoint or a safetensors file.
        output: Folder of the artifact.
        space: Search space; found from the layers of a network, ``sgnas_imagenet`` for a generator.
        prior: A released generator's prior pool (JSON); by default ``prior_pool.json`` beside ``file``.
        force: Replace a folder that is there.

    Returns:
        The folder.

    Raises:
        ArtifactError: If the file is damaged, would run code, or is neither; then nothing is written.
    """
    check_free(output, force)
    state = _read(Path(file))
    if "hc_head.0.conv.weight" in state:
        chosen = SPACES[space or "sgnas_imagenet"]
        pool = Path(prior) if prior else Path(file).parent / "prior_pool.json"
        generator = _generator(state, chosen, pool)
        with new_folder(output, force) as folder:
            save_generator(generator, folder)
            origin = "Converted from a released checkpoint; the weights are the released ones."
            write_json(folder / EVALUATION, {"origin": origin})
            write_card(folder, name=user_path(output).name)
        return Path(output)
    if "first.conv.weight" in state and "last_stage.0.weight" in state:
        return save_model(_model(state, space), output, weights="converted", force=force)
    raise ArtifactError(f"{file} is neither a released SGNAS generator nor a stand-alone network; check the file.")


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


def _generator(state: State, space: SearchSpace, pool: Path) -> ArchGenerator:
    weights = {_generator_name(name): value for name, value in state.items()}
    first = state["hc_head.0.conv.weight"]
    if first.ndim != 4 or not all(0 < chs <= MAX_WIDTH for chs in first.shape[:2]):
        raise ArtifactError("The tensors do not fit the network they seem to be of; check the file.")
    generator = ArchGenerator(
        _prior(space, pool), "conv_macs", Conditions("search", space.resolution, space.num_classes),
        RELEASED_RANGES.get(space.name, (1e6, 1e9)),
        width=first.shape[0], target_chs=first.shape[1],
    )  # fmt: skip
    _load(generator, weights)
    return generator


def _generator_name(name: str) -> str:
    """Our name of a released parameter: lists of convolutions became sequences with an activation after each."""
    if name.startswith("tail.0."):
        return name.replace("tail.0", "tail")
    match = re.fullmatch(r"(hc_head|bb_head|head|body\.block)\.?(\d*)\.conv\.weight", name)
    if match is None:
        return name
    part, number = match[1], int(match[2] or 0) - (match[1] == "body.block")
    return f"{GENERATOR_NAMES[part]}.{2 * number}.weight"


def _prior(space: SearchSpace, pool: Path) -> Arch:
    """The prior architecture in a released pool: one one-hot row of slots * choices numbers per layer."""
    try:
        rows = list(read_config(pool).values())
        layers, slots, choices = space.shape
        image = torch.tensor(rows[len(rows) // 2], dtype=torch.float32).reshape(layers, slots, choices)
        return space.arch(image.argmax(-1).tolist())
    except (ZooError, ValueError, TypeError, IndexError, RuntimeError) as error:
        raise ArtifactError(
            f"A released generator needs its prior, and {pool} has none for {space.name}; give --prior FILE."
        ) from error


def _model(state: State, space: str | None) -> nn.Module:
    """The timm model of a released stand-alone network.

    Raises:
        ArtifactError: If it is in no known space, or parts of it are missing.
    """
    try:
        return _build(state, space)
    except (KeyError, IndexError) as error:
        raise ArtifactError(f"The network lacks {error}; check the file.") from error


def _build(state: State, space: str | None) -> nn.Module:
    layers = 1 + max((int(m[1]) for name in state if (m := re.match(r"stages\.(\d+)\.", name))), default=-1)
    kernels = [_kernels(state, layer) for layer in range(layers)]
    classes = int(state["classifier.1.weight"].shape[0]) if "classifier.1.weight" in state else 0
    arch, form = _match(state, kernels, classes, space)
    in_chans = int(state["first.conv.weight"].shape[1])
    model = build_model(arch.space.family, arch, form, num_classes=classes, in_chans=in_chans)
    _load(model, _timm_state(state, kernels, arch.space))
    remember(model, arch, form)
    return model


def _kernels(state: State, layer: int) -> list[int]:
    """Depthwise kernels of a layer in the order of its channel groups."""
    found: list[int] = []
    while (name := f"stages.{layer}.depthwise.blocks.{len(found)}.weight") in state:
        found.append(int(state[name].shape[-1]))
    return found


def _match(state: State, kernels: list[list[int]], classes: int, space: str | None) -> tuple[Arch, FormName]:
    """The architecture and form whose widths a state dict has.

    Raises:
        ArtifactError: If no space has them, or several do and none is named.
    """
    widths = [int(state[f"stages.{i}.point_wise_1.conv.weight"].shape[0]) for i in range(len(kernels))]
    text = "-".join("".join(map(str, layer)) for layer in kernels)
    se = "first_mb.se.squeeze_conv.weight" in state
    found: list[tuple[Arch, FormName]] = []
    for candidate in [SPACES[space]] if space else [SPACES[name] for name in SPACES]:
        if candidate.family == "sgnas" and [layer.out_chs for layer in candidate.layers] == widths:
            forms: tuple[FormName, ...] = ("final", "search")
            fitting = [form for form in forms if candidate.form(form).se == se]
            found += [(candidate.parse(text), form) for form in fitting[:1]]
    native = [match for match in found if match[0].space.num_classes == classes]
    if len(found) > 1 and len(native) != 1:
        raise ArtifactError(f"The layers fit {', '.join(m[0].space.name for m in found)}; say which with --space.")
    if not found:
        raise ArtifactError("The layers fit no registered search space; name the one it was made in with --space.")
    return native[0] if len(found) > 1 else found[0]


def _timm_state(state: State, kernels: list[list[int]], space: SearchSpace) -> dict[str, Tensor]:
    """Rename a released state dict to timm's."""
    result = _conv_norm(state, "first", "conv_stem", "bn1")
    result |= {"conv_head.weight": state["last_stage.0.weight"], **_renamed(state, "last_stage.1", "bn2")}
    result |= _renamed(state, "classifier.1", "classifier")
    result |= _block(state, "first_mb", "blocks.0.0", [3])
    position = 0
    for number, layer in enumerate(space.layers):
        position = position + 1 if number and space.layers[number - 1].stage == layer.stage else 0
        result |= _block(state, f"stages.{number}", f"blocks.{layer.stage + 1}.{position}", kernels[number])
    return result


def _block(state: State, source: str, target: str, kernels: list[int]) -> dict[str, Tensor]:
    """One block. Ours lists its channel groups by rising kernel, so the groups and all that touches them are sorted."""
    order = sorted(range(len(kernels)), key=kernels.__getitem__)
    weights = [state[f"{source}.depthwise.blocks.{group}.weight"] for group in order]
    group = weights[0].shape[0]
    channels = torch.cat([torch.arange(group) + group * index for index in order])
    expanded = f"{source}.point_wise.conv.weight" in state
    norm = iter(("bn1", "bn2", "bn3"))
    result: dict[str, Tensor] = {}
    if expanded:
        result |= _sorted(
            _conv_norm(state, f"{source}.point_wise", f"{target}.conv_pw", f"{target}.{next(norm)}"), channels
        )
    if len(set(kernels)) > 1:
        result |= {f"{target}.conv_dw.{i}.weight": weight for i, weight in enumerate(weights)}
    else:
        result[f"{target}.conv_dw.weight"] = torch.cat(weights)
    result |= _sorted(_renamed(state, f"{source}.depthwise.bn", f"{target}.{next(norm)}"), channels)
    if f"{source}.se.squeeze_conv.weight" in state:
        result[f"{target}.se.conv_reduce.weight"] = state[f"{source}.se.squeeze_conv.weight"][:, channels]
        result[f"{target}.se.conv_reduce.bias"] = state[f"{source}.se.squeeze_conv.bias"]
        result |= _sorted(_renamed(state, f"{source}.se.excite_conv", f"{target}.se.conv_expand"), channels)
    project = "conv_pwl" if expanded else "conv_pw"
    result |= _conv_norm(state, f"{source}.point_wise_1", f"{target}.{project}", f"{target}.{next(norm)}")
    result[f"{target}.{project}.weight"] = result[f"{target}.{project}.weight"][:, channels]
    return result


def _conv_norm(state: State, source: str, conv: str, norm: str) -> dict[str, Tensor]:
    return {f"{conv}.weight": state[f"{source}.conv.weight"], **_renamed(state, f"{source}.bn", norm)}


def _renamed(state: State, source: str, target: str) -> dict[str, Tensor]:
    """Everything under one prefix, under another."""
    return {target + name.removeprefix(source): v for name, v in state.items() if name.startswith(f"{source}.")}


def _sorted(tensors: dict[str, Tensor], channels: Tensor) -> dict[str, Tensor]:
    """Tensors with their output channels in another order; counters are left alone."""
    return {name: tensor[channels] if tensor.ndim else tensor for name, tensor in tensors.items()}


def _load(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load weights that must fit exactly.

    Raises:
        ArtifactError: If they do not.
    """
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ArtifactError("The tensors do not fit the network they seem to be of; check the file.") from error
