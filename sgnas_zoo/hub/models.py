"""Models as artifacts: folders that plain timm loads, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from timm.models._hub import save_config_for_hf
from torch import nn

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import user_path, write_json
from sgnas_zoo.folders import new_folder
from sgnas_zoo.hub.artifacts import CONFIG, WEIGHTS
from sgnas_zoo.hub.cards import write_card
from sgnas_zoo.hub.loading import is_ours
from sgnas_zoo.models.record import only_kept


def save_model(model: nn.Module, folder: str | Path, *, weights: str | None = None, force: bool = False) -> Path:
    """Write a model as ``config.json``, ``model.safetensors`` and a card, all or nothing.

    Args:
        model: A model from ``sgnas_zoo.create_model`` or ``timm.create_model``.
        folder: Where to; ``timm.create_model("local-dir:FOLDER", pretrained=True)`` reads it back.
        weights: Where the weights come from, for the card: "untrained", "inherited", "retrained", ...; by default
            what the model's record says.
        force: Replace a folder that is there.

    Returns:
        The folder.

    Raises:
        ArtifactError: If the model cannot be saved, something is in the way, or writing fails.
    """
    if not hasattr(model, "pretrained_cfg") or not hasattr(model, "num_features"):
        raise ArtifactError("Only classification models that timm made can be saved; create one with create_model.")
    record: dict[str, Any] = {"weights": "unknown", **getattr(model, "sgnas", {})}
    if weights is not None:
        record["weights"] = weights
    ours = is_ours(model.pretrained_cfg.get("architecture"))  # type: ignore[operator, union-attr]
    with only_kept(model, ours):  # noqa: SIM117
        with new_folder(folder, force) as staging:
            state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}  # channels_last is not
            save_file(state, staging / WEIGHTS)
            save_config_for_hf(model, str(staging / CONFIG), model_config={"sgnas": record})
            config = json.loads((staging / CONFIG).read_text(encoding="utf-8"))
            config["model_args"].pop("num_classes", None)
            labels = config["pretrained_cfg"].pop("label_names", None)
            if labels and len(labels) == config["num_classes"]:  # where timm and transformers look for them
                config["label_names"] = labels
            write_json(staging / CONFIG, config)
            write_card(staging, name=user_path(folder).name)
    return Path(folder)
