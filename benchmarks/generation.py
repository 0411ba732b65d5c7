"""How fast budgets are answered, and how cold starts compare: the figures of the README.

    python benchmarks/generation.py

Each part is one interleaved run; take the ratios, absolute times depend on the machine. Run it on an idle one.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

OURS = "import sgnas_zoo; sgnas_zoo.create_model(flops=350e6)"
TIMM = "import timm; timm.create_model('mobilenetv3_large_100')"
HELP = (
    "import sys, sgnas_zoo.cli.main as c; c.main(['--help'], standalone_mode=False); assert 'torch' not in sys.modules"
)
ANSWERS = Path(__file__).parents[1] / "recipes" / "data" / "sgnas_imagenet_answers.json"
BATCHES = (1, 4, 16, 64, 256, 1024)


def seconds(code: str) -> float:
    """Wall time of a fresh Python that runs ``code``."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def cold_starts(repeats: int = 7) -> dict[str, float]:
    """Medians of interleaved cold starts; the first round warms the disk and is dropped."""
    rounds = [[seconds(code) for code in (OURS, TIMM, HELP)] for _ in range(repeats + 1)][1:]
    ours, theirs, help_ = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {"create_model(flops=350e6), s": ours, "timm mobilenetv3_large_100, s": theirs, "ratio": ours / theirs,
            "sgnas-zoo --help, s": help_}  # fmt: skip


def growth(repeats: int = 5) -> dict[int, float]:
    """Median milliseconds per budget, by number of budgets in one call, and what they achieve."""
    import numpy as np

    import sgnas_zoo

    sgnas_zoo.generate(flops=350e6)
    times: dict[int, list[float]] = {number: [] for number in BATCHES}
    for _ in range(repeats):
        for number in BATCHES:
            budgets = np.linspace(180e6, 550e6, number + 2)[1:-1].round().tolist()
            start = time.perf_counter()
            sgnas_zoo.generate(flops=budgets)
            times[number].append((time.perf_counter() - start) / number * 1e3)
    return {number: statistics.median(values) for number, values in times.items()}


def peak_memory() -> float:
    """Megabytes that one call with 256 budgets adds to the peak of a process that has answered one."""
    import sgnas_zoo

    sgnas_zoo.generate(flops=350e6)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sgnas_zoo.generate(flops=[180e6 + 1.4e6 * i for i in range(256)])
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def accuracy() -> dict[str, dict[str, int]]:
    """How the integer budgets from 180 to 550 M are kept, and how the published answers keep theirs, by their count."""
    import sgnas_zoo
    from sgnas_zoo.costs import COSTS, native_conditions
    from sgnas_zoo.spaces import SPACES

    budgets = [1e6 * million for million in range(180, 551)]
    ours = [result.macs / result.requested["flops"] for result in sgnas_zoo.generate(flops=budgets)]
    space = SPACES["sgnas_imagenet"]
    table = COSTS["conv_macs"].table(space, native_conditions(space, form="search"))
    answers = json.loads(ANSWERS.read_text())["answers"]
    published = [table.measure(space.parse(arch)) / (1e6 * int(target)) for target, arch in answers.items()]
    return {
        name: {"budgets": len(s), "over": sum(x > 1 for x in s), "within 1 % below": sum(0.99 <= x <= 1 for x in s)}
        for name, s in (("ours", ours), ("published answers", published))
    }


if __name__ == "__main__":
    print(json.dumps({
        "cold starts": cold_starts(), "added peak memory of 256 budgets, MB": peak_memory(),
        "ms per budget, by budgets per call": growth(), "budgets kept": accuracy(),
    }, indent=2))  # fmt: skip
