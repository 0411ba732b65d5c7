"""Train a supernet: every architecture of a space on one set of weights.

    accelerate launch recipes/train_supernet.py --space sgnas_micro --dataset DATA --output runs/supernet

What: SGNAS (2103.07289), SPOS (1904.00420), GreedyNAS (2003.11236): each step draws paths from a sampler, adds up their
    gradients on one batch, and makes one update. A sampler is a pure function of (seed, step); the greedy one also of
    the losses of paths on surrogate images, and leaves a candidate pool for the search. A share of the training images
    is held out for the search. A loss that is not finite ends the run before it reaches the weights.
DATA: a Hub id, a folder of parquet files, or a folder of one folder per class.
Settings: recipes/configs/SPACE.yaml, which also say hardware, hours and expected result (those in unproven/ have not
    been run); `--config` and the command line override them.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from sgnas_zoo.stopping import end_on_signals

    end_on_signals()

from dataclasses import dataclass
from typing import Any, Literal

import click
import torch
from accelerate.utils import set_seed
from timm.optim import create_optimizer_v2
from torch.nn import functional as F

from sgnas_zoo.errors import SpaceError
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.training import supernets
from sgnas_zoo.training.config import FROM_ONE, PART, SIDE, Augment, Data, Optim, Paths, Reading, Run, Steps
from sgnas_zoo.training.data.sources import load_images
from sgnas_zoo.training.data.transforms import Look, eval_transform
from sgnas_zoo.training.fields import flat, group, option
from sgnas_zoo.training.loop.accumulation import Accumulation
from sgnas_zoo.training.loop.epochs import At, Loop, Losses
from sgnas_zoo.training.options import recipe
from sgnas_zoo.training.outputs import check_output
from sgnas_zoo.training.runs import fused, make_accelerator, plain_loader, training_loader
from sgnas_zoo.training.surrogate import surrogate_losses


@dataclass(frozen=True, kw_only=True)
class Config:
    """By default the paper's settings for ImageNet."""

    space: str = option("Search space.", "sgnas_imagenet")
    resolution: int | None = option("Input side in pixels; by default the space's.", None, SIDE)
    data: Data = group(Data)
    reading: Reading = group(Reading)
    holdout: float = option("Share of train that is held out, for the generator and the search.", 0.2, PART)
    steps: Steps = group(Steps, epochs=50, batch_size=128)
    paths: Paths = group(Paths)
    smallest_kernels: float = option("Share of the epochs that first train the smallest kernels only.", 0, PART)
    small_images: float | None = option("Share of the epochs that first see images of half the side.", None, PART)
    zero_init_last: bool = option("Residual layers start as the identity.", False)
    pretrained: str | None = option("Folder or Hub repo of a supernet of the space to start from.", None)
    optim: Optim = group(Optim, lr=0.064, weight_decay=4e-4, warmup_epochs=0)
    sched: Literal["cosine", "poly"] = option("Learning-rate schedule; poly falls linearly.", "cosine")
    augment: Augment = group(Augment)
    eval_every: int = option("Epochs between two measurements on the held-out part.", 5, FROM_ONE)
    eval_images: int = option("Held-out images of a measurement.", 2000, FROM_ONE, free=True)
    run: Run = group(Run)


@dataclass(kw_only=True)
class Step(supernets.SupernetTask):
    """Adds up the gradients of some paths on a batch: cross entropy; a sandwich's others learn from its widest."""

    number: int
    label_smoothing: float
    distils: bool

    def step(self, batch: Any, at: At) -> Losses:
        """Train on a batch."""
        images, labels, unread = batch
        drawn, wanted, smoothing = self.paths(at), labels, self.label_smoothing
        images = self.growth.resize(images)
        losses: list[torch.Tensor] = []
        for path in drawn:
            logits = self.model(images, self.growth.path(path))
            loss = F.cross_entropy(logits, wanted, label_smoothing=smoothing)
            if self.distils and not losses:
                wanted, smoothing = logits.detach().softmax(1), 0.0
            self.accelerator.backward(loss / self.number)
            losses.append(loss.detach())
        return Losses(losses, [torch.stack(losses).sum() / self.number, unread], drawn)


