"""Train an architecture generator on a supernet: budgets in, architectures out, in one forward pass.

    accelerate launch recipes/train_generator.py --supernet runs/supernet --dataset DATA --output runs/generator

What: SGNAS (2103.07289): for a target cost the generator's relaxed architecture runs through the frozen supernet on the
    images held out when that was trained; the loss is the cross entropy plus the distance of the expected cost from the
    target. The card lists requested and generated costs.
DATA: the dataset of the supernet. Its held-out part is cut again by the seed that the supernet records.
Settings: recipes/configs/SPACE.yaml, which also say hardware, hours and expected result; `--config` and the command
    line override them.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports, which take seconds
    from sgnas_zoo.stopping import end_on_signals

    end_on_signals()

import random
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import click
import torch
from accelerate import skip_first_batches
from accelerate.utils import set_seed
from scipy.stats import kendalltau
from torch.nn import functional as F
from tqdm import tqdm

from sgnas_zoo.cli_options import Count, UserPath, column_options
from sgnas_zoo.costs import COSTS, CostTable, native_conditions
from sgnas_zoo.costs.expectation import expected_cost
from sgnas_zoo.errors import BudgetError, DataError, ZooError
from sgnas_zoo.files import read_config, write_json
from sgnas_zoo.folders import among_others
from sgnas_zoo.hub.artifacts import CONFIG, Artifact
from sgnas_zoo.hub.cards import EVALUATION, write_card
from sgnas_zoo.hub.generators import save_generator
from sgnas_zoo.hub.supernets import load_supernet
from sgnas_zoo.search.budgets import BUDGET_COSTS
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.gumbel import gumbel_probs
from sgnas_zoo.search.losses import ALPHA, constraint_loss
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.spaces import SPACES, Arch
from sgnas_zoo.training.accumulation import Accumulation, launched
from sgnas_zoo.training.checkpoints import Checkpoints
from sgnas_zoo.training.curves import plot_curves
from sgnas_zoo.training.data import check_classes
from sgnas_zoo.training.options import RecipeCommand, resolved, save_settings, training_record
from sgnas_zoo.training.outputs import check_output
from sgnas_zoo.training.parallel import average_gradients, check_finite
from sgnas_zoo.training.runs import make_accelerator, training_loader
from sgnas_zoo.training.sources import Source, load_images
from sgnas_zoo.training.transforms import train_transform

SPAN = 180
"""Millions between the paper's lowest and highest target: the unit of its constraint loss, as a share of the range."""
MARGIN = 0.05
"""Share of the space's range left out at either end by default: there, few architectures are left to choose from."""
FREE_TO_CHANGE = ("output", "resume", "workers", "checkpoint_minutes", "report_to")
"""Settings that a resumed run may change: they do not change what is trained."""


class SupernetCommand(RecipeCommand):
    """Takes the space, and with it the defaults, from the supernet."""

    def space(self, given: Mapping[str, Any], chosen: Mapping[str, Any]) -> Any:
        """The supernet's space; None where it cannot be read, which the recipe then reports."""
        try:
            artifact = Artifact(str(given.get("supernet") or chosen.get("supernet") or ""))
            space = read_config(artifact.file(CONFIG)).get("space")
            return space if isinstance(space, str) and space in SPACES else None
        except ZooError:
            return None


