"""Cards: templates beside this file, rendered from records, so that no number is typed twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

TEMPLATES = Path(__file__).parent / "templates"
WEIGHTS = {
    "untrained": "**The weights are untrained** (random initialisation): train the network before use.",
    "inherited": "The weights were inherited from a supernet and calibrated: fine-tune them for full accuracy.",
    "retrained": "The weights were trained from scratch with `recipes/retrain.py`.",
    "fine-tuned": "The weights were fine-tuned with `recipes/finetune.py`.",
    "converted": "The weights were converted from a released checkpoint.",
    "unknown": "Where the weights come from was not recorded.",
}
"""What a card says of weights, by their recorded origin."""


def render_model_card(title: str, config: dict[str, Any]) -> str:
    """The card of a saved model.

    Args:
        title: Heading, usually the folder's name.
        config: The model's ``config.json``.
    """
    record, cfg = config.get("sgnas", {}), config["pretrained_cfg"]
    data = ModelCardData(
        license=cfg.get("license", "apache-2.0"),
        library_name="timm",
        pipeline_tag="image-classification",
        tags=["image-classification", "timm", "sgnas-zoo"],
    )
    return _render(
        "model.md",
        data,
        title=_plain(title),
        architecture=config["architecture"],
        arch=config["model_args"].get("arch"),
        num_classes=config["num_classes"],
        resolution=cfg["input_size"][-1],
        record=record,
        weights=WEIGHTS.get(record.get("weights", "unknown"), WEIGHTS["unknown"]),
    )


def render_generator_card(title: str, config: dict[str, Any], **facts: Any) -> str:
    """The card of a generator.

    Args:
        title: Heading.
        config: The generator's ``config.json``.
        facts: ``origin`` (how it was made) and, as far as measured, ``agreement`` and ``rows`` of requested and
            achieved costs.
    """
    data = ModelCardData(license="apache-2.0", library_name="sgnas-zoo", tags=["sgnas-zoo", "architecture-generator"])
    return _render("generator.md", data, title=_plain(title), config=config, **facts)


def render_supernet_card(title: str, config: dict[str, Any], **facts: Any) -> str:
    """The card of a supernet.

    Args:
        title: Heading.
        config: The supernet's ``config.json``.
        facts: ``metrics`` and whatever else was measured on it, as the template takes them.
    """
    data = ModelCardData(license="apache-2.0", library_name="sgnas-zoo", tags=["sgnas-zoo", "supernet"])
    return _render("supernet.md", data, title=_plain(title), config=config, **facts)


def _render(template: str, data: ModelCardData, **values: Any) -> str:
    return str(ModelCard.from_template(data, template_path=str(TEMPLATES / template), **values)).rstrip() + "\n"


def _plain(text: str) -> str:
    """Text that cannot start markup: names come from users."""
    return "".join(c if c.isalnum() or c in " ._-" else "-" for c in text)
