"""Teach a generator by imitation: of what a supernet's additive model answers, or of given answers.

    accelerate launch recipes/distill_generator.py --supernet runs/supernet --dataset DATA --output runs/generator
    accelerate launch recipes/distill_generator.py --output runs/sgnas_imagenet_generator

What: with --supernet, random paths are scored on the images held out when it was trained, a sum over layers is fitted
    to their accuracy (strategy additive), and its best sums within budgets are what the generator learns to answer.
    With --spend 0 it learns to answer with less than a budget where the best sum costs less.
    Without, it learns the 180 architectures that the released SGNAS generator answers for 270 to 449 million
    convolution MACs: no trained ImageNet supernet is public. The target of an answer is its own exact cost. The
    constraint loss of the paper is added over the whole range, which teaches what no answer covers.
DATA: the dataset of the supernet.
Hardware: two CPU cores, about 3 minutes, and the scores of the paths: a second or more for each.
Expect: 99.5 % of the 19 x 6 slots agree with the published answers; the last line prints the share.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from sgnas_zoo.stopping import end_on_signals

    end_on_signals()

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from sgnas_zoo.costs.expectation import expected_cost
from sgnas_zoo.files import user_path, write_json
from sgnas_zoo.folders import check_free, new_folder
from sgnas_zoo.hub.cards import EVALUATION, write_card
from sgnas_zoo.hub.generators import save_generator
from sgnas_zoo.hub.supernets import load_supernet
from sgnas_zoo.search.additive import FEWEST
from sgnas_zoo.search.decode import SPEND
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.losses import constraint_loss
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.training import generators
from sgnas_zoo.training.config import FROM_ONE
from sgnas_zoo.training.data.columns import Source
from sgnas_zoo.training.fields import option
from sgnas_zoo.training.lessons import Lesson, ask_supernet, read_answers
from sgnas_zoo.training.loop.accumulation import Accumulation, launched
from sgnas_zoo.training.options import recipe
from sgnas_zoo.training.runs import make_accelerator
from sgnas_zoo.training.searching.candidates import EvaluationLog, held_out_images
from sgnas_zoo.training.searching.sharing import InheritedAccuracy

ANSWERS = Path(__file__).parent / "data" / "sgnas_imagenet_answers.json"
ORIGIN = "Trained by recipes/distill_generator.py on the answers of {}."


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is imitated, and how long."""

    answers: Path = option("Answers to imitate.", ANSWERS, click.Path(exists=True, path_type=Path))
    supernet: str | None = option("Folder or Hub repo of a supernet to learn from instead of answers.", None)
    dataset: str | None = option("Hub id or folder of the dataset that the supernet was trained on.", None)
    image_column: str | None = option("Name of the image column, where it cannot be guessed.", None)
    label_column: str | None = option("Name of the label column, where it cannot be guessed.", None)
    paths: int = option("Random paths of the supernet that are scored.", 300, click.IntRange(min=FEWEST))
    images: int = option("Most held-out images that paths are scored on.", 2000, FROM_ONE)
    budgets: int = option("Budgets that the additive model answers.", 180, click.IntRange(min=2))
    spend: float = option("Least share of a budget that an answer spends; 0: any.", SPEND, click.FloatRange(0, 1))
    scores: Path | None = option("File of the scores; a second run goes on with it.", None)
    output: Path = option("Folder of the finished artifact.")
    steps: int = option("Number of updates.", 1500, FROM_ONE)
    lr: float = option("Peak learning rate of Adam; it falls along a cosine to zero.", 2e-3)
    constraint_batch: int = option("Random targets per step.", 24)
    constraint_weight: float = option("Weight of the constraint loss.", 0.1)
    seed: int = option("Seed of the prior, the weights and the random targets.", 0)


