"""Released SGNAS checkpoints in the layout of the released code: generators, and networks of channel groups."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from sgnas_zoo.costs import Conditions
from sgnas_zoo.errors import ArtifactError, ZooError
from sgnas_zoo.files import read_config
from sgnas_zoo.hub.from_tensors import State, complete, fill, filled
from sgnas_zoo.hub.generators import MAX_WIDTH
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.spaces import SPACES, Arch, Form, FormName, SearchSpace

RELEASED_RANGES = {"sgnas_imagenet": (270e6, 450e6), "sgnas_cifar": (80e6, 120e6)}
"""Targets (MACs of convolutions, search form) that released generators were trained for (released configurations)."""

GENERATOR_NAMES = {"hc_head": "target_head", "bb_head": "prior_head", "body.block": "trunk_body", "head": "trunk_head"}
"""Released part names and ours."""

FORMS: tuple[FormName, ...] = ("final", "lite", "search")
"""Forms that a network may have: where two of them have the same tensors, it has the first."""


def is_generator(state: State) -> bool:
    """Whether a state dict is a released generator's."""
    return "hc_head.0.conv.weight" in state


def is_network(state: State) -> bool:
    """Whether a state dict is a released stand-alone network's."""
    return "first.conv.weight" in state and "last_stage.0.weight" in state


def released_generator(state: State, space: SearchSpace, pool: Path) -> ArchGenerator:
    """The generator of a released state dict.

    Raises:
        ArtifactError: If the tensors are not a generator's, or the file ``pool`` holds no prior.
    """
    weights = {_generator_name(name): value for name, value in state.items()}
    first = state["hc_head.0.conv.weight"]
    if first.ndim != 4 or not all(0 < chs <= MAX_WIDTH for chs in first.shape[:2]):
        raise ArtifactError("The tensors do not fit a generator; check the file.")
    generator = ArchGenerator(
        _prior(space, pool), "conv_macs", Conditions("search", space.resolution, space.num_classes),
        RELEASED_RANGES.get(space.name, (1e6, 1e9)),
        width=first.shape[0], target_chs=first.shape[1],
    )  # fmt: skip
    fill(generator, weights, "a generator of this width; check the file.")
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


def released_network(state: State, space: str | None, form: FormName | None) -> nn.Module:
    """The timm model of a released stand-alone network.

    Args:
        state: Its tensors.
        space: Name of its search space; None: the one that its layers fit.
        form: Its form; None: the one that its tensors fit.

    Raises:
        ArtifactError: If it is in no known space, or parts of it are missing.
    """
    with complete():
        layers = 1 + max((int(m[1]) for name in state if (m := re.match(r"stages\.(\d+)\.", name))), default=-1)
        kernels = [_kernels(state, layer) for layer in range(layers)]
        classes = int(state["classifier.1.weight"].shape[0]) if "classifier.1.weight" in state else 0
        arch, fitting = _match(state, kernels, classes, space, form)
        in_chans = int(state["first.conv.weight"].shape[1])
        return filled(_timm_state(state, kernels, arch.space), arch, fitting, in_chans, classes)


def _kernels(state: State, layer: int) -> list[int]:
    """Depthwise kernels of a layer in the order of its channel groups."""
    found: list[int] = []
    while (name := f"stages.{layer}.depthwise.blocks.{len(found)}.weight") in state:
        found.append(int(state[name].shape[-1]))
    return found


def _match(
    state: State, kernels: list[list[int]], classes: int, space: str | None, form: FormName | None
) -> tuple[Arch, FormName]:
    """The architecture and form whose widths a state dict has.

    Raises:
        ArtifactError: If no space has them, or several do and none is named.
    """
    widths = [int(state[f"stages.{i}.point_wise_1.conv.weight"].shape[0]) for i in range(len(kernels))]
    text = "-".join("".join(map(str, layer)) for layer in kernels)
    found: list[tuple[Arch, FormName]] = []
    for candidate in [SPACES[space]] if space else [SPACES[name] for name in SPACES]:
        if candidate.family == "sgnas" and [layer.out_chs for layer in candidate.layers] == widths:
            names = (form,) if form else tuple(name for name in FORMS if name in candidate.forms)
            fitting = [name for name in names if _fits(state, kernels, candidate.form(name))]
            found += [(candidate.parse(text), name) for name in fitting[:1]]
    native = [match for match in found if match[0].space.num_classes == classes]
    if len(found) > 1 and len(native) != 1:
        raise ArtifactError(f"The layers fit {', '.join(m[0].space.name for m in found)}; say which with --space.")
    if not found:
        way_on = "leave out --form, or " if form else ""
        raise ArtifactError(
            f"The layers fit no registered search space; {way_on}name the one it was made in with --space."
        )
    return native[0] if len(found) > 1 else found[0]


def _fits(state: State, kernels: list[list[int]], form: Form) -> bool:
    """Whether a network has the squeeze-and-excitation of a form, and the expansions of layers of one group."""
    singles = [layer for layer, sizes in enumerate(kernels) if len(sizes) == 1]
    expanded = {f"stages.{layer}.point_wise.conv.weight" in state for layer in singles}
    return form.se == ("first_mb.se.squeeze_conv.weight" in state) and expanded <= {form.expand_single}


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