@click.command("train_generator", cls=SupernetCommand, configs=Path(__file__).parent / "configs")
@click.option("--supernet", required=True, help="Folder or Hub repo of the trained supernet.")
@click.option("--dataset", required=True, help="Hub id or folder: what the supernet was trained on.")
@column_options
@click.option("--output", type=UserPath(), required=True, help="Folder of generator and checkpoints.")
@click.option("--low", type=Count(), help="Lowest target in MACs; by default 5 % above the space's least.")
@click.option("--high", type=Count(), help="Highest target in MACs; by default 5 % below the space's most.")
@click.option("--targets", type=click.IntRange(min=2), default=36, show_default=True, help="Targets to go through.")
@click.option("--epochs", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=128, show_default=True, help="Of one process.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=1e-3, show_default=True, help="Of Adam.")
@click.option("--alpha", type=click.FloatRange(min=0), default=ALPHA, show_default=True,
              help="Weight of the distance from the target.")  # fmt: skip
@click.option("--temperature", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True)
@click.option("--temperature-decay", type=click.FloatRange(0, 1, min_open=True), default=0.95, show_default=True,
              help="Factor of an epoch.")  # fmt: skip
@click.option("--label-smoothing", type=click.FloatRange(0, 1, max_open=True), default=0.1, show_default=True)
@click.option("--crop", type=click.Choice(["resized", "pad"]), default="resized", show_default=True)
@click.option("--on-corrupt", type=click.Choice(["skip", "fail"]), default="skip", show_default=True)
@click.option("--streaming/--no-streaming", default=False, help="Read rows as they come.")
@click.option("--steps-per-epoch", type=click.IntRange(min=1), help="Needed for a stream of unknown length.")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many images; for quick runs.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Decoding processes.")
@click.option("--resume", default="never", show_default=True, help="auto, never, or a checkpoint's folder.")
@click.option("--checkpoint-minutes", type=click.FloatRange(min=0), default=5, show_default=True)
@click.option("--report-to", help="Tracker of accelerate: tensorboard, wandb, trackio, ...")
@click.pass_context
def main(ctx: click.Context, supernet: str, dataset: str, output: Path, low: float | None, high: float | None,
         targets: int, epochs: int, batch_size: int, lr: float, alpha: float, temperature: float,
         temperature_decay: float, label_smoothing: float, crop: Any, on_corrupt: Any, streaming: bool,
         steps_per_epoch: int | None, limit: int | None, seed: int, workers: int, resume: str,
         checkpoint_minutes: float, report_to: str | None, **columns: Any) -> None:  # fmt: skip
    """Train an architecture generator on a supernet."""
    check_output(output, resume, "train_generator")
    settings = {k: v for k, v in resolved(ctx).items() if k not in FREE_TO_CHANGE}
    trained = load_supernet(supernet)
    space = trained.supernet.space
    conditions = native_conditions(space, form="search", num_classes=trained.supernet.num_classes)
    cost = BUDGET_COSTS[space.budget]
    table = COSTS[cost].table(space, conditions)
    cost_range = target_range(table, low, high)
    accelerator = make_accelerator(output, report_to)

    # Data: what was held out when the supernet was trained.
    holdout = trained.dataset.get("holdout")
    if not holdout:
        raise DataError(
            f"{supernet} was trained on all images; train one with --holdout for the generator to learn on."
        )
    source = Source.of(Source(dataset, **columns), trained.dataset)
    held = load_images(
        source, "train", holdout=holdout, part="held", seed=trained.dataset["seed"], streaming=streaming, limit=limit,
    )  # fmt: skip
    check_classes(held, trained.supernet.num_classes, "supernet")
    look = {name: trained.preprocessing[name] for name in ("mean", "std", "interpolation")}
    loader = training_loader(
        held, train_transform(trained.resolution, crop=crop, **look), accelerator, batch_size=batch_size, seed=seed,
        on_corrupt=on_corrupt, workers=workers, steps=steps_per_epoch,
    )  # fmt: skip

    # The generator is small and the supernet frozen: gradients are averaged by hand, DDP has nothing to add.
    set_seed(seed)
    generator = ArchGenerator(draw_prior(table, sum(cost_range) / 2, seed), cost, conditions, cost_range)
    generator.to(accelerator.device)
    optimizer = torch.optim.Adam(generator.parameters(), lr, betas=(0.5, 0.999))
    frozen = trained.supernet.to(accelerator.device)
    model = accelerator.prepare_model(generator, evaluation_mode=True)
    optimizer, loader = accelerator.prepare(optimizer, loader)
    steps_per_epoch = steps_per_epoch or len(loader)

    updates = Accumulation(accelerator, steps_per_epoch)
    total = epochs * steps_per_epoch
    with (
        Checkpoints(accelerator, output / "checkpoints", settings, every_minutes=checkpoint_minutes) as checkpoints,
        tqdm(total=total, disable=not accelerator.is_main_process, mininterval=5) as bar,
    ):
        progress = checkpoints.resume(resume) or {"step": 0, "seconds": 0.0, "history": [], "sums": [0.0, 0.0]}
        step, history, started = progress["step"], progress["history"], time.monotonic() - progress["seconds"]
        sums = torch.tensor(progress["sums"], device=accelerator.device)  # of the epoch so far
        if accelerator.is_main_process:
            save_settings(output, resolved(ctx), "train_generator")
        accelerator.init_trackers("train_generator", settings)

        def save() -> bool:
            """Save a checkpoint; say whether to stop here."""
            seconds = time.monotonic() - started
            state = {"step": step, "seconds": seconds, "history": history, "sums": sums.tolist()}
            saved = checkpoints.save(state)
            if checkpoints.stopping:
                checkpoints.stopped(saved)
                accelerator.end_training()
            return checkpoints.stopping

        bar.n = bar.initial = step
        for epoch in range(step // steps_per_epoch, epochs):
            loader.set_epoch(epoch)
            warmth = temperature * temperature_decay**epoch
            done = step % steps_per_epoch
            for images, labels, _ in islice(skip_first_batches(loader, done), steps_per_epoch - done):
                target, noise = draw_target(cost_range, targets, seed, updates.update(step))
                wanted = torch.tensor([target], device=accelerator.device)
                with updates.batch(step, model) as ends:
                    probs = gumbel_probs(log_probs(space, model(wanted)), warmth, noise)
                    with accelerator.autocast():
                        answer = frozen(images, probs[0])
                    entropy = F.cross_entropy(answer.float(), labels, label_smoothing=label_smoothing)
                    unit = (cost_range[1] - cost_range[0]) / SPAN
                    distance = constraint_loss(expected_cost(table, probs), wanted, alpha, unit).mean()
                    accelerator.backward(entropy + distance)
                    check_finite(accelerator, [entropy + distance], step)
                    if ends:
                        average_gradients(accelerator, generator.parameters())
                    optimizer.step()
                    optimizer.zero_grad()
                sums += torch.stack([entropy.detach(), distance.detach()])
                step += 1
                bar.update()
                if ends and step % steps_per_epoch and checkpoints.due() and save():
                    return
            if step < (epoch + 1) * steps_per_epoch:
                raise DataError(f"{dataset} has no {steps_per_epoch} batches for an epoch; lower --steps-per-epoch.")
            entropy, distance = (accelerator.reduce(sums, "mean") / steps_per_epoch).tolist()
            row = {"epoch": epoch + 1, "entropy_loss": entropy, "constraint_loss": distance, "temperature": warmth}
            history.append(row | follows(generator, table))
            accelerator.log(history[-1], step=step)
            bar.set_postfix({name: f"{value:.3g}" for name, value in history[-1].items()})
            sums.zero_()
            if accelerator.is_main_process:
                plot_curves(history, output / "curves.png")
            checkpoints.due()
            if save():
                return

    generator = accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # measured in full precision, as it is loaded
    if accelerator.is_main_process:
        ran = {"hours": round((time.monotonic() - started) / 3600, 2), **launched(accelerator)}
        evaluation = {
            "origin": f"Trained by recipes/train_generator.py on a supernet of {space.name}.",
            "supernet": trained.source and trained.source.named(),
            "training": {**training_record("train_generator", settings), **ran},
            "follows": follows(generator, table),
        }
        with among_others(output) as folder:
            save_generator(generator, folder)
            write_json(folder / EVALUATION, evaluation)
            write_card(folder, name=output.resolve().name)
        click.echo(f"Generator: {output}, Kendall tau of its costs {history[-1]['kendall_tau']:.3f}", err=True)
    accelerator.end_training()


def target_range(table: CostTable, low: float | None, high: float | None) -> tuple[float, float]:
    """Lowest and highest target; by default nearly all of what the space can cost."""
    margin = MARGIN * (table.maximum - table.minimum)
    low, high = low or table.minimum + margin, high or table.maximum - margin
    if not table.minimum <= low < high <= table.maximum:
        raise BudgetError(
            f"Targets from {low:,.0f} to {high:,.0f} {table.unit} do not fit {table.space.name}; "
            f"stay between {table.minimum:,.0f} and {table.maximum:,.0f}."
        )
    return low, high


def draw_prior(table: CostTable, middle: float, seed: int) -> Arch:
    """The random architecture nearest to the middle of the range (released code: within a million of it)."""
    rng = random.Random(f"prior/{seed}")
    return min((table.space.sample(rng) for _ in range(2000)), key=lambda arch: abs(table.measure(arch) - middle))


def draw_target(cost_range: tuple[float, float], number: int, seed: int, step: int) -> tuple[float, torch.Generator]:
    """The target of a step, and what draws its noise: each cycle goes through all targets, in an order of its own."""
    low, high = cost_range
    gap = (high - low) / (number - 1)
    order = random.Random(f"{seed}/{step // number}").sample(range(number), number)
    rng = random.Random(f"{seed}/{step}")
    target = low + gap * (order[step % number] + rng.uniform(-0.1, 0.1))
    return min(max(target, low), high), torch.Generator().manual_seed(rng.getrandbits(63))


@torch.no_grad()
def follows(generator: ArchGenerator, table: CostTable) -> dict[str, float]:
    """How arg-max follows the targets: mean distance in percent, and rank correlation (constraint check, released)."""
    low, high = generator.cost_range
    wanted = torch.linspace(low, high, 19, dtype=torch.float64)
    picks = log_probs(table.space, generator(wanted)).argmax(-1).tolist()
    costs = [table.measure(table.space.arch(pick)) for pick in picks]
    distance = sum(abs(cost / target - 1) for cost, target in zip(costs, wanted.tolist(), strict=True)) / len(costs)
    tau = 0.0 if len(set(costs)) == 1 else float(kendalltau(wanted.tolist(), costs).statistic)
    return {"distance_percent": 100 * distance, "kendall_tau": tau}


if __name__ == "__main__":
    main()