@recipe(Config)
def main(config: Config) -> None:
    """Train a supernet."""
    space, seed, source = SPACES[config.space], config.steps.seed, config.data.source
    size = config.resolution or space.resolution
    space.check_resolution(size // 2 if config.small_images else size)
    supernets.check_paths(space, config.paths, seed)
    check_output(config.run.output, config.run.resume, "train_supernet")
    accelerator = make_accelerator(config.run)

    # Data: one part to train on; the other is the generator's, and here only shows how training goes.
    sides: dict[str, Any] = {"holdout": config.holdout, "seed": seed, "streaming": config.reading.streaming}
    kept = load_images(source, "train", limit=config.data.limit, **sides)
    held = load_images(source, "train", part="held", limit=config.eval_images, **sides) if config.holdout else None
    as_measured = eval_transform(size, **supernets.PREPROCESSING)
    harder = Look(size=size, crop=config.augment.crop, **supernets.LOOK)
    loader = training_loader(kept, harder, accelerator, config)

    # Supernet. Not wrapped in DDP: a step's paths are the same everywhere, so gradients are averaged by hand.
    set_seed(seed)
    supernet, before = supernets.begin(space, kept.classes, config.pretrained, zero_init_last=config.zero_init_last)
    if config.smallest_kernels and not supernet.grows:
        raise SpaceError(f"Kernels of {space.name} do not grow into each other; leave --smallest-kernels out.")
    asked, epochs = config.optim, config.steps.epochs
    kind = "sgd" if asked.momentum else "momentum"  # timm's sgd is Nesterov's
    optimizer = create_optimizer_v2(supernet, kind, asked.lr, asked.weight_decay, asked.momentum, **fused(kind))
    model = accelerator.prepare_model(supernet, evaluation_mode=True)
    optimizer, loader = accelerator.prepare(optimizer, loader)
    updates = Accumulation(accelerator, config.steps.steps_per_epoch or len(loader))
    scheduler = supernets.schedule(optimizer, config.sched, asked, epochs, updates.updates)
    trained = supernets.start(supernet, size, kept, seed, {**flat(config, repeated=True), **before})
    reading: dict[str, Any] = {"on_corrupt": config.reading.on_corrupt, "cache": config.reading.cache}
    held_loader = held and plain_loader(held, as_measured, accelerator, **reading)

    # Sampler. The greedy one ranks paths on some of the held-out images.
    small = (int(share * epochs) for share in (config.smallest_kernels, config.small_images or 0))
    growth, ranks = supernets.Growth(supernet, *small), None
    if config.paths.sampler == "greedy" and held:
        few = load_images(source, "train", part="held", limit=config.paths.surrogate_images, **sides)
        seen = plain_loader(few, as_measured, accelerator)
        ranks = surrogate_losses(model, seen, accelerator, resize=growth.resize)
    draw = supernets.make_sampler(
        growth, config.paths, seed=seed, updates=epochs * updates.updates, resolution=size, ranks=ranks,
        accelerator=accelerator,
    )  # fmt: skip
    task = Step(
        accelerator=accelerator, model=model, trained=trained, growth=growth, draw=draw, held=held_loader,
        batches=updates.batches, epochs=epochs, eval_every=config.eval_every, early_stop=config.paths.early_stop,
        number=config.paths.paths, distils=config.paths.sampler == "sandwich",
        label_smoothing=config.augment.label_smoothing,
    )  # fmt: skip
    done = Loop(
        task=task, accelerator=accelerator, recipe="train_supernet", config=config, model=model, optimizer=optimizer,
        loader=loader, updates=updates, scheduler=scheduler, clip_grad=asked.clip_grad, by_hand=True,
    ).train()  # fmt: skip
    if done is None:
        return
    if accelerator.is_main_process:
        supernets.save(task, done, config.run.output)
        click.echo(f"Supernet: {config.run.output}", err=True)
    accelerator.end_training()


if __name__ == "__main__":
    main()
