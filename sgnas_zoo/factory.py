"""The front door: budgets in, architectures or timm models out. It only orchestrates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
from torch import nn

from sgnas_zoo.costs import COSTS, Conditions, native_conditions
from sgnas_zoo.errors import BudgetError, UnknownNameError, unknown_name
from sgnas_zoo.hub.generators import default_generator, load_generator, spaces_with_generator
from sgnas_zoo.models.builder import build_model, count_macs, count_params
from sgnas_zoo.search.budgets import BUDGET_COSTS, Amount, broadcast, plain, single
from sgnas_zoo.search.generator import ArchGenerator, GeneratorSource
from sgnas_zoo.search.propose import propose
from sgnas_zoo.spaces import SPACES, Arch, FormName, SearchSpace
from sgnas_zoo.zoo import ZooEntry, zoo_entries

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


@dataclass(frozen=True)
class Generated:
    """One answer to one set of budgets.

    Args:
        space: Name of the search space.
        arch: The architecture.
        conditions: What its costs are stated for.
        requested: The budgets, by argument name (``flops``, ``params``), in plain counts.
        macs: MACs it has, batch 1.
        params: Parameters it has.
        latency_ms: Latency where one was asked for.
        proven: Whether it is proven to be the most probable architecture within the budgets.
        generator: The generator that proposed it.
    """

    space: str
    arch: Arch
    conditions: Conditions
    requested: Mapping[str, float]
    macs: int
    params: int
    latency_ms: float | None
    proven: bool
    generator: GeneratorSource

    def record(self) -> dict[str, Any]:
        """The result as plain data, as ``generate --json`` prints it and configs keep it."""
        return {
            "space": self.space,
            "arch": str(self.arch),
            **asdict(self.conditions),
            "requested": dict(self.requested),
            "macs": self.macs,
            "params": self.params,
            **({} if self.latency_ms is None else {"latency_ms": self.latency_ms}),
            "generator": asdict(self.generator),
        }


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
    budgets = broadcast(_given(flops=flops, params=params))
    chosen = _load(generator, "" if generator else _choose_space(space, None, None, budgets))
    if space is not None and chosen.space.name != SPACES[space].name:
        raise UnknownNameError(f"This generator is for {chosen.space.name}, not {space}; leave space out or change it.")
    changes = _given(resolution=resolution, num_classes=num_classes, in_chans=in_chans)
    conditions = native_conditions(chosen.space, **changes)
    tables = {cost: COSTS[cost].table(chosen.space, conditions) for cost in ("macs", "params")}
    bounds = {tables[BUDGET_COSTS[name]]: limits for name, limits in budgets.items()}
    return [
        Generated(
            space=chosen.space.name,
            arch=decoded.arch,
            conditions=conditions,
            requested={name: plain(limits[i]) for name, limits in budgets.items()},
            macs=int(tables["macs"].measure(decoded.arch)),
            params=int(tables["params"].measure(decoded.arch)),
            latency_ms=None,
            proven=decoded.proven,
            generator=chosen.source,
        )
        for i, decoded in enumerate(propose(chosen, bounds))
    ]


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
        pretrained: Load weights. Fails with the next step where there are none; never returns random weights.
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
    budgets = single(_given(flops=flops, params=params))
    if budgets and generator is not None:
        generator = _load(generator, "")
    if model_name is None:
        if not budgets:
            raise BudgetError("Say what you need: create_model(flops=350e6), or name a model: see list_models().")
        space = _choose_space(space, None, generator, broadcast(budgets))
        model_name = SPACES[space].family
    elif budgets and model_name in zoo_entries():
        raise BudgetError(f"{model_name} is one fixed network; leave the budget out, or name 'sgnas' to have one made.")
    _check_name(model_name)
    given = _given(space=space, generator=generator, resolution=resolution)
    model: nn.Module = timm.create_model(model_name, pretrained=pretrained, **budgets, **given, **kwargs)
    if budgets:  # a saved model is rebuilt from its architecture, not from the budget that led to it
        recorded: dict[str, Any] = model._model_args  # type: ignore[assignment]
        arguments = {k: v for k, v in recorded.items() if k not in (*BUDGET_COSTS, "generator", "resolution")}
        model._model_args = arguments  # type: ignore[assignment]
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
    budgets = single(_given(**budgets))
    result, resolution = None, kwargs.pop("resolution", None)
    shape = _given(num_classes=kwargs.get("num_classes"), in_chans=kwargs.get("in_chans"))
    if arch is None and budgets:
        generator = None if generator is None else _load(generator, "")
        space = _choose_space(space, family, generator, broadcast(budgets))
        asked: dict[str, Any] = dict(budgets)
        result = generate(**asked, space=space, generator=generator, resolution=resolution, **shape)[0]
        chosen = result.arch
    else:
        chosen = _default_arch(family) if arch is None else _family_space(family, space).parse(arch)
    conditions = native_conditions(chosen.space, form=form, **shape, **_given(resolution=resolution))
    _check_arch(chosen, conditions, budgets)
    model = build_model(family, chosen, form, pretrained, resolution=resolution, **kwargs)
    if budgets and not COST_NEUTRAL.issuperset(kwargs):
        _check_model(model, conditions, budgets)
    model._model_args = {"arch": str(chosen), "space": chosen.space.name}  # type: ignore[assignment]
    if result is not None:
        model.sgnas = result.record()  # type: ignore[assignment]
    return model


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


def _given(**values: Any) -> dict[str, Any]:
    """The arguments that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def _choose_space(
    space: str | None, family: str | None, generator: object, budgets: Mapping[str, Sequence[float]]
) -> str:
    """Name of the space to search: the one named, that of the generator, or the first whose range holds the budgets."""
    if space is not None:
        chosen = SPACES[space].name
    elif generator is not None:
        chosen = _load(generator, "").space.name
    else:
        names = [n for n in spaces_with_generator() if family in (None, SPACES[n].family)]
        names = names or [_family_space(family or "", None).name]
        fitting = (n for n in names if all(_in_range(SPACES[n], cost, limits) for cost, limits in budgets.items()))
        chosen = next(fitting, names[0])
    if family not in (None, SPACES[chosen].family):
        raise UnknownNameError(f"Space {chosen} belongs to {SPACES[chosen].family}, not {family}; name that model.")
    return chosen


