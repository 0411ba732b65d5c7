"""Fine-tune a model with weights on another dataset.

    accelerate launch recipes/finetune.py --model local-dir:runs/model --dataset OTHER --output runs/tuned

What: any timm model with weights, or inherited weights for a budget or an architecture (`--flops 4M --space
    sgnas_micro`), trained on `train` (less `--holdout`), then measured as evaluate.py measures. The classifier is new,
    unless the weights were made for classes of the same number and names. `--output` becomes the model's folder.
DATA: a Hub id, a folder of parquet files, or a folder of one folder per class.
Settings: the section `finetune` of recipes/configs/SPACE.yaml where --space is given; `--config` and the command line
    override it. Hardware, hours and expected result: see sgnas_imagenet_cifar10_r64.yaml.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from sgnas_zoo.stopping import end_on_signals

    end_on_signals()

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import click
from accelerate.utils import set_seed
from timm.scheduler import create_scheduler_v2

from sgnas_zoo.errors import printable
from sgnas_zoo.models.origin import caveat
from sgnas_zoo.training.config import FACTOR, Augment, Data, Distil, Fit, Optim, Reading, Run, Steps, Weighted
from sgnas_zoo.training.data.sources import LabelledImages
from sgnas_zoo.training.data.transforms import Look
from sgnas_zoo.training.distillation import Teacher, make_teacher
from sgnas_zoo.training.fields import group, option
from sgnas_zoo.training.fitting import finish, fit, look_loaders, open_images
from sgnas_zoo.training.networks import arch_of, counted, input_side, make_network, set_input
from sgnas_zoo.training.options import recipe, training_record
from sgnas_zoo.training.outputs import check_output
from sgnas_zoo.training.runs import make_accelerator, training_loader


@dataclass(frozen=True, kw_only=True)
class Config:
    """A short training at a low rate, which keeps what the weights know."""

    network: Weighted = group(Weighted)
    data: Data = group(Data)
    reading: Reading = group(Reading)
    steps: Steps = group(Steps, epochs=10, batch_size=64)
    optim: Optim = group(Optim, lr=0.01, weight_decay=1e-4, warmup_epochs=0.5)
    layer_decay: float | None = option("Learning-rate factor from a layer group to the one before.", None, FACTOR)
    sched: Literal["cosine", "constant"] = option("Learning-rate schedule.", "cosine")
    augment: Augment = group(Augment)
    distil: Distil = group(Distil)
    fit: Fit = group(
        Fit, opt="sgd", warmup_lr=0, ema_decay=0, drop_rate=0, crop_scale=0.35, color_jitter=0, eval_every=1
    )  # fmt: skip
    run: Run = group(Run)


@recipe(Config)
def main(config: Config) -> None:
    """Fine-tune a model with weights on another dataset."""
    asked, given = config.network, config.fit
    check_output(config.run.output, config.run.resume, "finetune")
    accelerator = make_accelerator(config.run)

    # Data: what is trained on, what is watched meanwhile, and what the final figure is measured on.
    kept, held, final = open_images(config)

    # Network: with weights, and a new classifier where the old one is for other classes.
    set_seed(config.steps.seed)
    network: Any = make_network(
        asked.model, asked.budgets, asked.space, asked.arch, pretrained=asked.pretrained or True,
        resolution=asked.resolution, num_classes=len(kept.classes), generator=asked.generator, form=asked.form,
        drop_rate=given.drop_rate or None, drop_path_rate=given.drop_path_rate or None,
    )  # fmt: skip
    if accelerator.is_main_process and (said := caveat(asked.model or "The network", network)):
        click.echo(printable(said), err=True)
    if list(network.pretrained_cfg.get("label_names") or kept.classes) != list(kept.classes):
        network.reset_classifier(len(kept.classes))
    set_input(network, asked.resolution, label_names=kept.classes, label_descriptions=None)
    look = {name: network.pretrained_cfg[name] for name in ("mean", "std", "interpolation")}
    harder = Look(
        size=input_side(network), crop=config.augment.crop, scale=(given.crop_scale, 1.0),
        color_jitter=given.color_jitter, **look,
    )  # fmt: skip
    loader = training_loader(kept, harder, accelerator, config)
    watched, final_loader = look_loaders(held, final, network, accelerator, config)
    teacher = make_teacher(config.distil, kept.classes, look)

    def schedule(optimizer: Any, updates: int) -> Any:
        return create_scheduler_v2(
            optimizer, config.sched, config.steps.epochs, warmup_epochs=config.optim.warmup_epochs,
            warmup_lr=given.warmup_lr, step_on_epochs=False, updates_per_epoch=updates,
        )[0]  # fmt: skip

    decay = config.layer_decay
    fitted = fit(
        network, loader, watched, accelerator, "finetune", config, schedule=schedule, teacher=teacher, layer_decay=decay
    )
    if fitted is not None:
        told = partial(describe, kept=kept, config=config, teacher=teacher)
        finish(fitted, "fine-tuned", final, final_loader, accelerator, config, told)


def describe(trained: Any, kept: LabelledImages, config: Config, teacher: Teacher | None) -> None:
    """Note in the model what it is and what it was trained on; its config and card say so."""
    own: dict[str, Any] = getattr(trained, "zoo", {})
    made: dict[str, Any] = {
        **arch_of(trained),
        **{key: own[key] for key in ("space", "arch", "form", "requested", "generator") if key in own},
        **counted(trained),
        "started_from": {"model": config.network.model, **own},
    }
    training = training_record("finetune", config)
    trained.zoo = {
        **made, "dataset": dict(kept.record), "trained_at": input_side(trained), "training": training,
        **(teacher.told() if teacher else {}),
    }  # fmt: skip


if __name__ == "__main__":
    main()
