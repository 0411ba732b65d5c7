"""A space of 27 networks, its truth table as made up here, and a supernet of it that was never trained."""

import itertools
import json
import random

import torch

from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.hub.supernets import TrainedSupernet, save_supernet
from sgnas_zoo.spaces import Choice, Form, Row, SearchSpace
from sgnas_zoo.spaces.kinds.inverted import IDENTITY, Inverted, InvertedKind
from sgnas_zoo.supernet import make_supernet

TINY = SearchSpace(
    name="tiny",
    family="nas_bench_macro",
    kind=InvertedKind(),
    rows=(Row(16, 2, 1), Row(24, 2, 2)),
    choices=(Choice("0", IDENTITY), Choice("1", Inverted(3, 3)), Choice("2", Inverted(6, 5))),
    final=Form("relu", "relu"),
    stem_stride=1,
    first_chs=32,
    resolution=32,
    num_classes=3,
)
MACS, PARAMS = (COSTS[cost].table(TINY, native_conditions(TINY, form="search")) for cost in ("macs", "params"))
ARCHS = [TINY.arch([(pick,) for pick in picks]) for picks in itertools.product(range(3), repeat=3)]


def table():
    """Three runs, parameters and MACs of every network."""
    rng = random.Random(5)
    return {
        str(arch): {"top1": [round(rng.uniform(40, 90), 2) for _ in range(3)], "params": int(PARAMS.measure(arch)),
                    "macs": int(MACS.measure(arch))}
        for arch in ARCHS
    }  # fmt: skip


def write_table(path, content=None):
    path.write_text(json.dumps(table() if content is None else content))
    return path


def write_supernet(folder):
    torch.manual_seed(0)
    look = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "crop_pct": 1.0}
    record = {"source": "noise", "split": "train", "holdout": 0.4, "seed": 0}
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    net = make_supernet(TINY, 3).eval().requires_grad_(False)
    training = {"sampler": "fair", "epochs": 1}
    save_supernet(TrainedSupernet(net, 32, ("a", "b", "c"), look, record, training, images), folder)
