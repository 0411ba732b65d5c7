"""Files for other runtimes: ``sgnas-zoo export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sgnas_zoo.cli.networks import load_named, say_untrained
from sgnas_zoo.cli.options import column_options
from sgnas_zoo.errors import ModelError, printable
from sgnas_zoo.terminal import UserPath

if TYPE_CHECKING:
    from torch import nn

    from sgnas_zoo.export import Exported
    from sgnas_zoo.training.exporting import Images

MUCH = 2.0
"""Percentage points of top-1: whoever loses more is told what to do."""


@click.command()
@click.argument("model")
@click.option("--format", "format_", default="onnx", show_default=True, help="onnx, pt2, executorch or litert.")
@click.option("--output", type=UserPath(), help="File to write; by default the model's name.")
@click.option("--resolution", type=click.IntRange(min=1), help="Input side in pixels; by default the model's own.")
@click.option("--int8", is_flag=True, help="Quantise weights and activations to int8.")
@click.option(
    "--calibration",
    help="Images for --int8: a dataset, or a folder of images. By default those that travel with the supernet.",
)
@column_options
@click.option("--keep-float", type=click.IntRange(min=0), default=0, show_default=True,
              help="Number of layers that stay in float32: the most sensitive ones.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the output file.")
def export(model: str, format_: str, output: Path | None, resolution: int | None, int8: bool, calibration: str | None,
           image_column: str | None, label_column: str | None, keep_float: int, force: bool) -> None:  # fmt: skip
    """Export a model's deploy form, run the file, and compare it with torch before it counts as done."""
    from sgnas_zoo.api.create import is_model
    from sgnas_zoo.export import FORMATS
    from sgnas_zoo.export import export as run
    from sgnas_zoo.hub.names import read_name
    from sgnas_zoo.measure.side_by_side import input_size

    if not int8 and (calibration or keep_float):
        raise click.UsageError("--calibration and --keep-float go with --int8; add it, or leave them out.")
    chosen = FORMATS[format_]
    chosen.check_installed(int8)
    place = read_name(model, is_model)
    target = output or Path((place.name if place else model) + (".int8" if int8 else "") + chosen.suffix)
    network = load_named(model)
    images = _images(network, resolution, calibration, image_column, label_column) if int8 else None
    side = None if resolution is None else (input_size(network)[0], resolution, resolution)
    done = run(
        network, target, format_, input_size=side, calibration=images.calibration if images else None,
        keep_float=keep_float, force=force,
    )  # fmt: skip
    details = ", ".join(f"{name} {value}" for name, value in done.details.items())
    click.echo(
        f"Wrote {target} ({details}); it differs from torch by {done.error:.1e} of the largest output.", err=True
    )
    if images:
        _say_loss(done, network, images)
    say_untrained({model: network})
    click.echo(str(target))


def _images(
    network: nn.Module, resolution: int | None, calibration: str | None, image: str | None, label: str | None
) -> Images:
    """Images that calibrate; the network sees the side that was asked for."""
    try:
        from sgnas_zoo.training.data.columns import Source
        from sgnas_zoo.training.exporting import images_for
        from sgnas_zoo.training.networks import set_input
    except ModuleNotFoundError as error:
        raise ModelError(f"--int8 reads images with {error.name}: pip install 'sgnas-zoo[recipes]'") from error
    if resolution:
        set_input(network, resolution)
    return images_for(network, Source(calibration, image, label) if calibration else None)


def _say_loss(done: Exported, network: nn.Module, images: Images) -> None:
    """Say what int8 costs: how often file and network agree, and top-1 of both where there are labels."""
    from sgnas_zoo.api.exported import ExportedModel
    from sgnas_zoo.training.exporting import compare

    click.echo(printable(f"Calibrated with {images.said}."), err=True)
    if done.kept:
        click.echo(f"In float32: {', '.join(done.kept)}.", err=True)
    if done.agreement is not None:
        click.echo(f"int8 and float32 name the same class for {done.agreement:.1%} of them.", err=True)
    if images.labelled is None:
        return
    found = compare(network, ExportedModel(done.path), images.labelled)
    click.echo(
        f"Top-1 on {found.images} images of the split {found.split}: {found.float32:.1f} % in float32, "
        f"{found.int8:.1f} % in int8 ({found.lost:+.1f} +- {found.error:.1f} points lost).",
        err=True,
    )
    if found.lost > MUCH:
        click.echo("int8 costs much here; add --keep-float 5, or calibrate with images of the same kind.", err=True)
