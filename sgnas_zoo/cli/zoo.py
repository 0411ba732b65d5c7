"""Commands that show what the package knows: ``sgnas-zoo list`` and ``info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sgnas_zoo.cli.tables import table
from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.errors import printable, unknown_name

if TYPE_CHECKING:
    from sgnas_zoo.zoo import SupernetEntry, Weights, ZooEntry

SHOWN = (
    "kind", "id", "revision", "architecture", "space", "arch", "form", "weights",
    *dict.fromkeys(BUDGETS[name].cost for name in BUDGETS), "precision", "measured_ms", "resolution", "num_classes",
    "cost", "range", "prior", "pool", "device", "runtime", "threads", "dtype", "batch_size", "date",
)  # fmt: skip
"""What ``info`` tells of an artifact, where its config says it."""


@click.command("list")
@click.option("--pretrained", is_flag=True, help="List weights by tag instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(pretrained: bool, as_json: bool) -> None:
    """List named networks and search spaces."""
    from sgnas_zoo.spaces import SPACES
    from sgnas_zoo.zoo import zoo_entries

    if pretrained:
        _list_weights(as_json)
        return
    models = [_entry(name) for name in zoo_entries()]
    spaces = [_space(name) for name in SPACES]
    if as_json:
        click.echo(json.dumps({"models": models, "spaces": spaces}, indent=2))
        return
    click.echo(table("model|space|>M MACs|>M params|>top-1, published|weights", map(_model_row, models)))
    click.echo()
    click.echo(table("space|>layers|>slots|>choices|>M MACs|>px|generator|weights", map(_space_row, spaces)))


def _list_weights(as_json: bool) -> None:
    """Print every tag: those of supernets, the default of each space first, then those of named networks."""
    from sgnas_zoo.zoo import supernet_entries, zoo_entries

    weights = [_weights(entry) for entry in supernet_entries()]
    named = [zoo_entries()[name] for name in zoo_entries()]
    weights += [_named_weights(entry, tag, own) for entry in named for tag, own in entry.weights.items()]
    if as_json:
        click.echo(json.dumps(weights, indent=2))
        return
    click.echo(table("space or model|tag|trained on|>classes|>px|>top-1, %|MB", map(_weights_row, weights)))


def _model_row(model: dict[str, Any]) -> list[Any]:
    top1 = f"{model['published']['top1']:.1f}" if model["published"] else "-"
    macs, params = f"{model['macs'] / 1e6:.1f}", f"{model['params'] / 1e6:.2f}"
    return [model["name"], model["space"], macs, params, top1, ", ".join(model["weights"]) or "none yet"]


def _space_row(space: dict[str, Any]) -> list[Any]:
    span = f"{space['macs'][0] / 1e6:.1f} - {space['macs'][1] / 1e6:.1f}"
    generator, weights = "embedded" if space["generator"] else "none yet", ", ".join(space["weights"]) or "none yet"
    counts = [space[name] for name in ("layers", "slots", "choices")]
    return [space["name"], *counts, span, space["resolution"], generator, weights]


def _weights_row(own: dict[str, Any]) -> list[Any]:
    top1 = " - ".join(f"{share:.1f}" for share in own["top1"] or []) or "-"
    size = own["place"] if own["bytes"] is None else f"{own['bytes'] / 1e6:.1f}"
    told = [own[name] or "-" for name in ("tag", "dataset", "num_classes", "resolution")]
    return [own.get("model", own["space"]), *told, top1, size]


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(name: str, as_json: bool) -> None:
    """Show a named network, a family, a search space, or the artifact in a folder or a Hub repo."""
    from sgnas_zoo.hub.names import read_name
    from sgnas_zoo.spaces import SPACES, families
    from sgnas_zoo.zoo import zoo_entries

    base, _, tag = name.partition(".")
    if read_name(name, lambda word: word in (*SPACES, *families()) or word.partition(".")[0] in zoo_entries()):
        details = _artifact(name)
    elif base in zoo_entries() and tag in ("", *_tags(base)):
        details = _entry(base)
    elif name in families() and name not in SPACES:
        details = _family(name)
    elif name in SPACES:
        details = _space(name)
    elif base in zoo_entries():
        raise unknown_name(f"tag of {base}", tag, _tags(base))
    else:
        raise unknown_name("model or space", name, [*families(), *zoo_entries(), *SPACES])
    if as_json:
        click.echo(json.dumps(details, indent=2))
        return
    for key, value in details.items():
        if value is None:
            continue
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        text = ", ".join(map(str, text)) or "none yet" if isinstance(text, list) else text
        text = f"{text:,}" if isinstance(text, int) and not isinstance(text, bool) else text
        click.echo(printable(f"{key:14}{text}"))


def _entry(name: str) -> dict[str, Any]:
    from sgnas_zoo.zoo import zoo_entries

    entry = zoo_entries()[name]
    return {
        "name": name, "space": entry.space, "paper": entry.paper, "macs": entry.costs["macs"],
        "params": entry.costs["params"], "published": dict(entry.published) if entry.published else None,
        "weights": [*entry.weights], "arch": entry.arch,
    }  # fmt: skip


def _tags(name: str) -> list[str]:
    """Tags that timm knows a named network by."""
    import timm

    return [known.partition(".")[2] for known in timm.models.get_arch_pretrained_cfgs(name)]


def _weights(entry: SupernetEntry) -> dict[str, Any]:
    """What a tag stands for; top-1 is the least and the most of its networks over the budgets that were measured."""
    from sgnas_zoo.files import read_config
    from sgnas_zoo.hub.artifacts import CONFIG, WEIGHTS
    from sgnas_zoo.hub.cards import EVALUATION
    from sgnas_zoo.zoo import published

    place = published(entry.supernet) if entry.supernet else "not published yet"
    told = {
        "space": entry.space, "tag": entry.tag, "default": entry.default, "dataset": entry.dataset,
        "place": "in the package" if isinstance(place, Path) else place,
    }  # fmt: skip
    if not isinstance(place, Path):
        return {**told, "num_classes": None, "resolution": None, "top1": None, "bytes": None}
    config, rows = read_config(place / CONFIG), read_config(place / EVALUATION).get("budgets", [])
    found = sorted(row["top1"] for row in rows)
    return {
        **told, "num_classes": len(config["classes"]), "resolution": config["resolution"],
        "top1": [found[0], found[-1]] if found else None, "bytes": (place / WEIGHTS).stat().st_size,
    }  # fmt: skip


def _named_weights(entry: ZooEntry, tag: str, weights: Weights) -> dict[str, Any]:
    """What a tag of a named network stands for; top-1 is what its training measured at the end."""
    from sgnas_zoo.files import read_config
    from sgnas_zoo.hub.artifacts import CONFIG, WEIGHTS

    record = read_config(weights.place / CONFIG)["zoo"]
    return {
        "model": entry.name, "space": entry.space, "tag": tag, "default": tag == next(iter(entry.weights)),
        "dataset": weights.dataset, "place": "in the package", "num_classes": record["num_classes"],
        "resolution": record["resolution"], "top1": [record["metrics"]["top1"]],
        "bytes": (weights.place / WEIGHTS).stat().st_size,
    }  # fmt: skip


def _family(name: str) -> dict[str, Any]:
    """A family: its spaces, and how one asks it for a network."""
    from sgnas_zoo.spaces import SPACES
    from sgnas_zoo.zoo import default_arch, embedded_generator, zoo_entries

    spaces = [space for space in SPACES if SPACES[space].family == name]
    ready = [space for space in spaces if embedded_generator(space)]
    asked = f"{SPACES[spaces[0]].budget}=..." if ready else "arch=..., or generator=FOLDER and a budget"
    return {
        "name": name, "spaces": spaces, "published": [n for n in zoo_entries() if zoo_entries()[n].space in spaces],
        "generators": ready or "none yet", "use": f"timm.create_model({name!r}, {asked})",
        "default": f"{default_arch(name)} of {default_arch(name).space.name}",
    }  # fmt: skip


def _artifact(name: str) -> dict[str, Any]:
    """What an artifact says of itself, once it proves to be whole."""
    from sgnas_zoo.files import record_key
    from sgnas_zoo.hub.artifacts import Artifact
    from sgnas_zoo.hub.kinds import find_kind
    from sgnas_zoo.terminal import told

    artifact = Artifact(name)
    kind, config = find_kind(artifact)
    with told():
        kind.load(name)
    record = config.get(record_key(config)) or {}
    stated = {**config, **record, "kind": kind.name, "id": artifact.id, "revision": artifact.commit}
    return {key: stated[key] for key in SHOWN if stated.get(key) is not None}


def _space(name: str) -> dict[str, Any]:
    from sgnas_zoo.costs import counted_tables, native_conditions
    from sgnas_zoo.spaces import SPACES
    from sgnas_zoo.zoo import embedded_generator, supernet_entries

    space = SPACES[name]
    layers, slots, choices = space.shape
    tables = counted_tables(space, native_conditions(space)).values()
    return {
        "name": name, "layers": layers, "slots": slots, "choices": choices, "forms": [*space.forms],
        "resolution": space.resolution, "num_classes": space.num_classes,
        **{t.name: [t.minimum, t.maximum] for t in tables if t.maximum},
        "generator": embedded_generator(name) is not None,
        "weights": [entry.tag for entry in supernet_entries() if entry.space == name and entry.supernet],
    }  # fmt: skip
