"""The front door: budgets in, architectures or timm models out. It only orchestrates."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from numbers import Integral
from pathlib import Path
from typing import Any

import timm
from torch import nn

from sgnas_zoo.answers import Generated, answer
from sgnas_zoo.costs import native_conditions
from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.errors import BudgetError, PretrainedError, UnknownNameError, check_name, unknown_name
from sgnas_zoo.hub.loading import is_ours, load_model
from sgnas_zoo.hub.names import Place, read_name
from sgnas_zoo.hub.remote import Access
from sgnas_zoo.models.builder import build_model, count_bitops, count_macs, count_params
from sgnas_zoo.models.record import forget_request, remember
from sgnas_zoo.profiles import ProfileLike, find_profile
from sgnas_zoo.search.budgets import BUDGET_COSTS, Amount, broadcast, single, stated
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.selection import Pick, choose_space, given, load, pick
from sgnas_zoo.spaces import SPACES, FormName, families
from sgnas_zoo.weights import Pretrained, find_supernet, is_place, logged_in, tagged_spaces, take_access
from sgnas_zoo.zoo import zoo_entries

COST_NEUTRAL = frozenset(
    ["num_classes", "in_chans", "drop_rate", "drop_path_rate", "device", "dtype", "cache_dir", "bn_eps", "bn_momentum"]
)
"""Keywords of timm that a budget knows, or that add to no cost; with any other the built model is counted."""


TIME_NEUTRAL = COST_NEUTRAL | {
    "features_only", "out_indices", "feature_cls", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict",
    "pretrained_model_args",
}  # fmt: skip
"""Keywords that add no time, as long as they leave the input and the classes as they are."""


def generate(
    *,
    flops: Amount | None = None,
    params: Amount | None = None,
    latency: Amount | None = None,
    bitops: Amount | None = None,
    profile: ProfileLike | None = None,
    measure: bool = True,
    space: str | None = None,
    generator: ArchGenerator | str | Path | None = None,
    resolution: int | None = None,
    num_classes: int | None = None,
    in_chans: int = 3,
) -> list[Generated]:
    """Answer budgets with architectures: N budgets, N results, one pass of the generator.

    A budget is an upper bound and is never exceeded; it is missed by at most 1 % where the space has an architecture
    that near. Of several bounds at once all hold, and at least one is met that closely. The generator's most probable
    architecture within the bounds is found exactly (design: constrained decode).

    Args:
        flops: Most FLOPs as NAS papers count them (MACs of convolutions and linear layers, batch 1); a number or N.
        params: Most parameters; a number or N.
        latency: Most time for a batch, with its unit: "20ms"; one or N. It bounds what the profile predicts.
        bitops: Most BitOps, in a space of bits; a number or N.
        profile: Device profile that predicts latency: loaded, or its file, folder or Hub repo id. By default this
            device's own with its default runtime, from the user's cache; it is measured there once, within minutes.
        measure: Measure every network made for a latency on this machine, and ask for a quicker one where it takes
            longer than the budget and the profile's 90th percentile error allow. False for a device that is not here.
        space: Name of the search space; by default the first with a generator whose range holds the budgets.
        generator: A loaded generator, its folder, or its Hub repo id; by default the embedded one of the space.
        resolution: Input side in pixels; by default the space's.
        num_classes: Classes; by default the space's.
        in_chans: Input channels.

    Raises:
        BudgetError: If a budget cannot be read or met; names the feasible range.
        ArtifactError: If the profile is damaged, or for another space, form, resolution or device.
        ZooError: If there is no such space or generator.
    """
    check_name("space", space)
    check_name("generator", generator, Path, ArchGenerator)
    check_name("profile", profile, Path, Profile)
    budgets = broadcast(stated(flops=flops, params=params, latency=latency, bitops=bitops))
    found = find_profile(profile)
    named = space if found is None else space or found.space
    chosen = load(generator, "" if generator else choose_space(named, None, None, budgets))
    if space is not None and chosen.space.name != SPACES[space].name:
        raise UnknownNameError(f"This generator is for {chosen.space.name}, not {space}; leave space out or change it.")
    changes = given(resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    return answer(chosen, native_conditions(chosen.space, **changes), budgets, found, measure)


def create_model(
    model_name: str | Path | None = None,
    *,
    pretrained: Pretrained = False,
    flops: float | None = None,
    params: float | None = None,
    latency: str | None = None,
    bitops: float | None = None,
    space: str | None = None,
    generator: ArchGenerator | str | Path | None = None,
    resolution: int | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Create a timm model from a budget, an architecture or a name.

    Args:
        model_name: "sgnas" or "greedynas" with a budget or ``arch=``, a published network ("sgnas_a"), any name of
            timm, or a saved model: ``FOLDER``, ``local-dir:FOLDER``, ``USER/NAME[@REVISION]`` or
            ``hf-hub:USER/NAME[@REVISION]``. Left out, the budget decides.
        pretrained: Load weights. A network made for a budget inherits those of a supernet, in the form it has there:
            True takes the default tag of its space, a string names a tag, a folder, or a Hub repo id with an optional
            ``@revision``. Fails with the next step where there are none; never returns random weights.
        flops: Most FLOPs (MACs) of the model returned, as in ``generate``.
        params: Most parameters of the model returned.
        latency: Most time for a batch, with its unit: "20ms". Its ``profile`` and ``measure`` are as in ``generate``.
        bitops: Most BitOps of the model returned, in a space of bits.
        space: Search space, as in ``generate``.
        generator: Generator, as in ``generate``.
        resolution: Input side in pixels that the FLOPs are stated for; by default the space's.
        kwargs: ``profile`` and ``measure``; ``revision``, ``token``, ``cache_dir`` and ``local_files_only`` say how to
            reach the Hub. Everything else goes to ``timm.create_model`` (``num_classes``, ``drop_path_rate``, ...).

    Returns:
        For MBConv families a ``timm.models.EfficientNet``, for those of bits a ``timm.models.ResNet``; ``model.sgnas``
        holds the record of a generated one, with the commit that each of its parts was read at.

    Raises:
        ZooError: For budgets that cannot be met, unknown names and missing weights.
        TypeError: For keywords that timm does not know.
    """
    check_name("model_name", model_name, Path)
    check_name("pretrained", pretrained, Path, bool)
    if not isinstance(kwargs.get("token"), str | bool | None):
        raise UnknownNameError("A token is text; log in with `hf auth login` instead.")
    with logged_in(kwargs.pop("token", None)):
        asked = given(flops=flops, params=params, latency=latency, bitops=bitops)
        return _create(model_name, pretrained, space, generator, resolution, kwargs, asked)


