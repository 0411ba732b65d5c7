"""Subnets that begin alike are scored together: figures are those of each alone."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from sgnas_zoo.hub.supernets import TrainedSupernet
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.supernet import make_supernet
from sgnas_zoo.training.data.sources import load_images
from sgnas_zoo.training.evaluation import evaluate
from sgnas_zoo.training.networks import set_input
from sgnas_zoo.training.runs import make_accelerator, measuring_loader
from sgnas_zoo.training.searching import sharing
from sgnas_zoo.training.searching.sharing import InheritedAccuracy

NAMES = ("nas_bench_macro", "sgnas_micro", "spos_channel", "greedynas", "resnet_micro_bits")


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Twenty-four images of noise in three classes."""
    root, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for label in "abc":
        (root / "train" / label).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "train" / label / f"{number}.png")
    return load_images(str(root), "train")


def trained_supernet(name):
    torch.manual_seed(0)
    space = SPACES[name]
    net = make_supernet(space, 3)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics that fit no path
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    side = 64 if name == "greedynas" else 32
    look = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "crop_pct": 1.0}
    images = torch.randint(0, 256, (20, 3, side, side), dtype=torch.uint8)
    record = {"source": "noise", "split": "train", "holdout": 0.1, "seed": 0}
    return TrainedSupernet(net.eval().requires_grad_(False), side, ("a", "b", "c"), look, record, {}, images)


def alone(trained, arch, images, accelerator):
    network = trained.inherit(arch).to(memory_format=torch.channels_last).eval()
    set_input(network)
    return evaluate(network, [*measuring_loader(images, network, accelerator)], accelerator)


def family(space, count):
    """Architectures of which each differs from the one before from some layer on, or not at all."""
    rng = random.Random(0)
    found = [space.sample(rng)]
    while len(found) < count:
        other, part = space.sample(rng), rng.randrange(len(space.layers) + 1)
        found.append(space.arch([*found[-1].picks[:part], *other.picks[part:]]))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_those_of_each_subnet_alone(name, noise):
    trained, accelerator = trained_supernet(name), make_accelerator()
    archs = family(trained.supernet.space, 6 if name == "greedynas" else 10)
    score = InheritedAccuracy(trained, noise, accelerator)
    wanted = [alone(trained, arch, noise, accelerator) for arch in archs]
    for arch, figures in zip(archs, wanted, strict=True):
        assert score.measure(arch) == pytest.approx(figures, rel=1e-5)
    assert len({round(figures["loss"], 4) for figures in wanted}) > len(archs) // 2  # or they would prove nothing
    assert score(archs) == [figures["top1"] for figures in wanted]


def test_only_what_differs_is_run(noise, monkeypatch):
    trained, accelerator = trained_supernet("nas_bench_macro"), make_accelerator()
    ran = []
    run = sharing._run
    monkeypatch.setattr(sharing, "_run", lambda key, *rest: ran.append(len(key)) or run(key, *rest))
    score = InheritedAccuracy(trained, noise, accelerator)
    first, second, third = (trained.supernet.space.parse(text) for text in ("11111111", "11111122", "11001122"))
    score.measure(first)
    assert ran == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    ran.clear()
    score.measure(second)
    assert ran == [7, 8]
    ran.clear()
    score.measure(third)  # the layer that projects, and the one that vanishes
    assert ran == [3, 4, 5, 6, 7]
    ran.clear()
    score([first, third, second])
    assert ran == [3, 4, 5, 6, 7, 8, 7, 8]  # in the order of choices: third is what is there, then first and second


def test_what_memory_does_not_hold_is_run_again(noise, monkeypatch):
    trained, accelerator = trained_supernet("nas_bench_macro"), make_accelerator()
    archs = family(trained.supernet.space, 4)
    wanted = [InheritedAccuracy(trained, noise, accelerator).measure(arch) for arch in archs]
    for most in (0, 10 * 2**20):
        monkeypatch.setattr(sharing, "MOST_BYTES", most)
        score = InheritedAccuracy(trained, noise, accelerator)
        assert [score.measure(arch) for arch in archs] == wanted
        assert sum(level.bytes for level in score._levels) <= most
    assert score._levels  # some are kept
