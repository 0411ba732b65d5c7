"""Recipes under autocast: a step of each in bfloat16 on a CPU, and scaled gradients in float16 as on a GPU."""

import json
import shutil

import accelerate
import pytest
import torch
from recipe_runs import (
    BASE,
    MODEL,
    SUPERNET,
    checkpoints,
    furthest,
    run_recipe,
    trained_weights,
    write_colours,
)
from torch.nn import functional as F

from sgnas_zoo.costs import COSTS
from sgnas_zoo.hub.generators import load_generator
from sgnas_zoo.supernet.depthwise import depthwise_conv
from sgnas_zoo.training import runs
from sgnas_zoo.training.checkpoints import Checkpoints
from sgnas_zoo.training.generators import follows

VARIABLE = "ACCELERATE_MIXED_PRECISION"
STEP = ("--epochs", "1", "--batch-size", "16", "--limit", "40")
OTHER_SPACES = {
    "spos": ("--space", "spos_channel", "--resolution", "32", "--sampler", "uniform"),
    "bits": ("--space", "resnet_micro_bits", "--resolution", "16", "--sampler", "uniform"),
}
SAMPLERS = ["fair", "greedy", "sandwich"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="module")
def started(images, tmp_path_factory):
    root, data = tmp_path_factory.mktemp("started"), (*BASE, *STEP, "--dataset", images)
    run_recipe("train_supernet", *SUPERNET, *data, "--output", root / "supernet")
    run_recipe("retrain", *MODEL, *data, "--output", root / "model")
    return root


def recipes(images, started):
    """Each recipe with options for a step or two."""
    data = (*BASE, *STEP, "--dataset", images)
    widths = {name: (*options, "--holdout", "0.4", "--paths", "1", *data) for name, options in OTHER_SPACES.items()}
    supernets = {f"train_supernet {name}": options for name, options in widths.items()}
    samplers = {f"train_supernet {name}": (*SUPERNET, *data, "--sampler", name) for name in SAMPLERS}
    return {
        **samplers,
        **supernets,
        "train_generator": ("--supernet", started / "supernet", *BASE, *STEP[:3], "4", "--dataset", images),
        "retrain": (*MODEL, *data),
        "finetune": ("--model", f"local-dir:{started / 'model'}", *data),
        "distill_generator": ("--steps", "1", "--constraint-batch", "2"),
        "evaluate": ("--model", f"local-dir:{started / 'model'}", "--dataset", images, "--workers", "0"),
    }


NAMES = ["train_supernet fair", "train_supernet greedy", "train_supernet sandwich", "train_supernet spos",
         "train_supernet bits", "train_generator", "retrain", "finetune", "distill_generator", "evaluate"]  # fmt: skip
SLOW = {
    "train_generator",
    "train_supernet greedy",
    "train_supernet sandwich",
    "train_supernet spos",
    "finetune",
    "distill_generator",
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NAMES])
def test_every_recipe_steps_in_bfloat16(name, images, started, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "bf16")
    options = recipes(images, started)
    assert set(options) == set(NAMES)
    recipe = name.split()[0]
    run_recipe(recipe, *options[name], "--output", tmp_path / "run")
    if recipe not in ("distill_generator", "evaluate"):
        weights = trained_weights(tmp_path / "run")
        assert {tensor.dtype for tensor in weights.values()} <= {torch.float32, torch.int64}
        assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("name", ["evaluate", pytest.param("retrain", marks=pytest.mark.slow)])
def test_float16_on_a_cpu_is_float32_and_said_to_be(name, images, started, tmp_path, monkeypatch):
    options = recipes(images, started)[name]
    run_recipe(name, *options, "--output", tmp_path / "full")
    monkeypatch.setenv(VARIABLE, "fp16")
    said = run_recipe(name, *options, "--output", tmp_path / "half")
    assert "accelerate has no float16 on a CPU: this computes in float32" in said
    if name == "retrain":
        assert furthest(trained_weights(tmp_path / "full"), trained_weights(tmp_path / "half")) == 0
        assert "mixed_precision" not in (tmp_path / "half" / "metrics.json").read_text()