def _create(
    model_name: str | Path | None,
    pretrained: Pretrained,
    space: str | None,
    generator: ArchGenerator | str | Path | None,
    resolution: int | None,
    kwargs: dict[str, Any],
    asked: Mapping[str, Any],
) -> nn.Module:
    """``create_model``, logged in."""
    sizes = {"resolution": resolution}
    _check_request(space, generator, sizes)
    _check_request(space, generator, kwargs)
    resolution, budgets = sizes["resolution"], single(stated(**asked))
    if "latency" in asked and (found := find_profile(kwargs.get("profile"), take_access(dict(kwargs)))):
        kwargs["profile"], space = found, space or found.space
    place = None if model_name is None else _place(model_name, bool(budgets) or "arch" in kwargs)
    if model_name is None:
        generator = None if generator is None else load(generator, "", take_access(dict(kwargs)))
        model_name, space = _family_for(pretrained, budgets, space, generator)
    elif budgets and (place or (model_name in zoo_entries() and model_name not in families())):
        raise BudgetError(f"{model_name} is one fixed network; leave the budget out, or name 'sgnas' to have one made.")
    _check_name(str(model_name), pretrained, place is not None)
    if place is not None:
        access = take_access(kwargs)
        return load_model(model_name, pretrained=bool(pretrained), access=access, **kwargs)
    chosen = given(space=space, generator=generator, resolution=resolution)
    model: nn.Module = timm.create_model(str(model_name), pretrained, **asked, **chosen, **kwargs)
    if is_ours(str(model_name).partition(".")[0]):
        forget_request(model)
    return model


def build_family(
    family: str,
    pretrained: bool,
    arch: str | None,
    space: str | None,
    form: FormName,
    budgets: Mapping[str, Any],
    generator: ArchGenerator | str | Path | None,
    **kwargs: Any,
) -> nn.Module:
    """Build what a family's timm entry point was asked for: an architecture by string, or one made for budgets.

    Args:
        family: "sgnas" or "greedynas".
        pretrained: Load the weights of ``pretrained_cfg``.
        arch: Architecture string; it is checked against ``budgets`` if those are given as well.
        space: Name of its space.
        form: "final" or "search".
        budgets: ``flops`` and ``params``, None where not given.
        generator: As in ``generate``.
        kwargs: ``resolution``, the input side in pixels; ``profile`` and ``measure`` as in ``generate``; all others
            are for timm.
    """
    _check_request(space, generator, kwargs)
    budgets = single(stated(**budgets))
    access = take_access(kwargs)
    generator = None if generator is None else load(generator, "", access)
    resolution = kwargs.pop("resolution", None)
    picked = pick(
        family, arch, space, budgets, generator, **_timing(kwargs, access), **_changes(form, resolution, kwargs)
    )
    model = build_model(family, picked.arch, form, pretrained, resolution=resolution, **kwargs)
    if picked.result is not None:
        model.sgnas = picked.result.record()  # type: ignore[assignment]
    return _checked(model, picked, budgets, kwargs)


