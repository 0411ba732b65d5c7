"""Names for images: ``sgnas-zoo classify``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from sgnas_zoo.cli.networks import load_runnable, say_untrained
from sgnas_zoo.errors import DataError, printable
from sgnas_zoo.terminal import told

BUDGET = 350e6


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--model", help="Folder, Hub repo or name; by default the network for 350M MACs with default weights.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Number of classes to print.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def classify(images: Sequence[str], model: str | None, top: int, as_json: bool) -> None:
    """Tell the most probable classes of images: files, folders or patterns such as 'photos/*.jpg'."""
    from sgnas_zoo.api.create import create_model
    from sgnas_zoo.training import classification

    files = classification.find_images(images)
    if model is None:
        with told():
            network = create_model(flops=BUDGET, pretrained=True)
    else:
        network = load_runnable(model)
        say_untrained({model: network})
    rows = []
    for found in classification.classify(network, files, top):
        if found.problem:
            click.echo(printable(f"Left out {found.image}: {found.problem}"), err=True)
            continue
        rows.append({"image": found.image, "top": [asdict(guess) for guess in found.guesses]})
        if not as_json:
            click.echo(printable(found.image))
            for guess in found.guesses:
                click.echo(printable(f"{guess.probability:8.1%}  {guess.name}"))
    if not rows:
        raise DataError("None of the images can be read; give images that Pillow opens.")
    if as_json:
        click.echo(json.dumps(rows, indent=2))