@recipe(Config)
def main(config: Config) -> None:
    """Teach a generator by imitation."""
    output, steps, seed, started = config.output, config.steps, config.seed, time.monotonic()
    check_free(output, False)
    accelerator = make_accelerator()
    lesson, earlier = _lesson(config, accelerator)
    set_seed(seed)
    table, archs = lesson.table, lesson.answers
    space = table.space
    targets, picks = torch.tensor(lesson.targets), torch.tensor([arch.picks for arch in archs])

    low, high = lesson.cost_range
    prior = generators.draw_prior(table, float(targets.min() + targets.max()) / 2, seed)
    generator = ArchGenerator(prior, table.name, lesson.conditions, (low, high), spend=config.spend)
    optimizer = torch.optim.Adam(generator.parameters(), lr=config.lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=steps, pct_start=0.05)
    generator, optimizer, schedule = accelerator.prepare(generator, optimizer, schedule)
    device = accelerator.device
    targets, picks = targets.to(device), picks.to(device)

    batches = Accumulation(accelerator, accelerator.gradient_accumulation_steps)  # of an update: random targets differ
    for step in range(1, steps + 1):
        for batch in range(accelerator.gradient_accumulation_steps):
            drawn = torch.empty(config.constraint_batch, dtype=torch.float64).uniform_(low, high)
            random_targets = drawn.float().to(device)
            with batches.batch(batch, generator) as ends:
                scores = log_probs(space, generator(torch.cat([targets, random_targets])))
                picked = scores[: len(targets)].gather(-1, picks[..., None]).squeeze(-1)
                imitation = -picked.mean()
                costs = expected_cost(table, scores[len(targets) :].exp())
                constraint = constraint_loss(costs, random_targets, unit=lesson.unit).mean()
                accelerator.backward(imitation + config.constraint_weight * constraint)
                if ends:
                    accelerator.clip_grad_norm_(generator.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        schedule.step()
        if step % 100 == 0 or step == steps:
            agree = (scores[: len(targets)].argmax(-1) == picks).float().mean()
            accelerator.print(
                f"step {step}/{steps}  imitation {imitation.item():.4f}  constraint {constraint.item():.3f}"
                f"  slots that agree {agree.item():.2%}", flush=True,
            )  # fmt: skip

    if accelerator.is_main_process:
        told = ("paths", "images", "budgets", "spend") if config.supernet else ()
        told = (*told, "steps", "lr", "constraint_batch", "constraint_weight", "seed")
        settings = {name: getattr(config, name) for name in told}
        ran = {"hours": round((time.monotonic() - started + earlier) / 3600, 2), **launched(accelerator)}
        generator = accelerator.unwrap_model(generator, keep_fp32_wrapper=False)
        record = {
            "origin": ORIGIN.format("an additive model of a supernet" if config.supernet else config.answers.name),
            "training": {"recipe": "distill_generator", **settings, **ran},
            "follows": generators.follows(generator, table),
            "lost": lesson.lost(generator),
        }
        with new_folder(output) as folder:
            save_generator(generator, folder)
            write_json(folder / EVALUATION, {**record, **lesson.told})
            write_card(folder, name=user_path(output).name)
        accelerator.print(f"Saved to {output}")


def _lesson(config: Config, accelerator: Accelerator) -> tuple[Lesson, float]:
    """What is imitated, and the seconds that earlier runs took for scores that are used here.

    Raises:
        click.UsageError: If there is a supernet without its dataset.
        ZooError: If it cannot be read.
    """
    if config.supernet is None:
        return read_answers(config.answers), 0.0
    if config.dataset is None:
        raise click.UsageError("The paths of a supernet are scored on images; add --dataset, what it was trained on.")
    trained = load_supernet(config.supernet)
    trained.supernet.to(accelerator.device)
    held = held_out_images(trained, Source(config.dataset, config.image_column, config.label_column), config.images)
    score = InheritedAccuracy(trained, held, accelerator)
    asked: dict[str, Any] = {name: getattr(config, name) for name in ("paths", "budgets", "spend", "seed")}
    if config.scores is None:
        return ask_supernet(trained, score, **asked), 0.0
    writes = accelerator.is_main_process
    log = EvaluationLog(config.scores, trained.supernet.space, score, writes=writes, total=config.paths)
    return ask_supernet(trained, log, **asked), log.earlier


if __name__ == "__main__":
    main()
