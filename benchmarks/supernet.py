"""How fast a supernet trains and relaxes against a plain one: the figures of the README.

    python benchmarks/supernet.py

The plain supernet is tests/supernet_oracle.py, which the tests prove equal. Parts are interleaved in one run; take the
ratios, absolute times depend on the machine. Run it on an idle one.
"""

from __future__ import annotations

import importlib.util
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.benchmark import Timer

from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.spaces import SPACES, SearchSpace
from sgnas_zoo.supernet import UnifiedSupernet
from sgnas_zoo.supernet.samplers import fair
from sgnas_zoo.training import objectives
from sgnas_zoo.training.objectives import Answer

CIFAR = SPACES["sgnas_cifar"]
BATCH = 64
ROUNDS = 2


def oracle() -> ModuleType:
    """The plain supernet of the tests."""
    path = Path(__file__).parents[1] / "tests" / "supernet_oracle.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain_supernet(space: SearchSpace) -> nn.Module:
    net: nn.Module = oracle().OracleSupernet(space)
    return net


def step(net: nn.Module, space: SearchSpace, x: Tensor, seed: int) -> None:
    """Four paths on one batch, as a training step runs them."""
    labels = torch.arange(len(x)) % 10
    for path in fair(space, seed, 0, 4):
        F.cross_entropy(net(x, path.picks if not isinstance(net, UnifiedSupernet) else path), labels).backward()  # type: ignore[no-untyped-call, unused-ignore]
    net.zero_grad()


def relaxed(net: nn.Module, space: SearchSpace, x: Tensor) -> None:
    """One pass of all choices and back to their probabilities, as a generator's step runs it."""
    probs = log_probs(space, torch.zeros(space.shape)).exp().requires_grad_()
    F.cross_entropy(net(x, probs), torch.arange(len(x)) % 10).backward()  # type: ignore[no-untyped-call, unused-ignore]


def sampled(net: nn.Module, space: SearchSpace, x: Tensor) -> None:
    """Single paths that stand for a relaxed pass, as a generator's step with --objective sampled runs them."""
    scores = log_probs(space, torch.zeros(space.shape)).requires_grad_()
    labels = torch.arange(len(x)) % 10
    loss, _ = objectives.sampled(Answer(space, scores, net, x, labels, 1.0, torch.Generator().manual_seed(0)))
    loss.backward()  # type: ignore[no-untyped-call, unused-ignore]


def milliseconds(work: Callable[[], None]) -> float:
    return Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads()).timeit(1).mean * 1e3


def compare(space: SearchSpace, batch: int = BATCH) -> dict[str, float]:
    """Medians of interleaved rounds: a step of four paths, a relaxed and a sampled one, and ours over plain."""
    torch.manual_seed(0)
    x = torch.randn(batch, 3, space.resolution, space.resolution)
    nets = {"plain": plain_supernet(space), "ours": UnifiedSupernet(space, 10)}
    times: dict[str, list[float]] = {}
    for turn in range(ROUNDS + 1):
        for name, net in nets.items():
            net.train().requires_grad_(True)
            took = milliseconds(partial(step, net, space, x, turn))
            times.setdefault(f"four paths, {name}", []).append(took)
        for name, net in nets.items():
            net.eval().requires_grad_(False)
            times.setdefault(f"relaxed, {name}", []).append(milliseconds(partial(relaxed, net, space, x)))
        times.setdefault("sampled, ours", []).append(milliseconds(partial(sampled, nets["ours"], space, x)))
    found = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first round warms up
    for kind, plain in (("four paths", "four paths"), ("relaxed", "relaxed"), ("sampled", "relaxed")):
        found[f"{kind}, ours / {plain}, plain"] = found[f"{kind}, ours"] / found[f"{plain}, plain"]
    return found


def memory(kind: str) -> float:
    """Megabytes that one step of a generator adds to the peak of a fresh process."""
    run = subprocess.run([sys.executable, __file__, "--memory", kind], check=True, capture_output=True, text=True)
    return float(run.stdout)


def own_memory(kind: str) -> float:
    net = plain_supernet(CIFAR) if kind == "plain" else UnifiedSupernet(CIFAR, 10)
    net.eval().requires_grad_(False)
    run = sampled if kind == "sampled" else relaxed
    run(net, CIFAR, torch.randn(2, 3, 32, 32))
    before = peak()
    run(net, CIFAR, torch.randn(BATCH, 3, 32, 32))
    return (peak() - before) / 1024


def peak() -> int:
    """Peak of this process in kilobytes; getrusage would count that of the process that started it."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def growth() -> dict[str, dict[int, float]]:
    """Milliseconds of one path of ours, forward and back, by active slots, by layers and by batch."""

    def took(space: SearchSpace, token: str, batch: int) -> float:
        net = UnifiedSupernet(space, 10)
        path = space.parse("-".join([token] * len(space.layers)))
        x = torch.randn(batch, 3, space.resolution, space.resolution)
        return statistics.median([milliseconds(lambda: net(x, path).sum().backward()) for _ in range(ROUNDS)][1:])

    shallow = [
        replace(CIFAR, name=f"at_most_{most}", rows=tuple(replace(r, repeats=min(r.repeats, most)) for r in CIFAR.rows))
        for most in (1, 2, 3, 4)
    ]
    tokens = {slots: ("357" * 2)[:slots] for slots in range(1, 7)}
    return {
        "active slots": {slots: took(CIFAR, token, BATCH) for slots, token in tokens.items()},
        "layers": {len(space.layers): took(space, "357", BATCH) for space in shallow},
        "batch": {batch: took(CIFAR, "357", batch) for batch in (16, 32, 64, 128)},
    }


if __name__ == "__main__":
    if "--memory" in sys.argv:
        print(own_memory(sys.argv[-1]))
    else:
        found = compare(CIFAR)
        print(json.dumps({name: round(value, 3) for name, value in found.items()}, indent=2))
        megabytes = {kind: memory(kind) for kind in ("plain", "ours", "sampled")}
        ratios = ", ".join(f"{kind} {megabytes[kind] / megabytes['plain']:.3f}" for kind in ("ours", "sampled"))
        print(f"a step of a generator adds, MB: {megabytes}; over plain: {ratios}")
        for what, values in growth().items():
            print(f"ms per path by {what}: " + ", ".join(f"{n}: {value:.0f}" for n, value in values.items()))
