"""What a model really costs, where keywords of timm's may have made it dearer than its budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import nn

from sgnas_zoo.api.resolve import Resolved
from sgnas_zoo.costs import BUDGETS, Conditions
from sgnas_zoo.errors import BudgetError
from sgnas_zoo.models.counting import COUNTERS, counts

COST_NEUTRAL = frozenset(
    ["num_classes", "in_chans", "drop_rate", "drop_path_rate", "device", "dtype", "cache_dir", "bn_eps", "bn_momentum"]
)
"""Keywords of timm that a budget knows, or that add to no cost; with any other the built model is counted."""

TIME_NEUTRAL = COST_NEUTRAL | {
    "features_only", "out_indices", "feature_cls", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict",
    "pretrained_model_args",
}  # fmt: skip
"""Keywords that add no time, as long as they leave the input and the classes as they are."""


def check_budgets(model: nn.Module, resolved: Resolved, for_timm: Mapping[str, Any]) -> dict[str, int]:
    """Count a model that keywords may have made dearer than its budgets.

    Args:
        model: The model.
        resolved: What it was made for.
        for_timm: The keywords that it was made with, beside those of the request.

    Returns:
        What it has and what for, for its record; empty where no keyword changes anything.

    Raises:
        BudgetError: If it exceeds a budget; it names the keywords.
    """
    unknown = sorted({name for name, value in for_timm.items() if value is not None} - COST_NEUTRAL)
    if not resolved.request.budgets or not unknown:
        return {}
    has = _counted(model, unknown, resolved.conditions)
    _check(has, resolved, unknown)
    return has


def _counted(model: nn.Module, keywords: Sequence[str], conditions: Conditions) -> dict[str, int]:
    """What a model has, counted at the input that its own config states and at a precision."""
    cfg: Mapping[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    high, wide = cfg["input_size"][1:]
    if high != wide:
        raise BudgetError(f"A budget is for square inputs, not {high} x {wide}; see {' and '.join(keywords)}.")
    in_chans = next(module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d))
    try:
        has = counts(model, replace(conditions, resolution=high, in_chans=in_chans))
    except Exception as error:  # there is nothing that layers may not raise at what they were not made for
        raise BudgetError(f"With {', '.join(keywords)} the network takes no {high} px images; drop it.") from error
    return {
        **has,
        "resolution": high,
        "num_classes": int(getattr(model, "num_classes", 0)),
        "in_chans": in_chans,
    }


def _check(has: Mapping[str, int], resolved: Resolved, keywords: Sequence[str]) -> None:
    """Refuse a model that keywords have made dearer than its budgets.

    Raises:
        BudgetError: Naming the keywords.
    """
    named = ", ".join(keywords)
    conditions, budgets = asdict(resolved.conditions), resolved.request.budgets
    larger = [name for name in ("resolution", "num_classes", "in_chans") if has[name] > conditions[name]]
    if "latency" in budgets and (larger or not TIME_NEUTRAL.issuperset(keywords)):
        raise BudgetError(f"A latency budget cannot be guaranteed with {named}; remove it, or use flops= or params=.")
    for name, (limit, *_) in budgets.items():
        if not BUDGETS[name].profiled and BUDGETS[name].cost not in COUNTERS:
            raise BudgetError(f"With {named} nobody can count {name}; drop it, or ask for flops or params.")
        cost = has.get(BUDGETS[name].cost, 0)
        if cost > limit:
            raise BudgetError(
                f"With {named} the model has {cost:,} {name} at {has['resolution']} px, more than {limit:,.0f}; "
                f"drop what adds to it, or ask for less {name}."
            )
