"""How fast networks run in their deploy form, side by side: the latency figures of the README.

    python benchmarks/latency.py            # about ten minutes on two cores; needs `pip install '.[onnx]'`

First one network in all its forms, then the zoo beside timm's mobile networks. Each table is one interleaved run; take
the ratios, absolute times depend on the machine. Run it on an idle one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import timm
import torch

import sgnas_zoo
from sgnas_zoo.measure.cache import this_setup
from sgnas_zoo.measure.runtimes import RUNTIMES
from sgnas_zoo.measure.side_by_side import side_by_side
from sgnas_zoo.measure.timing import interleaved
from sgnas_zoo.zoo import zoo_entries

OURS = ("sgnas_a", "sgnas_b", "sgnas_c", "greedynas_a")
THEIRS = {
    "mobilenetv3_large_100": 75.77, "efficientnet_lite0": 75.48, "efficientnet_b0": 77.69, "hardcorenas_d": 77.44,
    "fbnetc_100": 75.13,
}  # fmt: skip
"""Top-1 on ImageNet of timm's default weights, as timm's results-imagenet.csv has them."""
BATCHES, ROUNDS = (1, 16), 30


def forms(batch_size: int) -> dict[str, float]:
    """Median milliseconds of SGNAS-A in each of its forms, one interleaved run."""
    model = timm.create_model("sgnas_a").eval()
    last = timm.create_model("sgnas_a").eval().to(memory_format=torch.channels_last)
    images = torch.randn(batch_size, 3, 224, 224)
    setup = {runtime: this_setup(runtime=runtime, batch_size=batch_size) for runtime in ("torch", "onnxruntime")}

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


def table(batch_size: int) -> dict[str, tuple[int, int, dict[str, float]]]:
    """MACs, parameters and median milliseconds per runtime of every network, one interleaved run."""
    models = {name: timm.create_model(name).eval() for name in (*OURS, *THEIRS)}
    setups = [this_setup(runtime=runtime, batch_size=batch_size) for runtime in ("torch", "onnxruntime")]
    rows = side_by_side(models, setups, resolution=224, rounds=ROUNDS)
    return {
        name: (own[0].macs or 0, own[0].params or 0, {row.setup.runtime: row.median_ms for row in own})
        for name in models
        if (own := [row for row in rows if row.model == name])
    }


def main() -> None:
    """Print both tables as Markdown."""
    by_batch = {size: forms(size) for size in BATCHES}
    print("| SGNAS-A, times as fast as plain timm | batch 1 | batch 16 |\n| --- | --- | --- |")
    for name in by_batch[1]:
        print(f"| {name} | " + " | ".join(f"{by_batch[s]['timm'] / by_batch[s][name]:.2f}" for s in BATCHES) + " |")
    measured = {size: table(size) for size in BATCHES}
    published = {name: zoo_entries()[name].published for name in OURS}
    top1 = {name: own["top1"] for name, own in published.items() if own} | THEIRS
    print("\n| network | M MACs | M params | top-1 | torch, 1 | torch, 16 | onnxruntime, 1 | onnxruntime, 16 |")
    print("| --- " * 8 + "|")
    for name, (macs, params, _) in measured[1].items():
        times = [measured[size][name][2][runtime] for runtime in ("torch", "onnxruntime") for size in BATCHES]
        print(f"| `{name}` | {macs / 1e6:.1f} | {params / 1e6:.2f} | {top1[name]:.1f} | "
              + " | ".join(f"{time:.1f}" for time in times) + " |")  # fmt: skip
    for runtime in ("torch", "onnxruntime"):
        per_mac = {name: own[2][runtime] / own[0] for name, own in measured[1].items()}
        ratio = per_mac["sgnas_a"] / per_mac["efficientnet_lite0"]
        print(f"\nSGNAS-A per MAC over efficientnet_lite0, {runtime}, batch 1: {ratio:.2f}")


if __name__ == "__main__":
    main()