def _in_range(space: SearchSpace, budget: str, limits: Sequence[float]) -> bool:
    table = COSTS[BUDGET_COSTS[budget]].table(space, native_conditions(space))
    return all(table.minimum <= limit <= table.maximum for limit in limits)


def _family_space(family: str, space: str | None) -> SearchSpace:
    """The named space, or the one that a family's bare architecture strings are read in."""
    return SPACES[space or _default_entry(family).space]


def _default_arch(family: str) -> Arch:
    """What a family's name alone builds: its first published network."""
    return _default_entry(family).parsed()


def _default_entry(family: str) -> ZooEntry:
    return zoo_entries()[f"{family}_a"]


def _load(generator: object, space: str) -> ArchGenerator:
    """The generator that was given, or the embedded one of a space."""
    if isinstance(generator, ArchGenerator):
        return generator
    return default_generator(space) if generator is None else load_generator(generator)  # type: ignore[arg-type]


def _check_arch(arch: Arch, conditions: Conditions, budgets: Mapping[str, float]) -> None:
    """Refuse an architecture that exceeds budgets given beside it."""
    for name, limit in budgets.items():
        cost = COSTS[BUDGET_COSTS[name]].table(arch.space, conditions).measure(arch)
        if cost > limit:
            raise BudgetError(f"This arch has {cost:,.0f} {name}, more than {limit:,.0f}; leave out arch or {name}.")


def _check_model(model: nn.Module, conditions: Conditions, budgets: Mapping[str, float]) -> None:
    """Refuse a model that keywords have made dearer than its budgets, by counting it."""
    counted = {"flops": count_macs(model, conditions.resolution, conditions.in_chans), "params": count_params(model)}
    for name, limit in budgets.items():
        if counted[name] > limit:
            raise BudgetError(
                f"With these keywords the model has {counted[name]:,} {name}, more than {limit:,.0f}; "
                f"drop the keyword that adds to it, or ask for fewer {name}."
            )