@pytest.mark.parametrize(("value", "message"), [("bf17", "did you mean bf16"), ("fp8", "accelerate cannot start: ")])
def test_a_precision_that_is_none_here_is_refused_in_one_line(value, message, images, started, monkeypatch):
    monkeypatch.setenv(VARIABLE, value)
    said = run_recipe("evaluate", *recipes(images, started)["evaluate"], code=2)
    assert message in said
    assert len(said.strip().splitlines()) == 1


class Scaled(accelerate.Accelerator):
    """An accelerator that scales losses as on a GPU: at first by so much that a step is skipped."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.state._mixed_precision, self.native_amp = "fp16", True
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_supernet fair", "train_generator", "finetune"])
def test_a_resumed_run_goes_on_with_its_scaler(name, images, started, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "Accelerator", Scaled)
    monkeypatch.setattr(Checkpoints.__init__, "__kwdefaults__", {"every_minutes": 0, "keep": 99})
    options = (*recipes(images, started)[name], "--epochs", 3, "--batch-size", 4, "--checkpoint-minutes", 0)
    recipe = name.split()[0]
    run_recipe(recipe, *options, "--output", tmp_path / "whole")
    found = checkpoints(tmp_path / "whole")
    first, last = found[min(found)], found[max(found)]
    assert (first / "scaler.pt").is_file()
    begun, ended = (torch.load(folder / "scaler.pt", weights_only=True)["scale"] for folder in (first, last))
    assert begun == 2.0**39  # the first step was skipped
    assert ended != begun
    middle = found[sorted(found)[len(found) // 2]]
    (tmp_path / "resumed" / "checkpoints").mkdir(parents=True)
    shutil.copyfile(tmp_path / "whole" / "settings.yaml", tmp_path / "resumed" / "settings.yaml")
    shutil.copytree(middle, tmp_path / "resumed" / "checkpoints" / middle.name)
    run_recipe(recipe, *options, "--output", tmp_path / "resumed", "--resume", "auto")
    assert furthest(trained_weights(tmp_path / "whole"), trained_weights(tmp_path / "resumed")) == 0


def test_a_run_in_another_precision_is_no_continuation(images, tmp_path, monkeypatch):
    options = (*MODEL, *BASE, *STEP, "--dataset", images, "--output", tmp_path / "run")
    run_recipe("retrain", *options)
    monkeypatch.setenv(VARIABLE, "bf16")
    said = run_recipe("retrain", *options, "--resume", "auto", code=2)
    assert 'mixed_precision: absent there, "bf16" here' in " ".join(said.split())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (5, 2), (7, 2)])
def test_gradients_of_depthwise_convolutions_under_autocast(kernel, stride, dtype):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 6, 9, 9, requires_grad=True), torch.randn(6, 1, kernel, kernel, requires_grad=True)
    with torch.autocast("cpu", dtype):
        out = depthwise_conv(x, weight, stride)
    assert out.dtype == dtype
    found = torch.autograd.grad(out.float().square().sum(), (x, weight))
    full = F.conv2d(x, weight, None, stride, kernel // 2, groups=6)
    for gradient, wanted in zip(found, torch.autograd.grad(full.square().sum(), (x, weight)), strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - wanted).abs().max() / wanted.abs().max() < 0.02


def test_a_generators_figures_are_of_full_precision(images, started, tmp_path, monkeypatch):
    """What the card says holds for the generator as it is loaded, not as autocast ran it."""
    monkeypatch.setenv(VARIABLE, "bf16")
    run_recipe("train_generator", *recipes(images, started)["train_generator"], "--output", tmp_path / "run")
    generator = load_generator(tmp_path / "run")
    table = COSTS["macs"].table(generator.space, generator.conditions)
    said = json.loads((tmp_path / "run" / "evaluation.json").read_text())["follows"]
    assert said == follows(generator, table)
