"""Facts that cards of several kinds share: architectures, costs, what something was made from, recipes, evidence."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from sgnas_zoo.errors import ArtifactError, ZooError
from sgnas_zoo.files import record_key
from sgnas_zoo.hub.cards.text import REGENERATE, Fields, code, hub_id, last_part, prose
from sgnas_zoo.spaces import SPACES, Arch, SearchSpace
from sgnas_zoo.zoo import zoo_entries

Facts = dict[str, Any]

OUTCOMES = ("recipe", "hours", "processes", "final", "started_from", "earlier_hours")
"""What stands among the settings of a training without being one."""
FROM_SCRATCH = ("untrained", "retrained")
"""Weights that come from no others, whatever else a record still says."""


def num_classes(config: Fields) -> float:
    """Classes of a model, where its config says so; timm's default otherwise."""
    stated = config.number("num_classes")
    stated = config.part("pretrained_cfg").number("num_classes") if stated is None else stated
    return 1000 if stated is None else stated


def architecture(config: Fields) -> Arch | None:
    """The architecture of a saved model; None where it belongs to no search space.

    Raises:
        ArtifactError: If the config states one that is none.
    """
    name, arguments = config.text("architecture") or "", config.part("model_args")
    string, entries = arguments.text("arch"), zoo_entries()
    if string is None:
        return entries[name].parsed() if name in entries else None
    space = arguments.text("space") or record_of(config).text("space")
    if space is None and f"{name}_a" in entries:
        space = entries[f"{name}_a"].space
    return None if space is None else parsed(_space(space, config.where), string, config.where)


def record_of(config: Fields) -> Fields:
    """The record in a model's config."""
    return config.part(record_key(config.values))


def dataset_of(fields: Fields) -> Fields:
    """What weights were trained on: recipes note a record, inherited weights the dataset's name alone."""
    if fields.text("weights") == "untrained":
        return Fields({}, fields.where)
    stated = fields.text("dataset") if isinstance(fields.values.get("dataset"), str) else None
    return fields.part("dataset") if stated is None else Fields({"source": stated}, fields.where)


def base_model(record: Fields) -> str | None:
    """The repo that weights were inherited from or fine-tuned from; folders and parts of this package are none."""
    if record.text("weights") in FROM_SCRATCH:
        return None
    started = record.part("started_from")
    for part in (started.part("loaded_from"), started.part("supernet"), record.part("supernet")):
        name = hub_id(part.text("id"))
        if name and part.text("revision") and not name.startswith("sgnas_zoo/"):
            return name
    return None


def space_of(config: Fields) -> SearchSpace:
    """The search space that a generator or a supernet is of.

    Raises:
        ArtifactError: If it names none that is registered.
    """
    return _space(config.text("space") or "", config.where)


def parsed(space: SearchSpace, string: str, where: str) -> Arch:
    """An architecture string as a value.

    Raises:
        ArtifactError: If it is none of the space.
    """
    try:
        return space.parse(string)
    except ZooError as error:
        raise _invalid(where, error) from error


def _space(name: str, where: str) -> SearchSpace:
    try:
        return SPACES[name]
    except ZooError as error:
        raise _invalid(where, error) from error


def _invalid(where: str, error: ZooError) -> ArtifactError:
    reason = prose(str(error), 160).rstrip(".")
    return ArtifactError(f"{where} is not valid ({reason}); {REGENERATE}.")


def recipe_sha256(recipe: str, settings: dict[str, Any]) -> str:
    """Digest of a recipe's name and settings, whatever their order: the same for runs that do the same."""
    content = {"recipe": recipe, "settings": settings}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def trained_with(training: Fields, ran: Fields, default: str | None) -> Facts:
    """A training's recipe, its settings with their digest, and what the run took."""
    recipe = training.text("recipe") or default
    settings = {name: value for name, value in training.values.items() if name not in OUTCOMES}
    took = {name: ran.number(name) for name in ("hours", "processes", "earlier_hours")}
    recorded = recipe is not None and bool(settings)
    return {
        "recipe": code(recipe) if recorded else None,
        "settings": ", ".join(training.shown(*OUTCOMES)),
        "recipe_sha256": recipe_sha256(recipe or "", settings)[:16] if recorded else None,
        "took": _took(**took),
    }


