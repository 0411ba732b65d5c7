"""Measure a supernet and its generator: the evidence on their cards.

    accelerate launch recipes/measure_supernet.py --supernet runs/supernet --generator runs/generator --dataset DATA \\
        --output runs/evidence

What: over the generator's range, (a) requested against achieved cost, (b) top-1 of generated networks with inherited
    weights against random ones of the same budget, and the front they make; (c) with --trained FOLDER (repeat it), the
    rank correlation of inherited top-1 with that of networks that retrain.py trained from scratch. Accuracy is measured
    as evaluate.py does.
DATA: the dataset of the supernet; figures are of its test split.
Output: evaluation.json, budgets.png and front.png; with the supernet's folder as output, `sgnas-zoo card` shows them.
Hardware: one CPU core, 8 minutes for 12 budgets of sgnas_micro on CIFAR-10. Expected: hub_cards/sgnas_micro_supernet.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports, which take seconds
    from sgnas_zoo.stopping import end_on_signals

    end_on_signals()

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from scipy.stats import kendalltau
from tqdm import tqdm

from sgnas_zoo.cli_options import UserPath, column_options
from sgnas_zoo.costs import COSTS, CostTable, native_conditions
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import read_config, write_whole
from sgnas_zoo.hub.artifacts import CONFIG
from sgnas_zoo.hub.card_text import Fields
from sgnas_zoo.hub.generators import load_generator
from sgnas_zoo.hub.names import read_folder
from sgnas_zoo.hub.supernets import load_supernet
from sgnas_zoo.search.budgets import SCALES
from sgnas_zoo.search.decode import Bound, decode
from sgnas_zoo.search.propose import propose
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.spaces import Arch
from sgnas_zoo.training.curves import Panel, plot_panels
from sgnas_zoo.training.evaluation import evaluate
from sgnas_zoo.training.networks import set_input
from sgnas_zoo.training.options import RecipeCommand, resolved
from sgnas_zoo.training.outputs import claim, reads_as
from sgnas_zoo.training.runs import METRICS, make_accelerator, measuring_loader
from sgnas_zoo.training.sources import Source, load_images


@click.command("measure_supernet", cls=RecipeCommand)
@click.option("--supernet", required=True, help="Folder or Hub repo.")
@click.option("--generator", required=True, help="Folder or Hub repo.")
@click.option("--dataset", required=True, help="Hub id or folder.")
@column_options
@click.option("--output", type=UserPath(), required=True, help="Folder of figures and plots.")
@click.option("--trained", multiple=True, help="Folder that retrain.py filled.")
@click.option("--split", default="test", show_default=True)
@click.option("--budgets", type=click.IntRange(min=2), default=12, show_default=True, help="Budgets over the range.")
@click.option("--randoms", type=click.IntRange(min=0), default=4, show_default=True, help="Random networks a budget.")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many images; for quick runs.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the random networks and the limit.")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Decoding processes.")
@click.pass_context
def main(ctx: click.Context, supernet: str, generator: str, dataset: str, output: Path, trained: Sequence[str],
         split: str, budgets: int, randoms: int, limit: int | None, seed: int, workers: int,
         **columns: Any) -> None:  # fmt: skip
    """Measure a supernet and its generator."""
    started = time.monotonic()
    names = ("evaluation.json", "budgets.png", "front.png")
    claim(output, names, lambda folder: names if reads_as(folder / names[0], "budgets", "over_budget") else ())
    weights, makes = load_supernet(supernet), load_generator(generator)
    space = weights.supernet.space
    if makes.space != space:
        raise ArtifactError(f"The generator is of {makes.space.name}, the supernet of {space.name}; name a pair.")
    accelerator = make_accelerator()
    images = load_images(Source.of(Source(dataset, **columns), weights.dataset), split, limit=limit, seed=seed)
    table = COSTS[makes.cost].table(
        space, native_conditions(space, form="search", num_classes=weights.supernet.num_classes)
    )
    limits = np.linspace(*makes.cost_range, budgets).tolist()
    generated = [answer.arch for answer in propose(makes, {table: limits})]
    filled = [read_folder(folder) for folder in trained]
    retrained = [read_retrained(folder, space.name) for folder in filled]
    drawn = [arch for most in limits for arch in random_archs(table, most, randoms, seed)]
    weights.supernet.to(accelerator.device)

    measured: dict[Arch, float] = {}
    every = [*generated, *drawn, *(space.parse(record["arch"]) for record in retrained)]
    for arch in tqdm(dict.fromkeys(every), disable=not accelerator.is_main_process, mininterval=5):
        network = weights.inherit(arch).to(accelerator.device)
        set_input(network)
        loader = measuring_loader(images, network, accelerator, workers=workers)
        measured[arch] = evaluate(network.eval(), loader, accelerator)["top1"]
    accelerator.end_training()
    if not accelerator.is_main_process:
        return

    rows = [
        {
            "requested": round(most), "achieved": round(table.measure(arch)), "arch": str(arch), "top1": measured[arch],
            "random_top1": [measured[other] for other in drawn[i * randoms : (i + 1) * randoms]],
        }
        for i, (most, arch) in enumerate(zip(limits, generated, strict=True))
    ]  # fmt: skip
    lead = [row["top1"] - float(np.mean(row["random_top1"])) for row in rows] if randoms else []
    pairs = [(measured[space.parse(record["arch"])], record["top1"]) for record in retrained]
    evidence: dict[str, Any] = {
        "budgets": rows,
        "over_budget": sum(row["achieved"] > row["requested"] for row in rows),
        "lead_over_random": float(np.mean(lead)) if lead else None,
        "retrained": [{**record, "inherited_top1": pair[0]} for record, pair in zip(retrained, pairs, strict=True)],
        "kendall_tau": float(kendalltau(*zip(*pairs, strict=True)).statistic) if len(pairs) > 1 else None,
        "dataset": dict(images.record),
        "settings": {**resolved(ctx), "output": None, "trained": [folder.resolve().name for folder in filled]},
        "hours": round((time.monotonic() - started) / 3600, 2),
    }
    write_whole(output / "evaluation.json", evidence)
    scale, unit = SCALES[makes.budget]
    scaled = [row["requested"] / scale for row in rows]
    asked = {
        "generated": [(most, row["achieved"] / scale) for most, row in zip(scaled, rows, strict=True)],
        "the budget": [(most, most) for most in scaled],
    }
    plot_panels(output / "budgets.png", [Panel(f"requested, {unit}", f"achieved, {unit}", asked)])
    found = {
        name: [(table.measure(arch) / scale, measured[arch]) for arch in archs]
        for name, archs in (("random", drawn), ("generated", generated))
    }
    plot_panels(output / "front.png", [Panel(unit, "top-1 with inherited weights, %", found)])
    click.echo(f"Evidence: {output}, lead over random {evidence['lead_over_random']}", err=True)


def random_archs(table: CostTable, most: float, count: int, seed: int) -> list[Arch]:
    """Random architectures that spend a budget as generated ones do: random logits, decoded under it."""
    noise = torch.Generator().manual_seed(seed * 1_000_003 + round(most))
    scores = log_probs(table.space, torch.randn(count, *table.space.shape, generator=noise)).double().numpy()
    return [answer.arch for answer in decode(scores, [Bound(table, most)])] if count else []


def read_retrained(folder: Path, space: str) -> dict[str, Any]:
    """Architecture and top-1 of a network that retrain.py trained."""
    config, metrics = (Fields(read_config(folder / name), f"{folder / name}") for name in (CONFIG, METRICS))
    stated = config.part("model_args")
    if stated.text("space") != space:
        raise ArtifactError(f"{folder} holds a network of {stated.text('space')}, not {space}; name others.")
    arch, top1 = stated.text("arch"), metrics.number("top1", most=100)
    if arch is None or top1 is None:
        raise ArtifactError(f"{folder} tells no architecture or no top-1; name a folder that retrain.py filled.")
    return {"arch": arch, "top1": top1, "epochs": metrics.number("epochs")}


if __name__ == "__main__":
    main()
