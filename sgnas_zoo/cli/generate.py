"""Networks for budgets: ``sgnas-zoo generate``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from sgnas_zoo.cli.hub import publish
from sgnas_zoo.cli.options import BudgetCommand, amounts_of, form_option, precision_option, push_options
from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.terminal import UserPath, told

DEFAULT_TAG = "default"
"""What ``--pretrained`` alone stands for."""


@click.command(cls=BudgetCommand, several=True)
@click.option("--profile", help="Device profile (file, folder or Hub repo) for --latency; by default this device's.")
@click.option("--no-measure", is_flag=True, help="Skip measuring on this machine (the profile is for another device).")
@click.option("--space", help="Search space; by default the one that spends most of the budget.")
@form_option
@click.option("--generator", help="Folder or Hub repo of a generator; by default the embedded one.")
@click.option("--resolution", type=click.IntRange(min=1), help="Input side in pixels; by default the space's.")
@click.option("--num-classes", type=click.IntRange(min=0), help="Classes; by default the space's.")
@precision_option
@click.option("--output", type=UserPath(), help="Write the model as a folder that timm loads.")
@click.option(
    "--pretrained",
    is_flag=False,
    flag_value=DEFAULT_TAG,
    metavar="[TAG|FOLDER|REPO]",
    help="Inherit weights from a supernet. Without a value: the space's default tag.",
)
@click.option("--push-to-hub", metavar="USER/NAME", help="Publish the model on the Hub; the next options say how.")
@push_options
@click.option("--force", is_flag=True, help="Replace the output folder; use a profile whose error is above 10 %.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the initial weights.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def generate(profile: str | None, no_measure: bool, output: Path | None, pretrained: str | None,
             push_to_hub: str | None, private: bool | None, revision: str | None, create_pr: bool, tag: str | None,
             force: bool, seed: int, as_json: bool, **options: Any) -> None:  # fmt: skip
    """Generate architectures for budgets, which combine; with --output or --push-to-hub, make the model."""
    hub = {"private": private, "revision": revision, "create_pr": create_pr, "tag": tag}
    amounts: dict[str, Any] = {name: options.pop(name) for name in BUDGETS}
    _check(amounts, bool(output or push_to_hub), pretrained)
    if (profile or no_measure) and not amounts["latency"]:
        raise click.UsageError("--profile and --no-measure are about a latency; add --latency 20ms.")
    if any(hub.values()) and not push_to_hub:
        raise click.UsageError("--private, --revision, --create-pr and --tag go with --push-to-hub USER/NAME.")
    from sgnas_zoo.api import create
    from sgnas_zoo.folders import check_free
    from sgnas_zoo.hub.remote import repo_id

    if push_to_hub:
        repo_id(push_to_hub)  # before anything is made
    if output is not None:
        check_free(output, force)
    if amounts["latency"]:
        options |= {"profile": profile, "measure": not no_measure, "force": force}
    if output is None and push_to_hub is None:
        asked = {name: own for name, own in amounts.items() if own}
        with told():
            stated = {name: value for name, value in options.items() if value is not None}
            records = [result.record() for result in create.generate(**asked, **stated)]
    else:
        budgets = {name: next(iter(own), None) for name, own in amounts.items()}
        with TemporaryDirectory() as temporary:
            folder = output or Path(temporary) / str(push_to_hub).partition("/")[2]
            records = [_write(folder, force, pretrained, seed, **budgets, **options)]
            if output:
                _say_how_to_load(output)
            if push_to_hub:
                publish(folder, push_to_hub, **hub)
    if as_json:
        click.echo(json.dumps(records, indent=2))
    else:
        for record in records:
            click.echo(_line(record))


def _check(amounts: Mapping[str, Sequence[Any]], is_made: bool, pretrained: str | None) -> None:
    """Refuse a request without a budget, and what goes with a model, which ``is_made``, where none is.

    Raises:
        click.UsageError: Saying what to add or to leave out.
    """
    if not any(amounts.values()):
        raise click.UsageError("State a budget: --flops 350M, --params 5M, --latency 20ms, or several.")
    if is_made and max(map(len, amounts.values())) > 1:
        raise click.UsageError("--output and --push-to-hub take one budget; call once per budget, or leave them out.")
    if pretrained and not is_made:
        raise click.UsageError("--pretrained is about the model; add --output FOLDER or --push-to-hub USER/NAME.")


def _write(folder: Path, replace: bool, pretrained: str | None, seed: int, **options: Any) -> dict[str, Any]:
    """Make a model and write it; return its record."""
    import torch

    from sgnas_zoo.api.create import create_model
    from sgnas_zoo.hub.models import save_model

    torch.manual_seed(seed)
    weights: Any = True if pretrained == DEFAULT_TAG else pretrained or False
    with told():
        model = create_model(pretrained=weights, **{name: v for name, v in options.items() if v is not None})
    save_model(model, folder, weights=None if pretrained else "untrained", force=replace)
    click.echo("The weights are inherited." if pretrained else f"The weights are untrained (seed {seed}).", err=True)
    record: dict[str, Any] = model.zoo  # type: ignore[assignment]
    return record


def _say_how_to_load(output: Path) -> None:
    click.echo(
        f"Wrote {output}. Load it after `import sgnas_zoo` with "
        f"timm.create_model('local-dir:{output}', pretrained=True).", err=True,
    )  # fmt: skip


def _line(record: dict[str, Any]) -> str:
    from sgnas_zoo.measure.timing import Timing

    asked = {BUDGETS[name]: record["requested"].get(BUDGETS[name].recorded) for name in BUDGETS}
    limits = ", ".join(f"{budget.name} <= {budget.shown(limit)}" for budget, limit in asked.items() if limit)
    has = amounts_of(record)
    if "measured_ms" in record:
        has += f", measured {Timing(record['measured_ms'], record['low_ms'], record['high_ms'], n=0)}"
    elif "latency_ms" in record:
        has += ", not measured"
    form = "" if record["form"] == "final" else f", {record['form']} form"
    return f"{limits}: {has}, {record['space']} {record['arch']}{form}"
