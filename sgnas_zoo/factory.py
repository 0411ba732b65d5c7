"""The front door: budgets in, architectures or timm models out. It only orchestrates."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import nn

from sgnas_zoo.costs import Conditions, native_conditions
from sgnas_zoo.errors import ArchError, BudgetError, PretrainedError, UnknownNameError, unknown_name
from sgnas_zoo.hub.generators import default_generator
from sgnas_zoo.hub.supernets import TrainedSupernet, default_supernet, load_supernet, spaces_with_supernet
from sgnas_zoo.models.builder import build_model, count_macs, count_params
from sgnas_zoo.search.budgets import BUDGET_COSTS, Amount, broadcast, single
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.selection import Generated, Pick, answer, choose_space, given, load, pick
from sgnas_zoo.spaces import SPACES, FormName, SearchSpace
from sgnas_zoo.zoo import zoo_entries

REQUESTED = (*BUDGET_COSTS, "generator", "resolution", "supernet")
"""Arguments left out of a model's own: it is rebuilt from its architecture, not from what led to it."""

COST_NEUTRAL = frozenset(
    [
        "num_classes",
        "in_chans",
        "drop_rate",
        "drop_path_rate",
        "device",
        "dtype",
        "features_only",
        "out_indices",
        "feature_cls",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "cache_dir",
        "checkpoint_path",
        "scriptable",
        "exportable",
        "no_jit",
        "bn_eps",
        "bn_momentum",
        "pretrained_model_args",
        "pretrained_strict",
    ]
)
"""Keywords of timm that cannot make a network dearer; with any other the built model is counted."""


