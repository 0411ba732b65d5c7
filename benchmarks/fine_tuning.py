"""What inherited weights are good for: a network fine-tuned from them against the same network from scratch.

    python benchmarks/fine_tuning.py --dataset DATA --pretrained cifar10_r64 --output runs/fine_tuning

Both starts have the same architecture, images, batches and schedule. The learning rate of each start is the one with
the best held-out top-1 after two epochs of seed 0; the figures are of the test split, over seeds. A run that is done is
not run again.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import sgnas_zoo

RECIPES = Path(__file__).parents[1] / "recipes"
SETTINGS = Path(__file__).with_suffix(".yaml")
SEARCH_EPOCHS = 2


@dataclass(frozen=True, kw_only=True)
class Study:
    """One network and one dataset."""

    space: str
    arch: str
    side: int
    pretrained: str
    dataset: str
    images: int
    output: Path

    def run(self, start: str, **options: Any) -> float:
        """Top-1 in percent of one training; options are those of the recipe."""
        name = "_".join([start, *(f"{key}{value}" for key, value in options.items())])
        folder = self.output / name
        if not (folder / "metrics.json").is_file():
            recipe = ["finetune.py", "--pretrained", self.pretrained] if start == "inherited" else ["retrain.py"]
            given = {
                "space": self.space, "arch": self.arch, "resolution": self.side, "dataset": self.dataset,
                "limit": self.images, "output": folder, "resume": "auto", "config": SETTINGS, **options,
            }  # fmt: skip
            flags = [text for key, value in given.items() for text in (f"--{key.replace('_', '-')}", str(value))]
            click.echo(f"{name} ...", err=True)
            subprocess.run([sys.executable, RECIPES / recipe[0], *recipe[1:], *flags], check=True)
        return float(json.loads((folder / "metrics.json").read_text())["top1"])

    def best_rate(self, start: str, rates: list[float]) -> dict[str, Any]:
        """The learning rate that is best on held-out images."""
        found = {rate: self.run(start, lr=rate, epochs=SEARCH_EPOCHS, seed=0, holdout=0.1) for rate in rates}
        return {"lr": max(found, key=lambda rate: found[rate]), "held_out_top1": found}


def rows(
    study: Study, starts: list[str], rates: list[float], epochs: list[int], seeds: int
) -> Iterator[dict[str, Any]]:
    """A row for each start and number of epochs."""
    for start in starts:
        chosen = study.best_rate(start, rates)
        for count in epochs:
            found = [study.run(start, lr=chosen["lr"], epochs=count, seed=seed) for seed in range(seeds)]
            error = statistics.stdev(found) / math.sqrt(seeds) if seeds > 1 else None
            yield {
                "start": start, "epochs": count, **chosen, "top1": found, "mean": statistics.mean(found),
                "standard_error": error,
            }  # fmt: skip


def numbers(text: str) -> list[float]:
    """Numbers that are joined with commas."""
    return [float(part) for part in text.split(",")]


@click.command()
@click.option("--dataset", required=True, help="Hub id or folder, with the splits train and test or validation.")
@click.option("--space", default="sgnas_imagenet", show_default=True)
@click.option("--flops", default=350e6, show_default=True)
@click.option("--pretrained", required=True, help="Tag, folder or repo of the supernet to inherit from.")
@click.option("--starts", default="inherited,scratch", show_default=True)
@click.option("--images", default=5000, show_default=True, help="Most images of each split.")
@click.option("--epochs", default="1,2,5", show_default=True)
@click.option("--rates", default="0.01,0.03,0.1", show_default=True, help="Learning rates to choose from.")
@click.option("--seeds", default=2, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(
    space: str, flops: float, pretrained: str, starts: str, epochs: str, rates: str, seeds: int, output: Path,
    **told: Any,
) -> None:  # fmt: skip
    """Print a JSON line for each start and number of epochs."""
    model: Any = sgnas_zoo.create_model(flops=flops, space=space, pretrained=pretrained)
    study = Study(
        space=space, arch=model.zoo["arch"], side=model.pretrained_cfg["input_size"][-1], pretrained=pretrained,
        output=output, **told,
    )  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    counts = [int(count) for count in numbers(epochs)]
    for row in rows(study, starts.split(","), numbers(rates), counts, seeds):
        print(json.dumps({"arch": study.arch, "side": study.side, "images": study.images, **row}), flush=True)


if __name__ == "__main__":
    main()
