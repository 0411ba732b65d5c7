"""Train the network of a budget from scratch.

    accelerate launch recipes/retrain.py --flops 4M --space sgnas_micro --dataset DATA --output runs/model

What: a network by budget, architecture or name, trained on the whole of `train` (less `--holdout`), then measured
    as evaluate.py measures. `--output` becomes the model's folder, for timm.create_model("local-dir:runs/model").
DATA: a Hub id, a folder of parquet files, or a folder of one folder per class.
Settings: recipes/configs/SPACE.yaml, which also say hardware, hours and expected result (those in unproven/ have not
    been run); `--config` and the command line override them. Without any option: the paper's ImageNet retraining
    (2103.07289) at 350M FLOPs.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from sgnas_zoo.stopping import end_on_signals

    end_on_signals()

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from accelerate.utils import set_seed
from timm.scheduler import create_scheduler_v2

from sgnas_zoo.training import networks
from sgnas_zoo.training.config import (
    ABOVE_0,
    FACTOR,
    SHARE,
    Augment,
    Data,
    Distil,
    Fit,
    Network,
    Optim,
    Reading,
    Run,
    Steps,
)
from sgnas_zoo.training.data.sources import LabelledImages
from sgnas_zoo.training.data.transforms import Look
from sgnas_zoo.training.distillation import Teacher, make_teacher
from sgnas_zoo.training.fields import group, option
from sgnas_zoo.training.fitting import finish, fit, look_loaders, open_images
from sgnas_zoo.training.options import recipe, training_record
from sgnas_zoo.training.outputs import check_output
from sgnas_zoo.training.runs import make_accelerator, training_loader

PAPER_FLOPS = 350e6


@dataclass(frozen=True, kw_only=True)
class Config:
    """By default the paper's ImageNet retraining."""

    network: Network = group(Network, space="sgnas_imagenet")
    data: Data = group(Data, dataset="ILSVRC/imagenet-1k")
    reading: Reading = group(Reading)
    steps: Steps = group(Steps, epochs=500, batch_size=64)
    optim: Optim = group(Optim, lr=0.016, weight_decay=1e-5, warmup_epochs=5)
    opt_eps: float | None = option("Epsilon of the optimizer, where it has one.", None, ABOVE_0)
    sched: Literal["cosine", "step", "poly"] = option("Learning-rate schedule.", "step")
    decay_epochs: float = option("Epochs between two steps of the step schedule.", 3, ABOVE_0)
    decay_rate: float = option("Factor of a step, or exponent of poly.", 0.963, SHARE)
    augment: Augment = group(Augment)
    distil: Distil = group(Distil)
    fit: Fit = group(
        Fit, opt="rmsproptf", warmup_lr=1e-4, ema_decay=0.99995, drop_rate=0.2, crop_scale=0.08, color_jitter=0.4,
        eval_every=5,
    )  # fmt: skip
    bn_momentum: float | None = option("Momentum of batch norm, in torch's convention.", None, FACTOR)
    crop_pct: float | None = option("Share of the image that is measured; by default the model's.", None, FACTOR)
    aa: str | None = option("AutoAugment policy of timm, such as rand-m9-mstd0.5.", None)
    reprob: float = option("Probability of random erasing.", 0, SHARE)
    run: Run = group(Run, output=Path("runs/retrain"))


@recipe(Config)
def main(config: Config) -> None:
    """Train the network of a budget from scratch."""
    asked, given = config.network, config.fit
    check_output(config.run.output, config.run.resume, "retrain")
    accelerator = make_accelerator(config.run)

    # Data: what is trained on, what is watched meanwhile, and what the final figure is measured on.
    kept, held, final = open_images(config)

    # Network: from scratch. What it sees is noted in it, and measuring looks there.
    set_seed(config.steps.seed)
    nothing = not asked.budgets and asked.arch is None and asked.model is None
    budgets = {"flops": PAPER_FLOPS} if nothing and asked.space == "sgnas_imagenet" else asked.budgets
    network: Any = networks.make_network(
        asked.model, budgets, asked.space, asked.arch, pretrained=False, resolution=asked.resolution,
        num_classes=len(kept.classes), generator=asked.generator, form=asked.form, drop_rate=given.drop_rate or None,
        drop_path_rate=given.drop_path_rate or None,
    )  # fmt: skip
    networks.set_bn_momentum(network, config.bn_momentum)
    networks.set_input(
        network, asked.resolution, config.crop_pct, label_names=kept.classes, **dict.fromkeys(networks.OTHERS_WEIGHTS)
    )
    look = {name: network.pretrained_cfg[name] for name in ("mean", "std", "interpolation")}
    harder = Look(
        size=networks.input_side(network), crop=config.augment.crop, scale=(given.crop_scale, 1.0),
        color_jitter=given.color_jitter, auto_augment=config.aa, re_prob=config.reprob, **look,
    )  # fmt: skip
    loader = training_loader(kept, harder, accelerator, config)
    watched, final_loader = look_loaders(held, final, network, accelerator, config)
    teacher = make_teacher(config.distil, kept.classes, look)

    def schedule(optimizer: Any, updates: int) -> Any:
        return create_scheduler_v2(
            optimizer, config.sched, config.steps.epochs, decay_epochs=config.decay_epochs,
            decay_rate=config.decay_rate, warmup_epochs=config.optim.warmup_epochs, warmup_lr=given.warmup_lr,
            step_on_epochs=False, updates_per_epoch=updates,
        )[0]  # fmt: skip

    fitted = fit(
        network, loader, watched, accelerator, "retrain", config, schedule=schedule, teacher=teacher,
        eps=config.opt_eps,
    )  # fmt: skip
    if fitted is not None:
        told = partial(describe, kept=kept, config=config, teacher=teacher)
        finish(fitted, "retrained", final, final_loader, accelerator, config, told)


def describe(trained: Any, kept: LabelledImages, config: Config, teacher: Teacher | None) -> None:
    """Note in the model what it is and what it was trained on; its config and card say so."""
    made = {**networks.arch_of(trained), **getattr(trained, "zoo", {}), **networks.counted(trained)}
    training = training_record("retrain", config)
    trained.zoo = {
        **made, "dataset": dict(kept.record), "trained_at": networks.input_side(trained), "training": training,
        **(teacher.told() if teacher else {}),
    }  # fmt: skip


if __name__ == "__main__":
    main()
