"""What templates say of each kind: facts out of a config and an evaluation, checked, and clean of markup."""

from __future__ import annotations

import re

from sgnas_zoo.costs import BUDGETS, COSTS, counted
from sgnas_zoo.hub.cards.parts import (
    Facts,
    architecture,
    conditions,
    dataset_of,
    evidence,
    made_from,
    num_classes,
    parsed,
    record_of,
    row,
    space_of,
    trained_with,
)
from sgnas_zoo.hub.cards.text import Fields, code, prose
from sgnas_zoo.measure.timing import MOST_SPREAD
from sgnas_zoo.search.decode import SPEND

WEIGHTS = {
    "untrained": "**The weights are untrained** (random initialisation): the answers mean nothing. Train the network "
    "before use, for example with `recipes/retrain.py`.",
    "inherited": "The weights were inherited from a supernet and calibrated: fine-tune them (`recipes/finetune.py`) "
    "for full accuracy. A classifier for other classes than the supernet's is new and untrained.",
    "retrained": "The weights were trained from scratch with `recipes/retrain.py`.",
    "fine-tuned": "The weights were fine-tuned with `recipes/finetune.py`.",
    "converted": "The weights were converted from a checkpoint.",
    "unknown": "Where the weights come from was not recorded.",
}
"""What a card says of weights, by their recorded origin."""


def model_facts(config: Fields, evaluation: Fields) -> Facts:
    """Facts for ``model.md``.

    Raises:
        ArtifactError: If a field is not what it has to be.
    """
    record, cfg = record_of(config), config.part("pretrained_cfg")
    arch, size = architecture(config), cfg.numbers("input_size")
    weights = record.text("weights") or "unknown"
    classes, nothing = num_classes(config), Fields({}, config.where)
    return {
        "architecture": code(config.text("architecture") or "unknown"),
        "arch": None if arch is None else f"`{arch}`",
        "space": None if arch is None else arch.space.name,
        "legend": arch and arch.space.kind.legend,
        "form": _form(record.text("form") or config.part("model_args").text("form")),
        "classes": f"{classes:,.0f}",
        "resolution": f"{size[-1]:,.0f}" if size else None,
        "untrained": weights == "untrained",
        "weights": WEIGHTS.get(weights, WEIGHTS["unknown"]),
        "trained_on": _trained_on(record, weights, classes),
        "budgets": _budgets(record),
        "counted": _counted(record),
        "latency": _latency(record),
        "parts": made_from(record),
        **trained_with(nothing if weights == "untrained" else record.part("training"), record.part("metrics"), None),
    }


def generator_facts(config: Fields, evaluation: Fields) -> Facts:
    """Facts for ``generator.md``.

    Raises:
        ArtifactError: If a field is not what it has to be.
    """
    space, limits = space_of(config), config.numbers("range")
    if len(limits) != 2:
        raise config.wrong("range", "pair of numbers")
    agreement, follows = evaluation.part("agreement"), evaluation.part("follows")
    share = config.number("spend", least=0, most=1)
    spend = 100 * (SPEND if share is None else share)
    middle = float(f"{sum(limits) / 2:.3g}")
    cost = config.text("cost") or "macs"
    budget = COSTS[cost].budget if cost in COSTS else "flops"
    return {
        "space": space.name,
        "cost": code(cost),
        "budget": budget,
        "unit": BUDGETS[budget].unit,
        "example": f"{middle:_.0f}",
        "conditions": conditions(config.part("conditions")),
        "low": f"{limits[0]:,.0f}",
        "high": f"{limits[1]:,.0f}",
        "prior": f"`{parsed(space, config.text('prior') or '', config.where)}`",
        "origin": prose(evaluation.text("origin") or "How it was trained was not recorded."),
        "covered": prose(evaluation.text("covered") or ""),
        "agreement": _agreement(agreement) if agreement.values else None,
        "spend": f"{spend:.4g} %, where the space has such a network" if spend else "none",
        "notes": [prose(note) for note in evaluation.texts("notes")],
        "teacher": _teacher(evaluation.part("additive"), evaluation.number("lost", least=-100)),
        "rows": [row(part, "target", "argmax", "decoded") for part in evaluation.parts("rows")],
        "distance": follows.number("distance_percent"),
        "follows": follows.number("kendall_tau", least=-1, most=1),
        **evidence(evaluation),
        "parts": made_from(evaluation),
        **trained_with(evaluation.part("training"), evaluation.part("training"), None),
    }


