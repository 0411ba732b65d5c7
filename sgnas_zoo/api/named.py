"""Networks that are made by name: what timm's entry point of each does."""

from __future__ import annotations

from typing import Any

from torch import nn

from sgnas_zoo.api.create import names_weights
from sgnas_zoo.api.request import refuse_token
from sgnas_zoo.errors import PretrainedError
from sgnas_zoo.files import read_config
from sgnas_zoo.hub.artifacts import CONFIG, WEIGHTS
from sgnas_zoo.hub.loading import warn_of_new_head
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.zoo import ZooEntry


def make_named(entry: ZooEntry, pretrained: bool, kwargs: dict[str, Any]) -> nn.Module:
    """Build what a named network's timm entry point was asked for.

    Args:
        entry: The network.
        pretrained: Load the weights of its tag, or those that a ``pretrained_cfg`` among the keywords names.
        kwargs: All other keywords.

    Raises:
        PretrainedError: If there are no weights, or a token is among the keywords.
    """
    refuse_token(kwargs)
    if pretrained and not names_weights(entry.name, kwargs):
        raise PretrainedError(
            f"No weights are published for {entry.name} yet; train it with the recipes, convert a released "
            "checkpoint with `sgnas-zoo convert`, or load a saved folder with "
            "timm.create_model('local-dir:FOLDER', pretrained=True)."
        )
    model = build_model(entry.name, entry.parsed(), entry.form, pretrained, **kwargs)
    cfg: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    record: dict[str, Any] = {"space": entry.space, "arch": entry.arch, "form": entry.form}
    weights = entry.weights.get(cfg.get("tag") or "")
    if weights and cfg.get("file") == str(weights.place / WEIGHTS):
        del cfg["file"]  # a saved model does not say where the package lies
        if pretrained:
            record = read_config(weights.place / CONFIG)["zoo"]
            warn_of_new_head(record["num_classes"], kwargs.get("num_classes"))
    model.zoo = record  # type: ignore[assignment]
    return model
