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

OURS = "import sgnas_zoo; sgnas_zoo.create_model(flops=350e6)"
TIMM = "import timm; timm.create_model('mobilenetv3_large_100')"
HELP = "import sys, sgnas_zoo.cli as c; c.main(['--help'], standalone_mode=False); assert 'torch' not in sys.modules"
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


def accuracy() -> dict[str, float]:
    """How the integer budgets from 180 to 550 M are kept, and the same for plain arg-max of the published answers."""
    import sgnas_zoo

    budgets = [1e6 * million for million in range(180, 551)]
    shares = [result.macs / result.requested["flops"] for result in sgnas_zoo.generate(flops=budgets)]
    return {
        "budgets": len(shares),
        "over": sum(s > 1 for s in shares),
        "within 1 %": sum(0.99 <= s <= 1 for s in shares),
    }


if __name__ == "__main__":
    print(json.dumps({
        "cold starts": cold_starts(), "added peak memory of 256 budgets, MB": peak_memory(),
        "ms per budget, by budgets per call": growth(), "budgets kept": accuracy(),
    }, indent=2))  # fmt: skip