def supernet_facts(config: Fields, evaluation: Fields) -> Facts:
    """Facts for ``supernet.md``.

    Raises:
        ArtifactError: If a field is not what it has to be.
    """
    space, dataset, training = space_of(config), config.part("dataset"), config.part("training")
    example = space.arch([[slot[0] for slot in layer.allowed] for layer in space.layers])
    held, seed, final = dataset.number("holdout"), dataset.number("seed", -1e15), training.part("final")
    figures = {name: final.number(name) for name in final.values if name.startswith("top1_")}
    named = {"trained on": dataset.text("source"), "split": dataset.text("split"), "sampler": training.text("sampler")}
    counts = {name: training.number(name) for name in ("paths", "epochs", "batch_size")}
    native = (config.number("resolution"), config.number("num_classes")) == (space.resolution, space.num_classes)
    counts |= {"path_evaluations": final.number("path_evaluations"), "candidate_pool": config.number("pool") or None}
    return {
        "space": space.name,
        "family": space.family,
        "budget": space.budget,
        "unit": BUDGETS[space.budget].unit,
        "example": str(example),
        "resolution": f"{config.number('resolution') or 0:,.0f}",
        "in_chans": f"{config.number('in_chans') or 0:.0f}",
        "classes": f"{config.number('num_classes') or 0:,.0f}",
        "native": None if native else f"{space.resolution} px, {space.num_classes} classes",
        "named": {name: code(value) for name, value in named.items() if value},
        "source": code(dataset.text("source") or "data that was not recorded"),
        "held": f"{held:.0%} of it held out (seed {seed or 0:.0f})" if held else None,
        "counts": {name.replace("_", " "): f"{value:,.0f}" for name, value in counts.items() if value is not None},
        "figures": {code(name[5:]): f"{value:.2f}" for name, value in figures.items() if value is not None},
        **evidence(evaluation),
        "parts": [*made_from(training), *made_from(evaluation)],
        **trained_with(training, training, "train_supernet"),
    }


def profile_facts(config: Fields, evaluation: Fields) -> Facts:
    """Facts for ``profile.md``.

    Raises:
        ArtifactError: If a field is not what it has to be.
    """
    space, held = space_of(config), config.part("validation")
    texts = ("device", "device_type", "runtime", "dtype", "memory_format", "date")
    counts = ("cores", "threads", "batch_size", "resolution", "num_classes")
    named = {name: code(config.text(name) or "not recorded") for name in texts}
    named |= {name: f"{config.number(name) or 0:,.0f}" for name in counts}
    shares = {name: held.number(name) for name in ("median_error", "p90_error")}
    return {
        "space": space.name,
        "form": _form(config.text("form")),
        "named": {name.replace("_", " "): value for name, value in named.items()},
        "versions": ", ".join(config.part("versions").shown()),
        "nets": held.number("nets"),
        "errors": {name: f"{share:.1%}" for name, share in shares.items() if share is not None},
        "spearman": held.number("spearman", least=-1, most=1),
        "fixed": config.number("fixed_ms"),
        "scale": config.number("scale"),
    }


def _form(name: str | None) -> str:
    """The name of a form, and what the lite one leaves out."""
    return code(name or "final") + " (ReLU6, no squeeze-and-excitation)" * (name == "lite")


