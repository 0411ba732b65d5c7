"""Cards: templates beside this file, rendered from what an artifact's folder says, so that no number is typed twice.

To add a kind: write ``templates/<kind>.md`` and a function in ``facts.py``, and add both to ``CARDS``. Templates
lay out; what they show comes clean from ``text.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import ModelCard, ModelCardData

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import read_config, user_path
from sgnas_zoo.folders import among_others
from sgnas_zoo.hub.artifacts import described_by, kind_name
from sgnas_zoo.hub.cards.facts import generator_facts, model_facts, profile_facts, supernet_facts
from sgnas_zoo.hub.cards.parts import Facts, architecture, base_model, dataset_of, num_classes, record_of
from sgnas_zoo.hub.cards.pictures import draw
from sgnas_zoo.hub.cards.results import OURS, RESULTS, Results, read_results
from sgnas_zoo.hub.cards.text import REGENERATE, Fields, dataset_id, hub_id, license_id, title

CARD, PICTURE, EVALUATION = "README.md", "architecture.svg", "evaluation.json"
OLD_PICTURE = "architecture.png"
"""What the picture was called before it was an SVG; it goes where a card is written anew."""
PLOTS, CURVES = ("front.png", "budgets.png"), "curves.png"
"""Plots of ``recipes/measure_supernet.py``, shown where the folder has them."""
TEMPLATES = Path(__file__).parent / "templates"


class _Kind(NamedTuple):
    """What the card of a kind of artifact is made of."""

    templates: tuple[str, ...]
    facts: Callable[[Fields, Fields], Facts]
    library: str
    tags: tuple[str, ...]


CARDS = {
    "model": _Kind(("model", "origin", "citation"), model_facts, "timm", ("timm", "sgnas-zoo")),
    "generator": _Kind(
        ("generator", "evidence", "origin", "citation"), generator_facts, "sgnas-zoo",
        ("sgnas-zoo", "architecture-generator"),
    ),
    "supernet": _Kind(
        ("supernet", "evidence", "origin", "citation"), supernet_facts, "sgnas-zoo", ("sgnas-zoo", "supernet")
    ),
    "profile": _Kind(("profile",), profile_facts, "sgnas-zoo", ("sgnas-zoo", "latency-profile")),
}  # fmt: skip


def card_files(folder: Path, repo: str | None = None, *, name: str | None = None) -> dict[str, bytes]:
    """All that an artifact's card consists of, by path inside its folder; the same bytes whenever it is rendered.

    Only ``config.json`` (``profile.json`` of a profile) and, where the folder has one, ``evaluation.json`` are read:
    plain data that somebody measured, such as what ``recipes/evaluate.py`` writes for a model.

    Args:
        folder: Folder of a model, a generator, a supernet or a profile.
        repo: Hub id ``USER/NAME`` that the usage lines name.
        name: Heading; by default the repo's NAME, or else the folder's.

    Raises:
        ArtifactError: If the folder holds no artifact, a field is not what it has to be, or ``repo`` is not a Hub id.
    """
    if repo is not None and hub_id(repo) != repo:
        raise ArtifactError(f"{title(repo)} is not a Hub repo id; write USER/NAME, without a revision.")
    own = name or (repo or "").partition("/")[2] or user_path(folder).name
    where = title(user_path(folder).name)
    described = described_by(folder)
    config = Fields(read_config(described), f"{described.name} of {where}")
    evaluation = Fields(_evaluation(folder / EVALUATION), f"{EVALUATION} of {where}")
    try:
        plots = [plot for plot in (*PLOTS, CURVES) if (folder / plot).is_file()]
        return _files(config, evaluation, plots, repo, title(own))
    except RecursionError as error:
        raise ArtifactError(f"{config.where} is nested too deeply; {REGENERATE}.") from error


def write_card(folder: Path, repo: str | None = None, *, name: str | None = None) -> None:
    """Write a card's files into its folder; those of an earlier one that no longer belong there go.

    Args:
        folder: As ``card_files``.
        repo: As ``card_files``.
        name: As ``card_files``.

    Raises:
        ArtifactError: As ``card_files`` does, or if the folder cannot be written.
    """
    files = card_files(folder, repo, name=name)
    results = folder / RESULTS
    if results.is_symlink() or (results.exists() and not results.is_dir()):
        raise ArtifactError(f"{results} is not a folder; remove it.")
    stale = [PICTURE, OLD_PICTURE, *(str(file.relative_to(folder)) for file in folder.glob(f"{OURS}*.yaml"))]
    with among_others(folder, stale=stale) as staging:
        for path, content in files.items():
            (staging / path).parent.mkdir(exist_ok=True)
            (staging / path).write_bytes(content)


def _evaluation(path: Path) -> object:
    """What ``evaluation.json`` holds; nothing where there is none."""
    if path.is_symlink():
        raise ArtifactError(f"{path} is a link; put the file itself there.")
    return read_config(path) if path.exists() else {}


def _files(
    config: Fields, evaluation: Fields, plots: list[str], repo: str | None, name: str
) -> dict[str, bytes]:  # fmt: skip
    own = kind_name(config.values)
    if own not in CARDS:
        raise ArtifactError(f"{config.where} does not describe a {' or '.join(CARDS)}; pass a recipe's output folder.")
    kind = CARDS[own]
    arch = architecture(config) if own == "model" else None
    results = None
    if own == "model":
        results = read_results(record_of(config), evaluation, num_classes(config))
    facts = kind.facts(config, evaluation) | {"title": name, "repo": repo, "place": repo or "FOLDER"}
    curves = CURVES if CURVES in plots else None
    facts |= {"picture": arch and PICTURE, "results": results, "curves": curves}
    facts |= {"plots": [plot for plot in plots if plot != curves]}
    card = _render(kind, _metadata(kind, config, facts, results), facts)
    drawn = {} if arch is None else {PICTURE: draw(arch)}
    return {CARD: card.encode(), **drawn, **(results.files() if results else {})}


def _metadata(kind: _Kind, config: Fields, facts: Facts, results: Results | None) -> ModelCardData:
    """What the Hub indexes: in front of the card."""
    record, is_model = record_of(config), kind is CARDS["model"]
    dataset = dataset_id(dataset_of(record if is_model else config).text("source"))
    task = "image-classification" if num_classes(config) else "image-feature-extraction"
    base = base_model(record)
    relation: dict[str, Any] = {"base_model_relation": "finetune"} if base else {}
    index = results.index() if results else []
    space = [str(facts["space"])] if facts["space"] else []
    return ModelCardData(
        license=license_id(config.part("pretrained_cfg").text("license")),
        library_name=kind.library,
        pipeline_tag=task if is_model else None,
        tags=[*([task] if is_model else []), *kind.tags, "neural-architecture-search", *space],
        datasets=[dataset] if dataset else None,
        base_model=base,
        metrics=["accuracy"] if index else None,
        model_name=str(facts["title"]) if index else None,
        eval_results=index or None,
        **relation,
    )


def _render(kind: _Kind, data: ModelCardData, facts: Facts) -> str:
    template = "\n".join((TEMPLATES / f"{name}.md").read_text(encoding="utf-8") for name in kind.templates)
    card = str(ModelCard.from_template(data, template_str=template, **facts))
    return re.sub("\n{3,}", "\n\n", card).rstrip() + "\n"
