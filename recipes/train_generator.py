"""Train an architecture generator on a supernet: budgets in, architectures out, in one forward pass.

    accelerate launch recipes/train_generator.py --supernet runs/supernet --dataset DATA --output runs/generator

What: SGNAS (2103.07289): for a target cost the generator's relaxed architecture runs through the frozen supernet on the
    images held out when that was trained; the loss is the cross entropy plus the distance of the expected cost from the
    target. With --objective sampled single paths run instead, drawn by the generator, and no pass goes back through the
    supernet.
DATA: the dataset of the supernet. Its held-out part is cut again by the seed that the supernet records.
Settings: recipes/configs/SPACE.yaml, which also say hardware, hours and expected result (those in unproven/ have not
    been run); `--config` and the command line override them.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from sgnas_zoo.stopping import end_on_signals

    end_on_signals()

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from sgnas_zoo.costs import CostTable
from sgnas_zoo.costs.expectation import expected_cost
from sgnas_zoo.hub.supernets import load_supernet
from sgnas_zoo.search.decode import SPEND
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.losses import ALPHA, constraint_loss
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.terminal import Count
from sgnas_zoo.training import generators
from sgnas_zoo.training.config import ABOVE_0, FACTOR, FROM_0, Augment, Data, Reading, Run, Steps
from sgnas_zoo.training.data.transforms import Look
from sgnas_zoo.training.fields import group, option
from sgnas_zoo.training.loop.accumulation import Accumulation, launched
from sgnas_zoo.training.loop.epochs import At, Loop, Losses, Row, Task
from sgnas_zoo.training.objectives import OBJECTIVES, Answer, Objective
from sgnas_zoo.training.options import recipe, training_record
from sgnas_zoo.training.outputs import check_output
from sgnas_zoo.training.runs import fused, make_accelerator, training_loader
from sgnas_zoo.training.searching.candidates import held_out_images


@dataclass(frozen=True, kw_only=True)
class Config:
    """By default the paper's settings for ImageNet."""

    supernet: str = option("Folder or Hub repo of the trained supernet.")
    data: Data = group(Data)
    reading: Reading = group(Reading)
    low: float | None = option("Lowest target in MACs; by default 5 % above the space's least.", None, Count())
    high: float | None = option("Highest target in MACs; by default 5 % below the space's most.", None, Count())
    targets: int = option("Number of targets.", 36, click.IntRange(min=2))
    steps: Steps = group(Steps, epochs=50, batch_size=128)
    objective: str | None = option("Objective: relaxed (all choices at once; default) or sampled (single paths).", None)
    spend: float | None = option(
        "Least share of a budget that its answers spend; 0 for none; by default 0.99.", None, click.FloatRange(0, 1)
    )
    lr: float = option("Learning rate of Adam.", 1e-3, ABOVE_0)
    alpha: float = option("Weight of the distance from the target.", ALPHA, FROM_0)
    temperature: float = option("Temperature of the Gumbel softmax in the first epoch.", 5.0, ABOVE_0)
    temperature_decay: float = option("Factor of the temperature from epoch to epoch.", 0.95, FACTOR)
    augment: Augment = group(Augment)
    run: Run = group(Run)


@dataclass(kw_only=True)
class Step(Task):
    """Tries the answer to a target on a supernet that stays as it is."""

    config: Config
    objective: Objective
    accelerator: Accelerator
    model: torch.nn.Module
    generator: ArchGenerator
    frozen: torch.nn.Module
    table: CostTable
    batches: int

    def warmth(self, epoch: int) -> float:
        """Temperature of an epoch."""
        return self.config.temperature * self.config.temperature_decay**epoch

    def step(self, batch: Any, at: At) -> Losses:
        """Cross entropy, and the distance of the cost from the target."""
        images, labels, _ = batch
        low, high = self.generator.cost_range
        target, noise = generators.draw_target((low, high), self.config.targets, self.config.steps.seed, at.update)
        wanted = torch.tensor([target], device=self.accelerator.device)
        scores = log_probs(self.table.space, self.model(wanted))[0]
        answer = Answer(
            self.table.space, scores, self.frozen, images, labels, self.warmth(at.epoch), noise,
            self.config.augment.label_smoothing,
        )  # fmt: skip
        with self.accelerator.autocast():
            entropy, probs = self.objective(answer)
        costs, unit = expected_cost(self.table, probs[None]), (high - low) / generators.SPAN
        distance = constraint_loss(costs, wanted, self.config.alpha, unit).mean()
        self.accelerator.backward(entropy + distance)
        return Losses([entropy + distance], [entropy.detach(), distance.detach()])

    def report(self, epoch: int, sums: Sequence[float]) -> Row:
        """Both losses, and how the generator follows its targets."""
        entropy, distance = (value / self.batches / self.accelerator.num_processes for value in sums)
        row = {"entropy_loss": entropy, "constraint_loss": distance, "temperature": self.warmth(epoch)}
        return row | generators.follows(self.generator, self.table)


@recipe(Config, generators.SupernetCommand)
def main(config: Config) -> None:
    """Train an architecture generator on a supernet."""
    check_output(config.run.output, config.run.resume, "train_generator")
    objective = OBJECTIVES[config.objective or "relaxed"]
    trained, seed = load_supernet(config.supernet), config.steps.seed
    table, conditions = generators.costs(trained.supernet)
    cost_range = generators.target_range(table, config.low, config.high)
    accelerator = make_accelerator(config.run)

    # Data: what was held out when the supernet was trained.
    held = held_out_images(trained, config.data.source, config.data.limit, streaming=config.reading.streaming)
    look = {name: trained.preprocessing[name] for name in ("mean", "std", "interpolation")}
    harder = Look(size=trained.resolution, crop=config.augment.crop, **look)
    loader = training_loader(held, harder, accelerator, config)

    # The generator is small and the supernet frozen: gradients are averaged by hand, DDP has nothing to add.
    set_seed(seed)
    prior = generators.draw_prior(table, sum(cost_range) / 2, seed)
    spend = SPEND if config.spend is None else config.spend
    generator = ArchGenerator(prior, table.name, conditions, cost_range, spend=spend).to(accelerator.device)
    optimizer = torch.optim.Adam(generator.parameters(), config.lr, betas=(0.5, 0.999), **fused("adam"))
    model = accelerator.prepare_model(generator, evaluation_mode=True)
    optimizer, loader = accelerator.prepare(optimizer, loader)
    updates = Accumulation(accelerator, config.steps.steps_per_epoch or len(loader))
    task = Step(
        config=config, objective=objective, accelerator=accelerator, model=model, generator=generator, table=table,
        frozen=trained.supernet.to(accelerator.device), batches=updates.batches,
    )  # fmt: skip
    done = Loop(
        task=task, accelerator=accelerator, recipe="train_generator", config=config, model=model, optimizer=optimizer,
        loader=loader, updates=updates, by_hand=True,
    ).train()  # fmt: skip
    if done is None:
        return
    generator = accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # measured in full precision, as it is loaded
    if accelerator.is_main_process:
        ran = {"hours": round(done.seconds / 3600, 2), **launched(accelerator)}
        training = {**training_record("train_generator", config), **ran}
        generators.save(generator, table, trained, training, config.run.output)
        tau = done.history[-1]["kendall_tau"]
        click.echo(f"Generator: {config.run.output}, Kendall tau of its costs {tau:.3f}", err=True)
    accelerator.end_training()


if __name__ == "__main__":
    main()