def _trained_on(record: Fields, weights: str, classes: float) -> str | None:
    """What weights were trained on, and that it was not ImageNet where it was not."""
    if weights == "untrained":
        return None
    dataset = dataset_of(record)
    source = dataset.text("source")
    if source is None:
        return "What they were trained on was not recorded: do not take them for ImageNet weights."
    side, limit = record.number("trained_at"), dataset.number("limit")
    known = "" if weights == "inherited" else f" with {classes:,.0f} classes"
    where = f" at {side:,.0f} px" if side else ""
    drawn = f" ({limit:,.0f} of its images)" if limit else ""
    other = "" if re.search("imagenet-?1k|ilsvrc", source, re.I) else ", not on ImageNet"
    return f"They were trained on {code(source)}{drawn}{where}{known}{other}: images of another kind need fine-tuning."


def _budgets(record: Fields) -> list[tuple[str, str, str]]:
    """Budgets with what was achieved."""
    requested, rows = record.part("requested"), []
    budgets = [BUDGETS[name] for name in BUDGETS]
    known = {word: budget for budget in budgets for word in (budget.name, budget.recorded)}
    for name in requested.values:
        label, field = (known[name].title, known[name].cost) if name in known else (code(name), name)
        limit, achieved = requested.number(name), record.number(field)
        if field == "latency_ms":  # where it was measured, the budget bounds that
            achieved = record.number("measured_ms") or achieved
        rows.append((label, _amount(limit), _amount(achieved)))
    return rows


def _amount(value: float | None) -> str:
    return "not recorded" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:,.4g}"


def _counted(record: Fields) -> str | None:
    """What was counted, with its conditions."""
    has = {budget.cost: record.number(budget.cost) for budget in counted()}
    if has["macs"] is None or has["params"] is None:
        return None
    told = ", ".join(f"{number:,.0f} {COSTS[cost].unit}" for cost, number in has.items() if number)
    side, there = record.number("trained_at"), record.number("macs_trained_at")
    trained = f"; {there:,.0f} MACs at the {side:,.0f} px of the weights" if side and there else ""
    return f"{told} ({conditions(record)}){trained}"


def _latency(record: Fields) -> str | None:
    """Predicted and measured latency with their conditions."""
    predicted, measured = record.number("latency_ms"), record.number("measured_ms")
    if predicted is None:
        return None
    conditions = ", ".join(record.part("latency_conditions").shown()) or "conditions that were not recorded"
    took = "not measured" if measured is None else f"measured {measured:,.4g} ms"
    low, high, spread = (record.number(name) for name in ("low_ms", "high_ms", "spread"))
    if low is not None and high is not None and (spread or 0) > MOST_SPREAD:
        took = f"measured {low:,.4g} to {high:,.4g} ms"
    return f"predicted {predicted:,.4g} ms, {took}, under {conditions}"


def _teacher(part: Fields, lost: float | None) -> str | None:
    """The additive model that taught a generator, how well it predicts, and what imitation lost."""
    paths, error, spread = (part.number(name) for name in ("paths", "error", "spread"))
    if paths is None or error is None or spread is None:
        return None
    learned = "" if lost is None else (
        f" By its teacher's prediction, what the generator is decoded to scores {lost:.2f} points less than the best "
        "within the budget, on average over its range."
    )  # fmt: skip
    return (
        f"Its teacher is a sum over layers, fitted to the held-out accuracy of {paths:,.0f} random paths of the "
        f"supernet: it predicts a path that it was not fitted to with an error of {error:.2f} points, where paths "
        f"differ by {spread:.2f} (standard deviation).{learned}"
    )


def _agreement(part: Fields) -> str:
    """How far a generator's arg-max agrees with published answers."""
    counts = {name: part.number(name) or 0 for name in ("agreeing", "compared", "whole", "architectures")}
    if not counts["architectures"] or not counts["compared"]:
        raise part.wrong("compared or architectures", "count of at least one")
    per = counts["compared"] / counts["architectures"]
    number = f"{counts['architectures']:,.0f}"
    share = counts["agreeing"] / counts["compared"]
    return (
        f"{share:.2%} of the {number} x {per:,.0f} slots agree by arg-max; {counts['whole']:,.0f} of {number} "
        "architectures agree whole."
    )
