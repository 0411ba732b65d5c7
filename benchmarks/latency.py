"""How fast networks run in their deploy form, side by side: the latency figures of the README.

    python benchmarks/latency.py            # about ten minutes on two cores; needs `pip install '.[onnx]'`
    python benchmarks/latency.py parts      # one table of: deploy, parts, zoo

One network before and after `deploy`; the same with one of its parts taken away at a time, and as `lite`; the zoo
beside timm's mobile networks. Each table is one interleaved run; take the ratios, absolute times depend on the machine.
Run it on an idle one.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import replace

import timm
import torch

import sgnas_zoo
from sgnas_zoo.costs.profile import Setup
from sgnas_zoo.measure.cache import this_setup
from sgnas_zoo.measure.runtimes import RUNTIMES
from sgnas_zoo.measure.side_by_side import side_by_side
from sgnas_zoo.measure.timing import interleaved
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.spaces import Arch, Form
from sgnas_zoo.zoo import zoo_entries

OURS = ("sgnas_a", "sgnas_b", "sgnas_c", "greedynas_a")
THEIRS = {
    "mobilenetv3_large_100": 75.77, "efficientnet_lite0": 75.48, "efficientnet_b0": 77.69, "hardcorenas_d": 77.44,
    "fbnetc_100": 75.13,
}  # fmt: skip
"""Top-1 on ImageNet of timm's default weights, as timm's results-imagenet.csv has them."""
RUNTIMES_TIMED, YARDSTICK = ("torch", "onnxruntime"), "efficientnet_lite0"
SMALL_KERNELS = "-".join(["3333"] * 10 + ["333333"] * 9)
"""An architecture without large kernels, of about as many MACs as the yardstick."""
BATCHES, ROUNDS = (1, 16), 30


def forms(batch_size: int) -> dict[str, float]:
    """Median milliseconds of SGNAS-A in each of its forms, one interleaved run."""
    model = timm.create_model("sgnas_a").eval()
    last = timm.create_model("sgnas_a").eval().to(memory_format=torch.channels_last)
    images = torch.randn(batch_size, 3, 224, 224)
    setup = {own.runtime: own for own in _setups(batch_size)}

    def eager(module: torch.nn.Module) -> Callable[[], object]:
        def call() -> object:
            with torch.inference_mode():
                return module(images)

        return call

    calls = {"timm": eager(model), "timm, channels_last": eager(last)}
    calls |= {
        f"deploy, {name}": RUNTIMES[name].prepare(sgnas_zoo.deploy(model), images, own) for name, own in setup.items()
    }
    times = interleaved([*calls.values()], ROUNDS, setup["torch"].threads)
    return {name: statistics.median(own) for name, own in zip(calls, times, strict=True)}


def parts() -> dict[str, tuple[int, dict[str, float]]]:
    """MACs and median milliseconds per runtime of SGNAS-A without some of its parts, one interleaved run."""
    arch = zoo_entries()["sgnas_a"].parsed()
    final = arch.space.final
    made = {
        "final": _variant(arch, final),
        "final, ReLU6 for h-swish": _variant(arch, replace(final.lite, se=final.se)),
        "final, no SE": _variant(arch, replace(final, se=False)),
        "final, 5 x 5 for 7 x 7": _variant(arch, final, most=5),
        "final, all 3 x 3": _variant(arch, final, most=3),
        "lite": _variant(arch, final.lite),
        "lite, 5 x 5 for 7 x 7": _variant(arch, final.lite, most=5),
        "lite, all 3 x 3": _variant(arch, final.lite, most=3),
        "lite, SMALL_KERNELS": _variant(arch.space.parse(SMALL_KERNELS), final.lite),
    }
    models = {**made, YARDSTICK: timm.create_model(YARDSTICK).eval()}
    rows = side_by_side(models, _setups(1), resolution=224, rounds=ROUNDS)
    return {
        name: (own[0].macs or 0, {row.setup.runtime: row.timing.median_ms for row in own})
        for name in models
        if (own := [row for row in rows if row.model == name])
    }


def _variant(arch: Arch, form: Form, most: int = 7) -> torch.nn.Module:
    """An architecture in a form of ours or of no space; kernels above ``most`` become as large as that."""
    space = replace(arch.space, final=form)
    largest = next(i for i, choice in enumerate(space.choices) if choice.adds.kernels == (most,))
    larger = [i for i, choice in enumerate(space.choices) if max(choice.adds.kernels, default=0) > most]
    picks = [[largest if pick in larger else pick for pick in layer] for layer in arch.picks]
    return build_model(space.family, space.arch(picks), "final").eval()


def _setups(batch_size: int) -> list[Setup]:
    return [this_setup(runtime=runtime, batch_size=batch_size) for runtime in RUNTIMES_TIMED]


def table(batch_size: int) -> dict[str, tuple[int, int, dict[str, float]]]:
    """MACs, parameters and median milliseconds per runtime of every network, one interleaved run."""
    models = {name: timm.create_model(name).eval() for name in (*OURS, *THEIRS)}
    rows = side_by_side(models, _setups(batch_size), resolution=224, rounds=ROUNDS)
    return {
        name: (own[0].macs or 0, own[0].params or 0, {row.setup.runtime: row.timing.median_ms for row in own})
        for name in models
        if (own := [row for row in rows if row.model == name])
    }


def print_deploy() -> None:
    """Print how many times as fast the forms of SGNAS-A are."""
    by_batch = {size: forms(size) for size in BATCHES}
    print("| SGNAS-A, times as fast as plain timm | batch 1 | batch 16 |\n| --- | --- | --- |")
    for name in by_batch[1]:
        print(f"| {name} | " + " | ".join(f"{by_batch[s]['timm'] / by_batch[s][name]:.2f}" for s in BATCHES) + " |")


def print_parts() -> None:
    """Print what the parts of SGNAS-A cost: time per MAC over that of EfficientNet-Lite0, batch 1."""
    measured = parts()
    print(f"| SGNAS-A, time per MAC over {YARDSTICK} | M MACs | " + " | ".join(RUNTIMES_TIMED) + " |")
    print("| --- " * (2 + len(RUNTIMES_TIMED)) + "|")
    their_macs, theirs = measured[YARDSTICK]
    for name, (macs, took) in measured.items():
        over = {runtime: time / macs / (theirs[runtime] / their_macs) for runtime, time in took.items()}
        cells = [f"{over[runtime]:.2f} ({took[runtime]:.1f} ms)" for runtime in RUNTIMES_TIMED]
        print(f"| {name} | {macs / 1e6:.1f} | " + " | ".join(cells) + " |")


def print_zoo() -> None:
    """Print what the networks of the zoo and of timm take."""
    measured = {size: table(size) for size in BATCHES}
    published = {name: zoo_entries()[name].published for name in OURS}
    top1 = {name: own["top1"] for name, own in published.items() if own} | THEIRS
    print("| network | M MACs | M params | top-1 | torch, 1 | torch, 16 | onnxruntime, 1 | onnxruntime, 16 |")
    print("| --- " * 8 + "|")
    for name, (macs, params, _) in measured[1].items():
        times = [measured[size][name][2][runtime] for runtime in RUNTIMES_TIMED for size in BATCHES]
        print(f"| `{name}` | {macs / 1e6:.1f} | {params / 1e6:.2f} | {top1[name]:.1f} | "
              + " | ".join(f"{time:.1f}" for time in times) + " |")  # fmt: skip
    for runtime in RUNTIMES_TIMED:
        per_mac = {name: own[2][runtime] / own[0] for name, own in measured[1].items()}
        ratio = per_mac["sgnas_a"] / per_mac[YARDSTICK]
        print(f"\nSGNAS-A per MAC over {YARDSTICK}, {runtime}, batch 1: {ratio:.2f}")


TABLES = {"deploy": print_deploy, "parts": print_parts, "zoo": print_zoo}


def main() -> None:
    """Print the tables that were named, or all, as Markdown."""
    for number, name in enumerate(sys.argv[1:] or TABLES):
        print("\n" * bool(number), end="")
        TABLES[name]()


if __name__ == "__main__":
    main()
