"""Measured accuracy on a card: in words, as ``model-index`` in its metadata, and as ``.eval_results``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml
from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]  # not in its __all__

from sgnas_zoo.hub.cards.parts import dataset_of
from sgnas_zoo.hub.cards.text import Fields, code, dataset_id, hub_id, last_part, title

RESULTS = ".eval_results"
OURS = f"{RESULTS}/sgnas_zoo"
"""What the paths of our own result files begin with; others in that folder are left alone."""
TASK = "image-classification"
METRICS = {"top1": ("accuracy", "Top-1 accuracy, %"), "top5": ("top_5_accuracy", "Top-5 accuracy, %")}
"""Type and name of each figure in metadata. Values are percent, as everywhere in this library."""


@dataclass(frozen=True)
class Results:
    """Figures of one measurement, and what they were measured on.

    Args:
        figures: Percent, by a name in ``METRICS``.
        source: The dataset, as recorded.
        split: Its split.
        revision: Its commit.
        whole: Whether every image of the split was measured.
        images: How many there were.
        limits: In words, why they are not all; empty where they are.
    """

    figures: dict[str, float]
    source: str
    split: str | None
    revision: str | None
    whole: bool
    images: float | None
    limits: str

    def rows(self) -> list[tuple[str, str]]:
        """Names and values, for a table."""
        return [(METRICS[name][1].removesuffix(", %"), f"{value:.2f} %") for name, value in self.figures.items()]

    def conditions(self) -> str:
        """What was measured, in words."""
        split = f", split {code(self.split)}" if self.split else ""
        revision = f", commit {code(self.revision[:12])}" if self.revision else ""
        images = f": {self.images:,.0f} images" if self.images else ""
        return f"{code(self.source)}{split}{revision}{images}{self.limits}"

    def index(self) -> list[EvalResult]:
        """Entries of ``model-index``; none for a part of a split, or where the dataset has no name."""
        dataset = dataset_id(self.source)
        if dataset is None or not self.whole:
            return []
        return [
            EvalResult(
                task_type=TASK, dataset_type=dataset, dataset_name=dataset, dataset_split=self._split(),
                dataset_revision=self.revision, metric_type=METRICS[name][0], metric_name=METRICS[name][1],
                metric_value=round(value, 4),
            )
            for name, value in self.figures.items()
        ]  # fmt: skip

    def files(self) -> dict[str, bytes]:
        """The same as a file of ``.eval_results``; none where the dataset is not a repo of the Hub."""
        dataset = hub_id(self.source)
        if dataset is None or not self.index():
            return {}
        split = f"split {self._split()}, " if self.split else ""
        entries = [
            EvalResultEntry(
                dataset_id=dataset, task_id=TASK if name == "top1" else f"{TASK}-{name}", value=round(value, 4),
                dataset_revision=self.revision, notes=f"{METRICS[name][1]}, {split}measured by sgnas_zoo",
            )
            for name, value in self.figures.items()
        ]  # fmt: skip
        path = f"{OURS}_{dataset.replace('/', '_')}.yaml"
        return {path: yaml_dump(eval_result_entries_to_yaml(entries), sort_keys=False).encode()}

    def _split(self) -> str | None:
        return title(self.split) if self.split else None


def read_results(record: Fields, evaluation: Fields, num_classes: float) -> Results | None:
    """What was measured of a model; None if nothing was.

    Args:
        record: The record in its config; ``metrics`` is what ``recipes/retrain.py`` and ``finetune.py`` found.
        evaluation: Its ``evaluation.json``: what ``recipes/evaluate.py`` wrote comes before the record.
        num_classes: Its classes; of five or fewer, five guesses are always right.

    Raises:
        ArtifactError: If a field is not what it has to be.
    """
    other = record.text("weights") == "untrained" or record.number("num_classes") not in (None, num_classes)
    recorded = Fields({}, record.where) if other else record.part("metrics")  # not of weights that came later
    measured = evaluation if "top1" in evaluation else recorded
    figures = {name: measured.number(name, most=100) for name in METRICS if name != "top5" or num_classes > 5}
    known = {name: value for name, value in figures.items() if value is not None}
    on = measured.part("dataset") if "dataset" in measured else measured
    source = on.text("source")
    if "top1" not in known or source is None:
        return None
    limit, skipped, held = on.number("limit"), measured.number("skipped"), on.text("part") == "held"
    words = [f"a draw of {limit:,.0f}" if limit else "", "the part held out of it" if held else ""]
    words.append(f"{skipped:,.0f} could not be read" if skipped else "")
    limits = "".join(f"; {word}" for word in words if word)
    whole = not (limit or held or on.number("holdout"))
    return Results(
        known,
        last_part(source),
        on.text("split"),
        _commit(on, record, source),
        whole,
        measured.number("images"),
        limits,
    )


def _commit(on: Fields, record: Fields, source: str) -> str | None:
    """Commit of the dataset: recorded with the figures, or with the training images of the same dataset."""
    trained = dataset_of(record)
    found = on.text("revision") or (trained.text("revision") if trained.text("source") == source else None)
    return found if found and re.fullmatch("[0-9a-f]{40}", found) else None
