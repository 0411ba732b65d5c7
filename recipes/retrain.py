"""Train the network of a budget from scratch.

    accelerate launch recipes/retrain.py --flops 4M --space sgnas_micro --dataset DATA --output runs/model

What: a network by budget, architecture or name, trained on the whole of `train` (less `--holdout`), then measured
    as evaluate.py measures. `--output` becomes the model's folder, for timm.create_model("local-dir:runs/model").
DATA: a Hub id, a folder of parquet files, or a folder of one folder per class.
Settings: recipes/configs/SPACE.yaml, which also say hardware, hours and expected result; `--config` and the command
    line override them. Without any option: the paper's ImageNet retraining (2103.07289) at 350M FLOPs.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports, which take seconds
    from sgnas_zoo.stopping import end_on_signals

    end_on_signals()

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch
from accelerate.utils import set_seed
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2

from sgnas_zoo.cli_options import Count, UserPath, column_options
from sgnas_zoo.training.accumulation import launched
from sgnas_zoo.training.evaluation import evaluate
from sgnas_zoo.training.fitting import Run, fit
from sgnas_zoo.training.networks import (
    OTHERS_WEIGHTS,
    arch_of,
    counted,
    input_side,
    make_network,
    set_bn_momentum,
    set_input,
)
from sgnas_zoo.training.options import RecipeCommand, resolved, training_record
from sgnas_zoo.training.outputs import check_output
from sgnas_zoo.training.runs import (
    known_optimizer,
    make_accelerator,
    measuring_loader,
    save_into,
    training_loader,
)
from sgnas_zoo.training.sources import LabelledImages, Source, open_splits
from sgnas_zoo.training.transforms import train_transform

PAPER_FLOPS = 350e6
FREE_TO_CHANGE = ("output", "resume", "workers", "checkpoint_minutes", "report_to", "eval_every")
"""Settings that a resumed run may change: they do not change what is trained."""


@click.command("retrain", cls=RecipeCommand, configs=Path(__file__).parent / "configs")
@click.option("--flops", type=Count(), help="Most FLOPs (MACs), such as 4M; budgets combine.")
@click.option("--params", type=Count(), help="Most parameters, such as 5M.")
@click.option("--space", default="sgnas_imagenet", show_default=True, help="Search space; its YAML holds the settings.")
@click.option("--arch", help="Architecture string of the space, instead of a budget.")
@click.option("--model", help="Instead of a budget: a name of timm, or a folder or repo, of which the network counts.")
@click.option("--generator", help="Folder or Hub repo; by default the embedded one of the space.")
@click.option("--dataset", default="ILSVRC/imagenet-1k", show_default=True, help="Hub id or folder.")
@column_options
@click.option("--output", type=UserPath(), default="runs/retrain", show_default=True,
              help="Folder of model and checkpoints.")  # fmt: skip
@click.option("--resolution", type=click.IntRange(min=8),
              help="Input side in pixels; by default the space's or model's.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Of one process.")
@click.option("--opt", default="rmsproptf", callback=known_optimizer, show_default=True,
              help="Optimizer, by timm's name.")  # fmt: skip
@click.option("--opt-eps", type=click.FloatRange(min=0, min_open=True), help="Its epsilon, where it has one.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=0.016, show_default=True)
@click.option("--momentum", type=click.FloatRange(0, 1), default=0.9, show_default=True)
@click.option("--weight-decay", type=click.FloatRange(min=0), default=1e-5, show_default=True,
              help="Not of norms and biases.")  # fmt: skip
@click.option("--clip-grad", type=click.FloatRange(min=0), default=0, show_default=True, help="Largest norm; 0: any.")
@click.option("--sched", type=click.Choice(["cosine", "step", "poly"]), default="step", show_default=True,
              help="Schedule of the rate.")  # fmt: skip
@click.option("--decay-epochs", type=click.FloatRange(min=0, min_open=True), default=3, show_default=True,
              help="Between two steps.")  # fmt: skip
@click.option("--decay-rate", type=click.FloatRange(0, 1), default=0.963, show_default=True,
              help="Factor of a step; exponent of poly.")  # fmt: skip
@click.option("--warmup-epochs", type=click.FloatRange(min=0), default=5, show_default=True)
@click.option("--warmup-lr", type=click.FloatRange(min=0), default=1e-4, show_default=True,
              help="Where warm-up starts.")  # fmt: skip
@click.option("--ema-decay", type=click.FloatRange(0, 1, max_open=True), default=0.99995, show_default=True,
              help="Averages weights; 0: off.")  # fmt: skip
@click.option("--drop-rate", type=click.FloatRange(0, 1, max_open=True), default=0.2, show_default=True,
              help="Dropout.")  # fmt: skip
@click.option("--drop-path-rate", type=click.FloatRange(0, 1, max_open=True), default=0, show_default=True)
@click.option("--bn-momentum", type=click.FloatRange(0, 1, min_open=True), help="Of batch norm, as torch counts it.")
@click.option("--label-smoothing", type=click.FloatRange(0, 1, max_open=True), default=0.1, show_default=True)
@click.option("--crop", type=click.Choice(["resized", "pad"]), default="resized", show_default=True,
              help="ImageNet's or CIFAR's.")  # fmt: skip
@click.option("--crop-scale", type=click.FloatRange(0, 1, min_open=True), default=0.08, show_default=True,
              help="Least area of a resized crop.")  # fmt: skip
@click.option("--crop-pct", type=click.FloatRange(0, 1, min_open=True),
              help="Side of the centre crop when measured; by default the model's.")  # fmt: skip
@click.option("--color-jitter", type=click.FloatRange(min=0), default=0.4, show_default=True)
@click.option("--aa", help="Policy of timm, such as rand-m9-mstd0.5.")
@click.option("--reprob", type=click.FloatRange(0, 1), default=0, show_default=True, help="Of random erasing.")
@click.option("--holdout", type=click.FloatRange(0, 1, max_open=True), default=0, show_default=True,
              help="Share of train to watch instead of the test split.")  # fmt: skip
@click.option("--eval-split", help="Split of the final figure; by default the holdout, or else test.")
@click.option("--eval-every", type=click.IntRange(min=1), default=5, show_default=True,
              help="Epochs between two looks.")  # fmt: skip
@click.option("--on-corrupt", type=click.Choice(["skip", "fail"]), default="skip", show_default=True)
@click.option("--streaming/--no-streaming", default=False, help="Read rows as they come.")
@click.option("--steps-per-epoch", type=click.IntRange(min=1), help="Needed for a stream of unknown length.")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many images of each split; for quick runs.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Decoding processes.")
@click.option("--resume", default="never", show_default=True, help="auto, never, or a checkpoint's folder.")
@click.option("--checkpoint-minutes", type=click.FloatRange(min=0), default=5, show_default=True)
@click.option("--report-to", help="Tracker of accelerate: tensorboard, wandb, trackio, ...")
@click.pass_context
def main(ctx: click.Context, flops: float | None, params: float | None, space: str, arch: str | None,
         model: str | None, generator: str | None, dataset: str, output: Path, resolution: int | None, epochs: int,
         batch_size: int, opt: str, opt_eps: float | None, lr: float, momentum: float, weight_decay: float,
         clip_grad: float, sched: str, decay_epochs: float, decay_rate: float, warmup_epochs: float, warmup_lr: float,
         ema_decay: float, drop_rate: float, drop_path_rate: float, bn_momentum: float | None, label_smoothing: float,
         crop: Any, crop_scale: float, crop_pct: float | None, color_jitter: float, aa: str | None, reprob: float,
         holdout: float, eval_split: str | None, eval_every: int, on_corrupt: Any, streaming: bool,
         steps_per_epoch: int | None, limit: int | None, seed: int, workers: int, resume: str,
         checkpoint_minutes: float, report_to: str | None, **columns: Any) -> None:  # fmt: skip
    """Train the network of a budget from scratch."""
    if flops is params is arch is model is None and space == "sgnas_imagenet":
        flops = PAPER_FLOPS
    check_output(output, resume, "retrain")
    settings = {k: v for k, v in resolved(ctx).items() if k not in FREE_TO_CHANGE}
    accelerator = make_accelerator(output, report_to)

    # Data: what is trained on, what is watched meanwhile, and what the final figure is measured on.
    source = Source(dataset, **columns)
    kept, held, final = open_splits(source, holdout, eval_split, seed=seed, streaming=streaming, limit=limit)

    # Network: from scratch. What it sees is noted in it, and measuring looks there.
    set_seed(seed)
    network = make_network(
        model, flops, params, space, arch, pretrained=False, resolution=resolution, num_classes=len(kept.classes),
        generator=generator, drop_rate=drop_rate or None, drop_path_rate=drop_path_rate or None,
    )  # fmt: skip
    set_bn_momentum(network, bn_momentum)
    set_input(network, resolution, crop_pct, label_names=kept.classes, **dict.fromkeys(OTHERS_WEIGHTS))
    look = {name: network.pretrained_cfg[name] for name in ("mean", "std", "interpolation")}
    scale = (crop_scale, 1.0)
    more = {"color_jitter": color_jitter, "auto_augment": aa, "re_prob": reprob}
    augment = train_transform(input_side(network), crop=crop, scale=scale, **more, **look)
    loader = training_loader(
        kept, augment, accelerator, batch_size=batch_size, seed=seed, on_corrupt=on_corrupt, workers=workers,
        steps=steps_per_epoch,
    )  # fmt: skip
    final_loader = measuring_loader(final, network, accelerator, on_corrupt=on_corrupt, workers=workers)
    watched = final_loader if final is held or not held else measuring_loader(held, network, accelerator)

    kind = "momentum" if opt == "sgd" and not momentum else opt  # timm's sgd is Nesterov's
    optimizer = create_optimizer_v2(network, kind, lr, weight_decay, momentum, **({"eps": opt_eps} if opt_eps else {}))

    def schedule(optimizer: Any, steps: int) -> Any:
        return create_scheduler_v2(
            optimizer, sched, epochs, decay_epochs=decay_epochs, decay_rate=decay_rate, warmup_epochs=warmup_epochs,
            warmup_lr=warmup_lr, step_on_epochs=False, updates_per_epoch=steps,
        )[0]  # fmt: skip

    run = Run("retrain", output, resolved(ctx), settings, resume, checkpoint_minutes, seed)
    fitted = fit(
        network, loader, watched, accelerator, run, optimizer=optimizer, schedule=schedule, epochs=epochs,
        steps_per_epoch=steps_per_epoch, ema_decay=ema_decay, label_smoothing=label_smoothing, clip_grad=clip_grad,
        eval_every=eval_every,
    )  # fmt: skip
    if fitted is None:
        return

    # The model, in full precision, measured as evaluate.py measures it.
    trained = fitted.network
    figures = evaluate(trained, final_loader, accelerator)
    if accelerator.is_main_process:
        ran = {"seed": seed, "epochs": epochs, "hours": fitted.hours, **launched(accelerator)}
        measured_on = {key: final.record[key] for key in ("source", "split", "part", "limit")}
        describe(trained, kept, settings)
        save_into(output, trained, "retrained", {**figures, **measured_on, **ran, "ema": bool(ema_decay)})
        click.echo(f"Model: {output}, top-1 {figures['top1']:.2f} % on {final.record['split']}", err=True)
    accelerator.end_training()


def describe(trained: torch.nn.Module, kept: LabelledImages, settings: Mapping[str, Any]) -> None:
    """Note in the model what it is and what it was trained on; its config and card say so."""
    made = {**arch_of(trained), **getattr(trained, "sgnas", {}), **counted(trained)}
    training = training_record("retrain", settings)
    trained.zoo = {
        **made, "dataset": dict(kept.record), "trained_at": input_side(trained), "training": training,
    }  # fmt: skip


if __name__ == "__main__":
    main()
