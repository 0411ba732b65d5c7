"""What is small at first while a supernet is trained: kernels, and the sides of images."""

import random

import pytest
import torch
from recipe_runs import SUPERNET, run_recipe
from torch.nn import functional as F

from sgnas_zoo.spaces import SPACES
from sgnas_zoo.supernet import UnifiedSupernet, make_supernet, with_smallest_kernels
from sgnas_zoo.training.supernets import Growth

MICRO = SPACES["sgnas_micro"]


def test_kernels_and_images_grow_each_in_its_epoch():
    growth = Growth(make_supernet(MICRO, 3), kernels=1, images=2)
    path, images, seen = MICRO.sample(random.Random(0)), torch.randn(2, 3, 32, 32), []
    for epoch in range(3):
        growth.begin(epoch, resumed=False)
        seen.append((growth.path(path), growth.resize(images)))
    assert [found for found, _ in seen] == [with_smallest_kernels(path), path, path]
    assert [image.shape[-1] for _, image in seen] == [16, 16, 32]
    assert torch.equal(seen[0][1], F.interpolate(images, 16, mode="area"))
    assert torch.equal(seen[2][1], images)


def test_images_of_an_odd_side_lose_a_pixel():
    assert Growth(make_supernet(MICRO, 3), kernels=0, images=1).resize(torch.ones(1, 3, 33, 33)).shape[-2:] == (16, 16)


@pytest.mark.parametrize("sampler", ["fair", "greedy"])
def test_paths_are_trained_and_ranked_on_small_images_at_first(sampler, colours, tmp_path, monkeypatch):
    sides, forward = [], UnifiedSupernet.forward

    def watched(self, x, path):
        if self.training:
            sides.append(x.shape[-1])
        return forward(self, x, path)

    monkeypatch.setattr(UnifiedSupernet, "forward", watched)
    asked = ("--resolution", 32, "--small-images", 0.5, "--epochs", 2, "--sampler", sampler, "--surrogate-images", 4)
    data = ("--workers", 0, "--batch-size", 16, "--limit", 40, "--dataset", colours, "--output", tmp_path / "run")
    run_recipe("train_supernet", *SUPERNET, *asked, *data)
    half = len(sides) // 2
    assert half
    assert sides == [16] * half + [32] * half