def generate(
    *,
    flops: Amount | None = None,
    params: Amount | None = None,
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
        space: Name of the search space; by default the first with a generator whose range holds the budgets.
        generator: A loaded generator, its folder, or its Hub repo id; by default the embedded one of the space.
        resolution: Input side in pixels; by default the space's.
        num_classes: Classes; by default the space's.
        in_chans: Input channels.

    Raises:
        BudgetError: If a budget cannot be read or met; names the feasible range.
        ZooError: If there is no such space or generator.
    """
    budgets = broadcast(given(flops=flops, params=params))
    chosen = load(generator, "" if generator else choose_space(space, None, None, budgets))
    if space is not None and chosen.space.name != SPACES[space].name:
        raise UnknownNameError(f"This generator is for {chosen.space.name}, not {space}; leave space out or change it.")
    changes = given(resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    return answer(chosen, native_conditions(chosen.space, **changes), budgets)


def create_model(
    model_name: str | None = None,
    *,
    pretrained: bool = False,
    flops: float | None = None,
    params: float | None = None,
    space: str | None = None,
    generator: ArchGenerator | str | Path | None = None,
    resolution: int | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Create a timm model from a budget, an architecture or a name.

    Args:
        model_name: "sgnas" or "greedynas" with a budget or ``arch=``, a published network ("sgnas_a"), or anything
            else that ``timm.create_model`` takes. Left out, the budget decides.
        pretrained: Load weights. A network made for a budget inherits those of its space's supernet, in the form it
            has there: ``supernet=`` names a folder or Hub repo, by default it is the embedded one. Fails with the next
            step where there are none; never returns random weights.
        flops: Most FLOPs (MACs) of the model returned, as in ``generate``.
        params: Most parameters of the model returned.
        space: Search space, as in ``generate``.
        generator: Generator, as in ``generate``.
        resolution: Input side in pixels that the FLOPs are stated for; by default the space's.
        kwargs: Everything else goes to ``timm.create_model`` (``num_classes``, ``in_chans``, ``drop_path_rate``, ...).

    Returns:
        For MBConv families a ``timm.models.EfficientNet``; ``model.sgnas`` holds the record of a generated one.

    Raises:
        ZooError: For budgets that cannot be met, unknown names and missing weights.
        TypeError: For keywords that timm does not know.
    """
    budgets = single(given(flops=flops, params=params))
    if budgets and generator is not None:
        generator = load(generator, "")
    if model_name is None:
        if not budgets:
            raise BudgetError("Say what you need: create_model(flops=350e6), or name a model: see list_models().")
        if not (pretrained and "supernet" in kwargs):  # a supernet names its space
            among = spaces_with_supernet() if pretrained else None
            space = choose_space(space, None, generator, broadcast(budgets), among)
        model_name = SPACES[space].family if space else "sgnas"
    elif budgets and model_name in zoo_entries():
        raise BudgetError(f"{model_name} is one fixed network; leave the budget out, or name 'sgnas' to have one made.")
    _check_name(model_name)
    chosen = given(space=space, generator=generator, resolution=resolution)
    model: nn.Module = timm.create_model(model_name, pretrained=pretrained, **budgets, **chosen, **kwargs)
    if budgets or "supernet" in kwargs:
        recorded: dict[str, Any] = model._model_args  # type: ignore[assignment]
        model._model_args = {k: v for k, v in recorded.items() if k not in REQUESTED}  # type: ignore[assignment]
    return model


def create_from(result: Generated, **kwargs: Any) -> nn.Module:
    """Create the timm model of a generated result; ``kwargs`` go to ``timm.create_model``."""
    conditions = result.conditions
    model: nn.Module = timm.create_model(
        SPACES[result.space].family, arch=str(result.arch), space=result.space, resolution=conditions.resolution,
        num_classes=conditions.num_classes, in_chans=conditions.in_chans, **kwargs,
    )  # fmt: skip
    model.sgnas = result.record()  # type: ignore[assignment]
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
        kwargs: ``resolution``, the input side in pixels; all others are for timm.
    """
    budgets = single(given(**budgets))
    resolution = kwargs.pop("resolution", None)
    picked = pick(family, arch, space, budgets, generator, **_changes(form, resolution, kwargs))
    model = build_model(family, picked.arch, form, pretrained, resolution=resolution, **kwargs)
    if picked.result is not None:
        model.sgnas = picked.result.record()  # type: ignore[assignment]
    return _checked(model, picked, budgets, kwargs)


def build_inherited(
    family: str,
    arch: str | None,
    space: str | None,
    budgets: Mapping[str, Any],
    generator: ArchGenerator | str | Path | None,
    supernet: str | Path | None,
    **kwargs: Any,
) -> nn.Module:
    """Build a family's network with what a supernet holds for it: inherited weights, calibrated batch norm.

    Args:
        family: A family whose spaces have supernets.
        arch: Architecture string; None to have one made for ``budgets``.
        space: Name of its space; by default the supernet's, or the first embedded one that holds the budgets.
        budgets: As in ``build_family``. They hold for the form inside the supernet, which is what comes back.
        generator: As in ``generate``; by default the one trained on the supernet.
        supernet: Folder or Hub repo; by default the embedded one.
        kwargs: As in ``build_family``. Another number of classes than the supernet's gets a fresh classifier.

    Raises:
        PretrainedError: If there is nothing to inherit from.
    """
    budgets = single(given(**budgets))
    if arch is None and not budgets:
        raise PretrainedError(f"No weights are published for {family} itself; say flops=350e6, or which arch=.")
    trained = load_supernet(supernet) if supernet else _embedded(family, arch, space, budgets)
    own = trained.supernet.space
    if space not in (None, own.name):
        raise UnknownNameError(f"This supernet is of {own.name}, not {space}; leave space out or change it.")
    if generator is None and arch is None:
        generator = default_generator(own.name, of_supernet=True)
    resolution = kwargs.pop("resolution", None)
    kwargs = {**kwargs, "num_classes": kwargs.get("num_classes", trained.supernet.num_classes)}
    picked = pick(family, arch, own.name, budgets, generator, **_changes("search", resolution, kwargs))
    state = trained.inherit(picked.arch).state_dict()
    overlay = trained.pretrained_cfg() | {"state_dict": state} | (kwargs.get("pretrained_cfg_overlay") or {})
    kwargs["pretrained_cfg_overlay"] = overlay
    model = build_model(family, picked.arch, "search", True, **kwargs)
    model.pretrained_cfg.pop("state_dict")  # type: ignore[operator, union-attr]
    made = {} if picked.result is None else picked.result.record()
    named = {"space": own.name, "arch": str(picked.arch)}
    model.sgnas = {**named, **made, "weights": "inherited", **trained.origin()}  # type: ignore[assignment]
    if (trained.resolution, trained.supernet.num_classes) != (own.resolution, own.num_classes):
        warnings.warn(trained.caveat(), stacklevel=2)
    return _checked(model, picked, budgets, kwargs)


def list_models() -> list[str]:
    """Names that ``create_model`` builds: families that take a budget, then published networks."""
    return [*dict.fromkeys(SPACES[name].family for name in SPACES), *zoo_entries()]


def _check_name(name: str) -> None:
    """Refuse a registry name or tag that timm does not know, with near matches; sources such as hf-hub: pass.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    base, _, tag = name.partition(".")
    if ":" in name or "/" in name:
        return
    if not timm.is_model(base):
        raise unknown_name("model", base, [*list_models(), *timm.list_models()])
    tags = timm.models.get_arch_pretrained_cfgs(base)
    if tag and name not in tags:
        raise unknown_name(f"tag of {base}", tag, [known.partition(".")[2] for known in tags])


def _embedded(family: str, arch: str | None, space: str | None, budgets: Mapping[str, float]) -> TrainedSupernet:
    """The embedded supernet for a request."""
    names = [name for name in spaces_with_supernet() if SPACES[name].family == family]
    if not names:
        raise PretrainedError(
            f"No supernet of {family} comes with the package; train one with recipes/train_supernet.py and name it "
            "with supernet=FOLDER."
        )
    if space is None and arch is not None:
        space = next((name for name in names if _reads(SPACES[name], arch)), names[0])
    return default_supernet(choose_space(space, family, None, broadcast(budgets) if budgets else {}, names))


def _reads(space: SearchSpace, arch: str) -> bool:
    """Whether a string is an architecture of a space."""
    try:
        space.parse(arch)
    except ArchError:
        return False
    return True


def _changes(form: FormName, resolution: int | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions that a request states."""
    classes, in_chans = kwargs.get("num_classes"), kwargs.get("in_chans")
    return given(form=form, resolution=resolution, num_classes=classes, in_chans=in_chans)


def _checked(model: nn.Module, picked: Pick, budgets: Mapping[str, float], kwargs: Mapping[str, Any]) -> nn.Module:
    """Count a model that keywords may have made dearer than its budgets, and note how to build it again."""
    if budgets and not COST_NEUTRAL.issuperset(kwargs):
        _check_model(model, picked.conditions, budgets)
    named = {"arch": str(picked.arch), "space": picked.arch.space.name}
    form = picked.conditions.form
    model._model_args = named if form == "final" else {**named, "form": form}  # type: ignore[assignment]
    return model


def _check_model(model: nn.Module, conditions: Conditions, budgets: Mapping[str, float]) -> None:
    """Refuse a model that keywords have made dearer than its budgets, by counting it."""
    counted = {"flops": count_macs(model, conditions.resolution, conditions.in_chans), "params": count_params(model)}
    for name, limit in budgets.items():
        if counted[name] > limit:
            raise BudgetError(
                f"With these keywords the model has {counted[name]:,} {name}, more than {limit:,.0f}; "
                f"drop the keyword that adds to it, or ask for fewer {name}."
            )
