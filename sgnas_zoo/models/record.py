"""What is kept with a model: the arguments that build it again, by an allow-list that the reader checks against too.

This is the only module that touches ``_model_args``, where timm keeps every keyword that a model was made with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.spaces import Arch, FormName

KEPT = (
    "arch", "space", "form", "global_pool", "act_layer", "norm_layer", "drop_rate", "drop_path_rate", "bn_eps",
    "bn_momentum", "in_chans", "num_classes", "output_stride", "weights",
)  # fmt: skip
"""Arguments that a network of ours is built from again; nothing else is written, or read."""

LED_TO_IT = (
    "profile", "measure", "force", "generator", "resolution", "precision", "revision", "local_files_only", "resolved",
)  # fmt: skip
"""Arguments that led to the architecture, beside budgets: timm keeps them with a model, and they build nothing."""


def led_to_it() -> tuple[str, ...]:
    """Arguments that led to the architecture, budgets among them."""
    return (*BUDGETS, *LED_TO_IT)


def arguments(model: nn.Module) -> dict[str, Any]:
    """What timm keeps with a model."""
    return dict(getattr(model, "_model_args", {}))


def remember(model: nn.Module, arch: Arch, form: FormName) -> None:
    """Note what a network of ours is: its architecture, space and form."""
    named = {"arch": str(arch), "space": arch.space.name}
    model._model_args = named if form == "final" else {**named, "form": form}  # type: ignore[assignment]


def forget_request(model: nn.Module) -> None:
    """Drop what led to a network of ours from what timm keeps with it."""
    own = {name: value for name, value in arguments(model).items() if name not in led_to_it()}
    model._model_args = own  # type: ignore[assignment]


@contextmanager
def only_kept(model: nn.Module, ours: bool, untrained: bool) -> Iterator[None]:
    """For the length of a ``with`` block, only what may be written is kept with a model.

    Classes are not: a config states them at its root, and twice is an error in transformers.

    Args:
        model: The model.
        ours: Whether it is a network of ours; with others all is kept that timm keeps.
        untrained: Whether its weights are, which whoever loads it is told: what of ours is kept says so.

    Raises:
        ArtifactError: If a network of ours was made with more than a saved one can state.
    """
    everything = arguments(model)
    left_out = (*led_to_it(), "num_classes", "weights")
    own = {name: value for name, value in everything.items() if name not in left_out}
    if ours and untrained:
        own["weights"] = "untrained"
    foreign = sorted(set(own) - set(KEPT))
    if foreign and ours:
        raise ArtifactError(
            f"This model was made with {', '.join(foreign)}, which a saved model cannot state; make it without."
        )
    model._model_args = own  # type: ignore[assignment]
    try:
        yield
    finally:
        model._model_args = everything  # type: ignore[assignment]
