"""Measure a supernet and its generator: the evidence on their cards.

    accelerate launch recipes/measure_supernet.py --supernet runs/supernet --generator runs/generator --dataset DATA \\
        --output runs/evidence

What: over the generator's range, (a) requested against achieved cost, (b) top-1 of generated networks with inherited
    weights against random ones of the same budget, their lead with its standard error over budgets, and the front they
    make; (c) with --trained FOLDER (repeat it), the rank correlation of inherited top-1 with that of networks that
    retrain.py trained from scratch. Accuracy is measured as evaluate.py does.
DATA: the dataset of the supernet; figures are of its test split.
Output: evaluation.json, budgets.png and front.png; with the supernet's folder as output, `sgnas-zoo card` shows them.
Hardware: one CPU core, 8 minutes for 12 budgets of sgnas_micro on CIFAR-10. Expected: hub_cards/sgnas_micro_supernet.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from sgnas_zoo.stopping import end_on_signals

    end_on_signals()

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.stats import kendalltau
from tqdm import tqdm

from sgnas_zoo.costs import BUDGETS, COSTS, native_conditions
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import write_whole
from sgnas_zoo.hub.generators import load_generator
from sgnas_zoo.hub.names import read_folder
from sgnas_zoo.hub.supernets import load_supernet
from sgnas_zoo.search.propose import propose
from sgnas_zoo.spaces import Arch
from sgnas_zoo.training.config import NUMBER, Data
from sgnas_zoo.training.data.sources import Source, load_images
from sgnas_zoo.training.evaluation import evaluate
from sgnas_zoo.training.evidence import plot_evidence, random_archs, read_retrained
from sgnas_zoo.training.fields import flat, group, option
from sgnas_zoo.training.networks import set_input
from sgnas_zoo.training.options import recipe
from sgnas_zoo.training.outputs import claim, reads_as
from sgnas_zoo.training.runs import make_accelerator, measuring_loader


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is measured, and how much of it."""

    supernet: str = option("Folder or Hub repo.")
    generator: str = option("Folder or Hub repo.")
    data: Data = group(Data)
    output: Path = option("Folder of figures and plots.")
    trained: tuple[str, ...] = option("Output folder of retrain.py; repeat for several.", ())
    split: str = option("Split to measure on.", "test")
    budgets: int = option("Number of budgets, spread over the range.", 12, click.IntRange(min=2))
    randoms: int = option("Random networks per budget.", 4, NUMBER)
    seed: int = option("Seed of the random networks and the limit.", 0, NUMBER)


@recipe(Config)
def main(config: Config) -> None:
    """Measure a supernet and its generator."""
    output, randoms = config.output, config.randoms
    started = time.monotonic()
    names = ("evaluation.json", "budgets.png", "front.png")
    claim(output, names, lambda folder: names if reads_as(folder / names[0], "budgets", "over_budget") else ())
    weights, makes = load_supernet(config.supernet), load_generator(config.generator)
    space = weights.supernet.space
    if makes.space != space:
        raise ArtifactError(f"The generator is of {makes.space.name}, the supernet of {space.name}; name a pair.")
    accelerator = make_accelerator()
    source = Source.of(config.data.source, weights.dataset)
    images = load_images(source, config.split, limit=config.data.limit, seed=config.seed)
    table = COSTS[makes.cost].table(
        space, native_conditions(space, form="search", num_classes=weights.supernet.num_classes)
    )
    limits = np.linspace(*makes.cost_range, config.budgets).tolist()
    generated = [answer.arch for answer in propose(makes, {table: limits})]
    filled = [read_folder(folder) for folder in config.trained]
    retrained = [read_retrained(folder, space.name) for folder in filled]
    drawn = [arch for most in limits for arch in random_archs(table, most, randoms, config.seed)]
    weights.supernet.to(accelerator.device)

    found: dict[Arch, dict[str, float]] = {}
    every = [*generated, *drawn, *(space.parse(record["arch"]) for record in retrained)]
    for arch in tqdm(dict.fromkeys(every), disable=not accelerator.is_main_process, mininterval=5):
        network = weights.inherit(arch).to(accelerator.device)
        set_input(network)
        loader = measuring_loader(images, network, accelerator, workers=config.data.workers)
        found[arch] = evaluate(network.eval(), loader, accelerator)
    accelerator.end_training()
    if not accelerator.is_main_process:
        return

    measured = {arch: figures["top1"] for arch, figures in found.items()}
    rows = [
        {
            "requested": round(most), "achieved": round(table.measure(arch)), "arch": str(arch), "top1": measured[arch],
            "top5": found[arch]["top5"],
            "random_top1": [measured[other] for other in drawn[i * randoms : (i + 1) * randoms]],
        }
        for i, (most, arch) in enumerate(zip(limits, generated, strict=True))
    ]  # fmt: skip
    lead = [row["top1"] - float(np.mean(row["random_top1"])) for row in rows] if randoms else []
    pairs = [(measured[space.parse(record["arch"])], record["top1"]) for record in retrained]
    evidence: dict[str, Any] = {
        "budgets": rows,
        "images": found[generated[0]]["images"],
        "over_budget": sum(row["achieved"] > row["requested"] for row in rows),
        "lead_over_random": float(np.mean(lead)) if lead else None,
        "lead_standard_error": float(np.std(lead, ddof=1) / len(lead) ** 0.5) if lead else None,
        "retrained": [{**record, "inherited_top1": pair[0]} for record, pair in zip(retrained, pairs, strict=True)],
        "kendall_tau": float(kendalltau(*zip(*pairs, strict=True)).statistic) if len(pairs) > 1 else None,
        "dataset": dict(images.record),
        "settings": {**flat(config), "output": None, "trained": [folder.resolve().name for folder in filled]},
        "hours": round((time.monotonic() - started) / 3600, 2),
    }
    write_whole(output / "evaluation.json", evidence)
    plot_evidence(output, evidence, BUDGETS[makes.budget])
    click.echo(f"Evidence: {output}, lead over random {evidence['lead_over_random']}", err=True)


if __name__ == "__main__":
    main()
