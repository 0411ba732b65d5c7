"""Models as artifacts: folders that plain timm loads, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from timm.models._hub import save_config_for_hf
from timm.utils import unwrap_model
from torch import nn

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import user_path, write_json
from sgnas_zoo.folders import new_folder
from sgnas_zoo.hub.artifacts import CONFIG, WEIGHTS, brief
from sgnas_zoo.hub.cards import write_card
from sgnas_zoo.hub.loading import is_ours, load_back
from sgnas_zoo.hub.states import check_described, saved_state
from sgnas_zoo.models.origin import UNTRAINED
from sgnas_zoo.models.record import only_kept


def save_model(model: nn.Module, folder: str | Path, *, weights: str | None = None, force: bool = False) -> Path:
    """Write a model as ``config.json``, ``model.safetensors`` and a card, all or nothing.

    Args:
        model: A model from ``sgnas_zoo.create_model`` or ``timm.create_model``, compiled, averaged or wrapped for
            several devices, too. A head replaced by a linear layer of another number of classes is saved as such.
        folder: Where to; ``timm.create_model("local-dir:FOLDER", pretrained=True)`` reads it back.
        weights: Where the weights come from, for the card: "untrained", "inherited", "retrained", ...; by default
            what the model's record says.
        force: Replace a folder that is there.

    Returns:
        The folder.

    Raises:
        ArtifactError: If the model is not what its config describes or holds what nothing loads, something is in the
            way, or writing fails.
    """
    model = unwrap_model(model)
    if not hasattr(model, "pretrained_cfg") or not hasattr(model, "num_features"):
        raise ArtifactError("Only classification models that timm made can be saved; create one with create_model.")
    record: dict[str, Any] = {"weights": "unknown", **getattr(model, "zoo", {})}
    if weights is not None:
        record["weights"] = weights
    ours = is_ours(model.pretrained_cfg.get("architecture"))  # type: ignore[operator, union-attr]
    state = saved_state(model)
    untrained = record["weights"] == UNTRAINED
    with only_kept(model, ours, untrained), _as_headed(model), new_folder(folder, force) as staging:
        try:
            save_config_for_hf(model, str(staging / CONFIG), model_config={"zoo": record})
        except (TypeError, ValueError) as error:
            reason = brief(error).rstrip(".")
            raise ArtifactError(f"Cannot describe this model: {reason}; make it from plain values.") from error
        config = json.loads((staging / CONFIG).read_text(encoding="utf-8"))
        config["model_args"].pop("num_classes", None)
        if untrained or config["pretrained_cfg"].get("tag") == UNTRAINED:  # the tag is of weights, these are others
            config["pretrained_cfg"]["tag"] = record["weights"]
        labels = config["pretrained_cfg"].pop("label_names", None)
        if labels and len(labels) == config["num_classes"]:  # where timm and transformers look for them
            config["label_names"] = labels
        check_described(state, config)
        save_file(state, staging / WEIGHTS)
        write_json(staging / CONFIG, config)
        write_card(staging, name=user_path(folder).name)
        load_back(staging)
    return Path(folder).expanduser()


@contextmanager
def _as_headed(model: nn.Module) -> Iterator[None]:
    """Let a model have the number of classes that its head says."""
    stated = model.num_classes
    model.num_classes = _classes(model)  # type: ignore[assignment]
    try:
        yield
    finally:
        model.num_classes = stated


def _classes(model: nn.Module) -> int:
    """Number of classes, which the head says if it was replaced by a linear layer for others, or taken away."""
    names: Any = model.pretrained_cfg.get("classifier") or ()  # type: ignore[operator, union-attr]
    names = [names] if isinstance(names, str) else names
    heads: list[Any] = [module for name, module in model.named_modules() if name in names]
    counts = {0 if type(h) is nn.Identity else h.out_features if type(h) is nn.Linear else None for h in heads}
    count = counts.pop() if len(counts) == 1 else None
    return int(model.num_classes if count is None else count)  # type: ignore[arg-type]
