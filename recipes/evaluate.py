"""Measure a model on a dataset: the one protocol behind every published figure.

    accelerate launch recipes/evaluate.py --model local-dir:runs/model --dataset DATA

What: top-1, top-5 and cross entropy over a split, every image once and in full precision, preprocessed as the model's
    `pretrained_cfg` says; MACs and parameters counted on the model itself. Without --model: inherited weights, for a
    budget or an architecture. Any number of processes gives the same figures.
DATA: a Hub id, a folder of parquet files, or a folder of one folder per class.
Output: one JSON object on stdout, messages on stderr.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from sgnas_zoo.stopping import end_on_signals

    end_on_signals()

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import timm
import torch

import sgnas_zoo
from sgnas_zoo.errors import printable
from sgnas_zoo.files import check_file, write_whole
from sgnas_zoo.models.origin import caveat
from sgnas_zoo.training.config import FROM_ONE, NUMBER, PART, Data, Reading, Weighted
from sgnas_zoo.training.data.sources import load_images
from sgnas_zoo.training.fields import flat, group, option
from sgnas_zoo.training.measuring import measure, other_names
from sgnas_zoo.training.networks import arch_of, counted, make_network, set_input, weights_sha256
from sgnas_zoo.training.options import recipe
from sgnas_zoo.training.outputs import reads_as
from sgnas_zoo.training.runs import EVAL_BATCH, make_accelerator


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is measured, and on what."""

    network: Weighted = group(Weighted)
    data: Data = group(Data)
    reading: Reading = group(Reading)
    split: str = option("Split to measure; test and validation stand in for each other.", "test")
    part: Literal["kept", "held"] = option("Part of a holdout: kept or held out.", "kept")
    holdout: float = option("Share of the split that is held out.", 0, PART)
    seed: int = option("Seed of the holdout and the limit.", 0, NUMBER)
    batch_size: int = option("Batch size of each process.", EVAL_BATCH, FROM_ONE)
    output: Path | None = option("Write the result to this JSON file, too.", None)


@recipe(Config)
def main(config: Config) -> None:
    """Measure a model on a dataset."""
    asked, output = config.network, config.output
    if output:  # an earlier result may be replaced
        check_file(output, force=True, ours=lambda file: reads_as(file, "model", "top1", "settings"))
    network: Any = make_network(
        asked.model, asked.budgets, asked.space, asked.arch, pretrained=asked.pretrained or True,
        resolution=asked.resolution, generator=asked.generator, form=asked.form,
    )  # fmt: skip
    set_input(network, asked.resolution)
    images = load_images(
        config.data.source, config.split, holdout=config.holdout, part=config.part, seed=config.seed,
        limit=config.data.limit, streaming=config.reading.streaming,
    )  # fmt: skip
    accelerator = make_accelerator()
    figures = measure(
        network, images, accelerator, batch_size=config.batch_size, on_corrupt=config.reading.on_corrupt,
        workers=config.data.workers,
    )  # fmt: skip
    accelerator.end_training()
    if not accelerator.is_main_process:
        return

    if said := caveat(asked.model or "The network", network):
        click.echo(printable(said), err=True)
    if said := other_names(network, images):
        click.echo(said, err=True)
    record: dict[str, Any] = getattr(network, "zoo", {})
    result = {
        "model": asked.model or network.pretrained_cfg["architecture"],
        **arch_of(network),
        **counted(network),
        **figures,
        "weights": record.get("weights"),
        "weights_sha256": weights_sha256(network),
        "settings": flat(config),
        "processes": accelerator.num_processes,
        "versions": {"torch": torch.__version__, "timm": timm.__version__, "sgnas_zoo": sgnas_zoo.__version__},
    }
    if output:
        write_whole(output, result)
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