def made_from(record: Fields) -> list[tuple[str, str, str, str]]:
    """What an artifact was made from: kind, id, commit and digest of each."""
    sources = {name: record.part(name) for name in ("generator", "teacher")}
    started = Fields({}, record.where)
    if record.text("weights") not in FROM_SCRATCH:
        started = record.part("started_from")
        sources["supernet"] = record.part("supernet")
        sources["started from"] = started.part("loaded_from")
        sources["its supernet"] = started.part("supernet")
        sources["loaded from"] = record.part("loaded_from")
    found = [(what, *_source(part)) for what, part in sources.items() if part.text("id")]
    if (model := started.text("model")) and not started.part("loaded_from").values:
        found.append(("started from", code(last_part(model.removeprefix("local-dir:"))), "-", "-"))
    return found


def _source(part: Fields) -> tuple[str, str, str]:
    """Id, commit and digest: of a folder its name only, as where it lies concerns nobody."""
    name, commit, digest = part.text("id") or "", part.text("revision"), part.text("sha256")
    known = hub_id(name) if commit or name.startswith("sgnas_zoo/") else None
    shown = code(known or re.split(r"[/\\]", name.rstrip("/\\"))[-1])
    return shown, code(commit[:40]) if commit else "-", code(digest[:16]) if digest else "-"


def conditions(fields: Fields) -> str:
    """What a cost is stated for, in words."""
    form, precision = fields.text("form"), fields.text("precision")
    counts = {name: fields.number(name) for name in ("resolution", "num_classes", "in_chans")}
    units = {"resolution": "px", "num_classes": "classes", "in_chans": "channels"}
    words = [f"{code(form)} form"] if form else []
    words += [f"{value:,.0f} {units[name]}" for name, value in counts.items() if value is not None]
    words += [f"bytes at {code(precision)}"] if precision else []
    return ", ".join([*words, "batch 1"])


def evidence(evaluation: Fields) -> Facts:
    """What ``recipes/measure_supernet.py`` found for a supernet with its generator."""
    rows, on, images = [], evaluation.part("dataset"), evaluation.number("images")
    for part in evaluation.parts("budgets"):
        others = part.numbers("random_top1")
        random = f"{sum(others) / len(others):.2f}" if others else "-"
        top1, top5 = part.number("top1", most=100) or 0, part.number("top5", most=100)
        interval = f" ± {1.96 * (top1 * (100 - top1) / images) ** 0.5:.2f}" if images else ""
        five = "-" if top5 is None else f"{top5:.2f}"
        rows.append([*row(part, "requested", "achieved"), f"{top1:.2f}{interval}", five, random])
    lead, tau = evaluation.number("lead_over_random", -100, 100), evaluation.number("kendall_tau", -1, 1)
    error, trained = evaluation.number("lead_standard_error"), evaluation.parts("retrained")
    epochs = {count for part in trained if (count := part.number("epochs")) is not None}
    split, limit = on.text("split"), on.number("limit")
    words = [f"split {code(split)}" if split else "", f"a draw of {limit:,.0f}" if limit else ""]
    return {
        "evidence": rows,
        "top5": any(five != "-" for *_, five, _ in rows),
        "images": f"{images:,.0f}" if images else None,
        "over": f"{evaluation.number('over_budget') or 0:.0f} of {len(rows)}",
        "lead": None if lead is None else f"{lead:+.2f}" + ("" if error is None else f" ± {error:.2f}"),
        "tau": f"{tau:.3f}" if tau is not None else None,
        "pairs": len(trained),
        "epochs": f" ({epochs.pop():.0f} epochs each)" if len(epochs) == 1 else "",
        "measured_on": ", ".join([code(on.text("source") or "-"), *(word for word in words if word)]),
    }


def row(part: Fields, asked: str, *got: str) -> list[str]:
    """A request and what came of it, in millions; the last one also as a share of the request."""
    values = [part.number(name) for name in (asked, *got)]
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known[0]:
        raise part.wrong(asked, "request with its answers")
    digits = 1 if known[0] >= 1e8 else 3
    answers = [f"{value / 1e6:,.{digits}f}" for value in known[1:]]
    return [f"{known[0] / 1e6:,.4g}", *answers, f"{known[-1] / known[0]:.2%}"]


def _took(hours: float | None, processes: float | None, earlier_hours: float | None) -> str:
    """How long a run was, in words; empty where nobody noted it."""
    count = f" on {processes:,.0f} process{'es' if processes > 1 else ''}" if processes else ""
    before = f", after {earlier_hours:,.3g} hours for the weights that it started from" if earlier_hours else ""
    return f"{hours:,.3g} hours{count}{before}" if hours is not None else ""
