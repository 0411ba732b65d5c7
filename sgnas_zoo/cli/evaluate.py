"""Accuracy: ``sgnas-zoo evaluate``."""

from __future__ import annotations

import json
from typing import Any

import click

from sgnas_zoo.cli.networks import load_runnable, say_untrained
from sgnas_zoo.cli.options import column_options
from sgnas_zoo.cli.tables import table
from sgnas_zoo.errors import ModelError, printable


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--dataset", required=True, help="Hub id, or a folder of parquet files or of one folder per class.")
@click.option("--split", default="test", show_default=True, help="Split; test and validation stand in for each other.")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many images, for quick runs.")
@click.option("--batch-size", type=click.IntRange(min=1), default=250, show_default=True, help="Batch size.")
@click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Decoding processes.")
@column_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(models: tuple[str, ...], dataset: str, split: str, limit: int | None, batch_size: int, workers: int,
             image_column: str | None, label_column: str | None, as_json: bool) -> None:  # fmt: skip
    """Measure top-1 and top-5 of models on a dataset: names, folders, Hub repos, and exported files."""
    try:
        from sgnas_zoo.training.data.columns import Source
        from sgnas_zoo.training.data.sources import load_images
        from sgnas_zoo.training.measuring import measure, other_names
        from sgnas_zoo.training.runs import make_accelerator
    except ModuleNotFoundError as error:
        raise ModelError(f"evaluate reads datasets with {error.name}: pip install 'sgnas-zoo[recipes]'") from error

    networks = {name: load_runnable(name) for name in models}
    images = load_images(Source(dataset, image_column, label_column), split, limit=limit)
    accelerator = make_accelerator()
    rows = []
    for name, network in networks.items():
        figures = measure(network, images, accelerator, batch_size=batch_size, workers=workers)
        rows.append({"model": name, **figures})
        if said := other_names(network, images):
            click.echo(printable(f"{name}: {said}"), err=True)
    say_untrained(networks)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    click.echo(table("model|>top-1, %|>top-5, %|>loss|>images|>images/s", map(_row, rows)))


def _row(own: dict[str, Any]) -> list[Any]:
    shares = (f"{own[name]:.2f}" for name in ("top1", "top5"))
    return [own["model"], *shares, f"{own['loss']:.3f}", own["images"], f"{own['images_per_second']:.0f}"]
