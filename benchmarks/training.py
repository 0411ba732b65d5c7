"""How fast supernets train here: images a second of the loader, of a forward pass and of a step, and what is in a step.

    python benchmarks/training.py                                  # two CPU cores: about 15 minutes
    accelerate launch benchmarks/training.py --batches 128,512,2048 --seconds 10     # a GPU

``sgnas_micro`` at 32 px and ``sgnas_imagenet`` at 64 px, one path a step, as their recipes train. *Decoded* images come
through the loader that decodes each of them, *cached* ones from ``--cache``. What is not arithmetic is the share of a
step in which neither convolutions nor norms nor matrix products run: on a GPU, in which no kernel runs.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from tempfile import TemporaryDirectory
from typing import Any

import click
import datasets  # type: ignore[import-untyped]
import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from timm.optim import create_optimizer_v2
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from sgnas_zoo.spaces import SPACES
from sgnas_zoo.supernet import SAMPLERS, Sampling, make_supernet
from sgnas_zoo.training.data.cached_batches import cached_for_training
from sgnas_zoo.training.data.loaders import TransformedImages, make_loader
from sgnas_zoo.training.data.sources import LabelledImages
from sgnas_zoo.training.data.transforms import Look
from sgnas_zoo.training.runs import make_accelerator

SIDES = {"sgnas_micro": 32, "sgnas_imagenet": 64}
IMAGES = 4096
HALF = (0.5, 0.5, 0.5)
ARITHMETIC = ("convolution", "conv2d", "batch_norm", "addmm", "aten::mm", "bmm")


def noise(side: int) -> LabelledImages:
    """JPEGs of noise; they take as long to decode as photographs, or a little longer."""
    rng, rows = np.random.default_rng(0), []
    for _ in range(IMAGES):
        content = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(content, "JPEG")
        rows.append({"bytes": content.getvalue(), "path": None})
    table = datasets.Dataset.from_dict({"image": rows, "label": [number % 10 for number in range(IMAGES)]})
    record = {"source": f"noise{side}", "revision": None, "split": "train", "rows": IMAGES, "streaming": False}
    return LabelledImages(table, tuple("abcdefghij"), record)


def batches(images: LabelledImages, side: int, batch: int, cache: bool, accelerator: Accelerator) -> Iterator[Any]:
    """Endless batches (images, labels, unread), where they are computed on."""
    look, workers = Look(size=side, mean=HALF, std=HALF, crop="pad"), os.cpu_count() or 1
    if cache:
        rows: Any = cached_for_training(images, look, 0, "skip", workers=workers, quiet=True)
        rows.settle(accelerator.device)
        workers = 0
    else:
        rows = TransformedImages(images, look.transform())
    loader = accelerator.prepare(make_loader(rows, batch, shuffle=True, workers=workers, drop_last=True))
    develop = getattr(rows, "develop", lambda found, _: found)
    epoch = 0
    while True:
        loader.set_epoch(epoch)
        yield from (develop(found, epoch) for found in loader)
        epoch += 1


def rate(work: Callable[[], object], batch: int, seconds: float, accelerator: Accelerator) -> float:
    """Images a second of what works on a batch; the first two calls warm up."""
    for _ in range(2):
        work()
    settle(accelerator)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        work()
        count += 1
        if count % 10 == 0:
            settle(accelerator)  # else only launches are timed
    settle(accelerator)
    return count * batch / (time.perf_counter() - started)


def settle(accelerator: Accelerator) -> None:
    """Wait for what the accelerator still does."""
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize()


def idle_share(step: Callable[[], object], accelerator: Accelerator, steps: int = 5) -> float:
    """Share of a step in which no arithmetic runs."""
    gpu = accelerator.device.type == "cuda"
    settle(accelerator)
    started = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as found:
        for _ in range(steps):
            step()
        settle(accelerator)
    wall = (time.perf_counter() - started) * 1e6
    events = found.key_averages()
    if gpu:
        return float(1 - sum(event.self_device_time_total for event in events) / wall)
    busy = sum(event.self_cpu_time_total for event in events if any(word in event.key for word in ARITHMETIC))
    return float(1 - busy / sum(event.self_cpu_time_total for event in events))


def measure(space: str, batch: int, seconds: float, accelerator: Accelerator) -> dict[str, Any]:
    """Rates of one space and batch."""
    side, images = SIDES[space], noise(SIDES[space])
    net = make_supernet(SPACES[space], 10, zero_init_last=True).to(accelerator.device)
    fused = {"fused": True} if accelerator.device.type == "cuda" else {}
    optimizer = create_optimizer_v2(net, "sgd", 0.01, 1e-4, 0.9, **fused)
    draw, step_number = SAMPLERS["fair"](Sampling(SPACES[space], 0, 1)), iter(range(10**9))
    found: dict[str, Any] = {"space": space, "side": side, "batch": batch}
    loaded = {name: batches(images, side, batch, name == "cached", accelerator) for name in ("decoded", "cached")}
    for name, given in loaded.items():
        found[f"loader, {name}"] = rate(lambda given=given: next(given), batch, seconds, accelerator)  # type: ignore[misc]
    pixels, labels, _ = next(loaded["cached"])

    def forward() -> torch.Tensor:
        with accelerator.autocast():
            return F.cross_entropy(net(pixels, draw(next(step_number))[0]).float(), labels)

    def step() -> None:
        forward().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    def whole() -> None:
        nonlocal pixels, labels
        pixels, labels, _ = next(loaded["cached"])
        step()

    with torch.no_grad():
        found["forward"] = rate(forward, batch, seconds, accelerator)
    found["step"] = rate(step, batch, seconds, accelerator)
    found["step with cached images"] = rate(whole, batch, seconds, accelerator)
    found["not arithmetic"] = idle_share(step, accelerator)
    return found


@click.command()
@click.option("--spaces", default=",".join(SIDES), show_default=True)
@click.option("--batches", "sizes", default="128", show_default=True, help="Batch sizes, such as 128,512,2048.")
@click.option("--seconds", default=20.0, show_default=True, help="Time of each rate.")
def main(spaces: str, sizes: str, seconds: float) -> None:
    """Print a JSON line for each space and batch."""
    accelerator = make_accelerator()
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else f"{torch.get_num_threads()} threads"
    with TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for space in spaces.split(","):
            for size in sizes.split(","):
                found = measure(space, int(size), seconds, accelerator)
                rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in found.items()}
                print(json.dumps({**rounded, "device": device, "precision": accelerator.mixed_precision}), flush=True)


if __name__ == "__main__":
    main()
