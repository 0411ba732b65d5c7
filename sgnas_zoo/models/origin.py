"""Where a network's weights come from, as far as its record says."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from sgnas_zoo.errors import UntrainedWarning, printable

UNTRAINED = "untrained"


def weights_of(model: nn.Module) -> str:
    """Where the weights come from: "untrained", "inherited", "retrained", ...; "unknown" where nothing was recorded."""
    record: dict[str, Any] = getattr(model, "zoo", None) or {}
    return printable(record.get("weights") or "unknown")[:100]


def mark_untrained(model: nn.Module) -> None:
    """Note in a network's record that its weights are a fresh initialisation."""
    model.zoo = {**(getattr(model, "zoo", None) or {}), "weights": UNTRAINED}  # type: ignore[assignment]


def warn_if_untrained(name: str, model: nn.Module, weights: str | None) -> None:
    """Note and warn that a saved model's weights are untrained, if its config says so.

    Args:
        name: What to call it.
        model: The model.
        weights: What its config says of its weights.
    """
    if weights == UNTRAINED:
        mark_untrained(model)
        warnings.warn(str(caveat(name, model)), UntrainedWarning, stacklevel=3)


def caveat(name: str, model: nn.Module) -> str | None:
    """One line for people who export, time or measure a network whose weights are untrained; None otherwise."""
    if weights_of(model) != UNTRAINED:
        return None
    return f"{name} has untrained weights: its answers mean nothing; train it, or name a folder or repo with weights."