def build_inherited(
    family: str,
    pretrained: Pretrained,
    arch: str | None,
    space: str | None,
    budgets: Mapping[str, Any],
    generator: ArchGenerator | str | Path | None,
    **kwargs: Any,
) -> nn.Module:
    """Build a family's network with what a supernet holds for it: inherited weights, calibrated batch norm.

    Args:
        family: A family whose spaces have supernets.
        pretrained: Which supernet, as in ``create_model``.
        arch: Architecture string; None to have one made for ``budgets``.
        space: Name of its space; by default the supernet's, or the first one with weights that holds the budgets.
        budgets: As in ``build_family``. They hold for the form inside the supernet, which is what comes back.
        generator: As in ``generate``; by default the one trained on the supernet, or else the space's.
        kwargs: As in ``build_family``. Another number of classes than the supernet's gets a fresh classifier.

    Raises:
        PretrainedError: If there is nothing to inherit from.
    """
    _check_request(space, generator, kwargs)
    budgets = single(stated(**budgets))
    access = take_access(kwargs)
    if arch is None and not budgets:
        raise PretrainedError(f"No weights are published for {family} itself; say flops=350e6, or which arch=.")
    trained, its_generator = find_supernet(pretrained, family, arch, space, budgets, access)
    own = trained.supernet.space
    if space not in (None, own.name):
        raise UnknownNameError(f"This supernet is of {own.name}, not {space}; leave space out or change it.")
    generator = its_generator if generator is None else load(generator, "", access)
    resolution = kwargs.pop("resolution", None)
    kwargs = {**kwargs, "num_classes": kwargs.get("num_classes", trained.supernet.num_classes)}
    picked = pick(
        family, arch, own.name, budgets, generator, **_timing(kwargs, access), **_changes("search", resolution, kwargs)
    )
    state = trained.inherit(picked.arch).state_dict()
    overlay = trained.pretrained_cfg() | {"state_dict": state} | (kwargs.get("pretrained_cfg_overlay") or {})
    model = build_model(family, picked.arch, "search", True, **{**kwargs, "pretrained_cfg_overlay": overlay})
    model.pretrained_cfg.pop("state_dict")  # type: ignore[operator, union-attr]
    made = {} if picked.result is None else picked.result.record()
    named = {"space": own.name, "arch": str(picked.arch)}
    model.sgnas = {**named, **made, "weights": "inherited", **trained.origin()}  # type: ignore[assignment]
    if (trained.resolution, trained.supernet.num_classes) != (own.resolution, own.num_classes):
        warnings.warn(trained.caveat(), stacklevel=2)
    return _checked(model, picked, budgets, kwargs)


def _family_for(
    pretrained: Pretrained, budgets: Mapping[str, float], space: str | None, generator: ArchGenerator | None
) -> tuple[str, str | None]:
    """Name of the family, and of the space where that is decided by now, for a request without a model's name.

    Raises:
        BudgetError: If there is no budget either.
    """
    if not budgets:
        raise BudgetError("Say what you need: create_model(flops=350e6), or name a model: see list_models().")
    if is_place(pretrained):  # a supernet names its space; its generator is of the same one
        own = SPACES[space] if space else generator.space if generator else SPACES["sgnas_imagenet"]
        return own.family, space
    among = tagged_spaces(pretrained) if pretrained else None
    space = choose_space(space, None, generator, broadcast(budgets), among)
    return SPACES[space].family, space


def list_models() -> list[str]:
    """Names that ``create_model`` builds: families that take a budget, then published networks."""
    return [*dict.fromkeys([*families(), *zoo_entries()])]


def is_model(name: str) -> bool:
    """Whether a name is one that timm knows, ours among them; a tag may follow."""
    return bool(timm.is_model(name.partition(".")[0]))


def _place(name: str | Path, made: bool) -> Place | None:
    """Where a saved model is, if its name says so; a family that gets a budget or an architecture is no folder."""
    return None if made and name in families() else read_name(name, is_model)


