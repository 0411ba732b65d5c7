"""Measure a model on a dataset: the one protocol behind every published figure.

    accelerate launch recipes/evaluate.py --model local-dir:runs/model --dataset DATA

What: top-1, top-5 and cross entropy over a split, every image once and in full precision, preprocessed as the model's
    `pretrained_cfg` says; MACs and parameters counted on the model itself. Without --model: inherited weights, for a
    budget or an architecture. Any number of processes gives the same figures.
DATA: a Hub id, a folder of parquet files, or a folder of one folder per class.
Output: one JSON object on stdout, messages on stderr.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports, which take seconds
    from sgnas_zoo.stopping import end_on_signals

    end_on_signals()

import json
from pathlib import Path
from typing import Any

import click
import timm
import torch

import sgnas_zoo
from sgnas_zoo.cli_options import Count, UserPath, column_options
from sgnas_zoo.errors import printable
from sgnas_zoo.files import check_file, write_whole
from sgnas_zoo.models.origin import caveat
from sgnas_zoo.training.evaluation import evaluate
from sgnas_zoo.training.networks import arch_of, counted, make_network, set_input, weights_sha256
from sgnas_zoo.training.options import RecipeCommand, resolved
from sgnas_zoo.training.outputs import reads_as
from sgnas_zoo.training.runs import EVAL_BATCH, make_accelerator, measuring_loader
from sgnas_zoo.training.sources import Source, load_images


@click.command("evaluate", cls=RecipeCommand, configs=Path(__file__).parent / "configs")
@click.option("--model", help="Whatever has weights: a folder, USER/NAME on the Hub, or a name of timm.")
@click.option("--flops", type=Count(), help="Inherited weights for a budget: most FLOPs (MACs), such as 4M.")
@click.option("--params", type=Count(), help="The same: most parameters; budgets combine.")
@click.option("--arch", help="Inherited weights for an architecture string.")
@click.option("--space", help="Search space of the budget or architecture.")
@click.option("--pretrained", help="Tag, folder or Hub repo to inherit from; by default the space's default tag.")
@click.option("--generator", help="Folder or Hub repo; by default the embedded one.")
@click.option("--dataset", required=True, help="Hub id or folder.")
@column_options
@click.option("--split", default="test", show_default=True, help="test and validation stand in for each other.")
@click.option("--part", type=click.Choice(["kept", "held"]), default="kept", show_default=True, help="Of a holdout.")
@click.option(
    "--holdout", type=click.FloatRange(0, 1, max_open=True), default=0, show_default=True, help="Share cut off."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the holdout and the limit.")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many images; for quick runs.")
@click.option("--streaming/--no-streaming", default=False, help="Read rows as they come.")
@click.option("--on-corrupt", type=click.Choice(["skip", "fail"]), default="skip", show_default=True)
@click.option("--resolution", type=click.IntRange(min=8), help="Input side in pixels; by default the model's.")
@click.option("--batch-size", type=click.IntRange(min=1), default=EVAL_BATCH, show_default=True, help="Of one process.")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Decoding processes.")
@click.option("--output", type=UserPath(), help="JSON file to write as well.")
@click.pass_context
def main(ctx: click.Context, model: str | None, flops: float | None, params: float | None, arch: str | None,
         space: str | None, pretrained: str | None, generator: str | None, dataset: str, split: str, part: Any,
         holdout: float, seed: int, limit: int | None, streaming: bool, on_corrupt: Any, resolution: int | None,
         batch_size: int, workers: int, output: Path | None, **columns: Any) -> None:  # fmt: skip
    """Measure a model on a dataset."""
    if output:  # an earlier result may be replaced
        check_file(output, force=True, ours=lambda file: reads_as(file, "model", "top1", "settings"))
    network = make_network(
        model, flops, params, space, arch, pretrained=pretrained or True, resolution=resolution,
        generator=generator,
    )  # fmt: skip
    set_input(network, resolution)
    data: dict[str, Any] = {"holdout": holdout, "part": part, "seed": seed, "limit": limit, "streaming": streaming}
    images = load_images(Source(dataset, **columns), split, **data)
    accelerator = make_accelerator()
    loader = measuring_loader(
        images, network, accelerator, batch_size=batch_size, on_corrupt=on_corrupt, workers=workers
    )
    figures = evaluate(network.to(accelerator.device).eval(), loader, accelerator)
    accelerator.end_training()
    if not accelerator.is_main_process:
        return

    cfg = network.pretrained_cfg
    if said := caveat(model or "The network", network):
        click.echo(printable(said), err=True)
    if (names := cfg.get("label_names")) and list(names) != list(images.classes):
        click.echo("The model's classes have other names than the dataset's; see that they are the same.", err=True)
    record: dict[str, Any] = getattr(network, "zoo", {})
    result = {
        "model": model or cfg["architecture"],
        **arch_of(network),
        **counted(network),
        **figures,
        "dataset": dict(images.record),
        "preprocessing": {key: cfg[key] for key in ("mean", "std", "interpolation", "crop_pct", "crop_mode")},
        "weights": record.get("weights"),
        "weights_sha256": weights_sha256(network),
        "settings": resolved(ctx),
        "processes": accelerator.num_processes,
        "versions": {"torch": torch.__version__, "timm": timm.__version__, "sgnas_zoo": sgnas_zoo.__version__},
    }
    if output:
        write_whole(output, result)
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