def _check_name(name: str, pretrained: Pretrained, saved: bool) -> None:
    """Refuse a registry name or tag that timm does not know, with near matches; a saved model's place passes.

    Raises:
        UnknownNameError: If there is none of that name, or ``pretrained`` names weights beside a fixed network.
    """
    base, _, tag = name.partition(".")
    if not isinstance(pretrained, bool) and base not in families():
        raise UnknownNameError(
            f"{name} is one fixed network and takes pretrained=True, or {base}.TAG as its name; only a network that "
            "is made for a budget inherits from a supernet."
        )
    if saved:
        return
    if not timm.is_model(base):
        raise unknown_name("model", base, [*list_models(), *timm.list_models()])
    tags = timm.models.get_arch_pretrained_cfgs(base)
    if tag and name not in tags:
        raise unknown_name(f"tag of {base}", tag, [known.partition(".")[2] for known in tags])


def _check_request(space: object, generator: object, kwargs: dict[str, Any]) -> None:
    """Refuse what is no name, and take whole numbers of numpy for what they are.

    Raises:
        UnknownNameError: Naming the argument.
    """
    check_name("space", space)
    check_name("generator", generator, Path, ArchGenerator)
    check_name("profile", kwargs.get("profile"), Path, Profile)
    for name in ("arch", "revision"):
        check_name(name, None if isinstance(kwargs.get(name), str) else kwargs.get(name))
    for name in ("num_classes", "in_chans", "resolution"):
        if isinstance(kwargs.get(name), Integral) and not isinstance(kwargs[name], bool):
            kwargs[name] = int(kwargs[name])


def _changes(form: FormName, resolution: int | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions that a request states."""
    classes, in_chans = kwargs.get("num_classes"), kwargs.get("in_chans")
    return given(form=form, resolution=resolution, num_classes=classes, in_chans=in_chans)


def _timing(kwargs: dict[str, Any], access: Access) -> dict[str, Any]:
    """What a request says about latency, taken out of its keywords."""
    return {"profile": find_profile(kwargs.pop("profile", None), access), "measure": kwargs.pop("measure", True)}


def _checked(model: nn.Module, picked: Pick, budgets: Mapping[str, float], kwargs: Mapping[str, Any]) -> nn.Module:
    """Count a model that keywords may have made dearer than its budgets, and note how to build it again."""
    remember(model, picked.arch, picked.conditions.form)
    unknown = sorted({name for name, value in kwargs.items() if value is not None} - COST_NEUTRAL)
    if budgets and unknown:
        has = _counted(model, unknown)
        _check_model(has, picked, budgets, unknown)
        if picked.result is not None:
            model.sgnas = {**model.sgnas, **has}  # type: ignore[assignment, dict-item]
    return model


def _counted(model: nn.Module, keywords: Sequence[str]) -> dict[str, int]:
    """What a model has, counted at the input that its own config states."""
    cfg: Mapping[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    high, wide = cfg["input_size"][1:]
    if high != wide:
        raise BudgetError(f"A budget is for square inputs, not {high} x {wide}; see {' and '.join(keywords)}.")
    in_chans = next(module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d))
    try:
        bitops, macs = count_bitops(model, high, in_chans), count_macs(model, high, in_chans)
    except Exception as error:  # there is nothing that layers may not raise at what they were not made for
        raise BudgetError(f"With {', '.join(keywords)} the network takes no {high} px images; drop it.") from error
    return {
        "macs": macs,
        "params": count_params(model),
        **({"bitops": bitops} if bitops else {}),
        "resolution": high,
        "num_classes": int(getattr(model, "num_classes", 0)),
        "in_chans": in_chans,
    }


def _check_model(has: Mapping[str, int], picked: Pick, budgets: Mapping[str, float], keywords: Sequence[str]) -> None:
    """Refuse a model that keywords have made dearer than its budgets.

    Raises:
        BudgetError: Naming the keywords.
    """
    named = ", ".join(keywords)
    conditions = asdict(picked.conditions)
    larger = [name for name in ("resolution", "num_classes", "in_chans") if has[name] > conditions[name]]
    if "latency" in budgets and (larger or not TIME_NEUTRAL.issuperset(keywords)):
        raise BudgetError(f"{named} may take time that no profile knows; drop it, or ask for flops or params.")
    for name, limit in budgets.items():
        cost = 0 if name == "latency" else has.get(BUDGET_COSTS[name], 0)
        if cost > limit:
            raise BudgetError(
                f"With {named} the model has {cost:,} {name} at {has['resolution']} px, more than {limit:,.0f}; "
                f"drop what adds to it, or ask for fewer {name}."
            )
