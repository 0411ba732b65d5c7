"""Recipes under autocast: a step of each in bfloat16 on a CPU, and scaled gradients in float16 as on a GPU."""

import json
import shutil

import accelerate
import pytest
import torch
from recipe_runs import (
    BASE,
    MODEL,
    NAMES,
    STEP,
    checkpoints,
    furthest,
    recipes,
    run_recipe,
    trained_weights,
)
from timm.optim import create_optimizer_v2
from torch.nn import functional as F

from sgnas_zoo.costs import COSTS
from sgnas_zoo.hub.generators import load_generator
from sgnas_zoo.supernet.depthwise import depthwise_conv
from sgnas_zoo.training import runs
from sgnas_zoo.training.generators import follows
from sgnas_zoo.training.loop.checkpoints import Checkpoints

VARIABLE = "ACCELERATE_MIXED_PRECISION"
SLOW = {
    "train_generator",
    "train_supernet greedy",
    "train_supernet sandwich",
    "train_supernet spos",
    "finetune",
    "distill_generator",
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NAMES])
def test_every_recipe_steps_in_bfloat16(name, colours, started, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "bf16")
    options = recipes(colours, started)
    recipe = name.split()[0]
    run_recipe(recipe, *options[name], "--output", tmp_path / "run")
    if recipe not in ("distill_generator", "evaluate"):
        weights = trained_weights(tmp_path / "run")
        assert {tensor.dtype for tensor in weights.values()} <= {torch.float32, torch.int64}
        assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize(
    ("asked", "launched", "gpu", "wanted"),
    [
        (None, None, False, None), (None, "no", False, None), (None, "bf16", False, None), ("no", None, False, "no"),
        (None, None, True, "bf16"), (None, "no", True, "bf16"), (None, "fp16", True, None), ("no", None, True, "no"),
        ("fp16", "bf16", True, "fp16"),
    ],
)  # fmt: skip
def test_a_training_computes_in_what_was_asked_for_or_in_bfloat16_on_a_gpu(asked, launched, gpu, wanted, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    if launched:
        monkeypatch.setenv(VARIABLE, launched)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert runs.precision(asked) == wanted


def test_the_option_does_what_the_variable_does(colours, started, tmp_path, monkeypatch):
    options = recipes(colours, started)["retrain"]
    for precision in ("bf16", "no"):
        run_recipe("retrain", *options, "--precision", precision, "--output", tmp_path / precision)
    monkeypatch.setenv(VARIABLE, "bf16")
    run_recipe("retrain", *options, "--output", tmp_path / "variable")
    bf16, full, variable = (trained_weights(tmp_path / name) for name in ("bf16", "no", "variable"))
    assert furthest(bf16, variable) == 0
    assert furthest(bf16, full) > 0


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam", "adamw"])
def test_a_fused_optimizer_makes_the_same_steps(kind, monkeypatch):
    with monkeypatch.context() as there:
        there.setattr(torch.cuda, "is_available", lambda: True)
        assert runs.fused("rmsproptf") == {}
        one_kernel = runs.fused(kind)
    networks = []
    for more in (runs.fused(kind), one_kernel):
        network = torch.nn.Linear(3, 2)
        network.load_state_dict({"weight": torch.arange(6.0).view(2, 3), "bias": torch.zeros(2)})
        optimizer = create_optimizer_v2(network, kind, 0.1, 1e-2, 0.9, **more)
        assert bool(optimizer.defaults.get("fused")) == (more is one_kernel)
        for number in range(3):
            network(torch.full((1, 3), number - 0.5)).square().sum().backward()
            optimizer.step()
        networks.append(network)
    assert torch.allclose(networks[0].weight, networks[1].weight, atol=1e-6)


@pytest.mark.parametrize("name", ["evaluate", pytest.param("retrain", marks=pytest.mark.slow)])
def test_float16_on_a_cpu_is_float32_and_said_to_be(name, colours, started, tmp_path, monkeypatch):
    options = recipes(colours, started)[name]
    run_recipe(name, *options, "--output", tmp_path / "full")
    monkeypatch.setenv(VARIABLE, "fp16")
    said = run_recipe(name, *options, "--output", tmp_path / "half")
    assert "accelerate has no float16 on a CPU: this computes in float32" in said
    if name == "retrain":
        assert furthest(trained_weights(tmp_path / "full"), trained_weights(tmp_path / "half")) == 0
        assert "mixed_precision" not in (tmp_path / "half" / "metrics.json").read_text()


@pytest.mark.parametrize(("value", "message"), [("bf17", "did you mean bf16"), ("fp8", "accelerate cannot start: ")])
def test_a_precision_that_is_none_here_is_refused_in_one_line(value, message, colours, started, monkeypatch):
    monkeypatch.setenv(VARIABLE, value)
    for library in ("torchao", "transformer_engine", "msamp"):  # what fp8 needs one of
        monkeypatch.setattr(f"accelerate.accelerator.is_{library}_available", lambda *_, **__: False)
    said = run_recipe("evaluate", *recipes(colours, started)["evaluate"], code=2)
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
def test_a_resumed_run_goes_on_with_its_scaler(name, colours, started, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "Accelerator", Scaled)
    monkeypatch.setattr(Checkpoints.__init__, "__kwdefaults__", {"every_minutes": 0, "keep": 99})
    options = (*recipes(colours, started)[name], "--epochs", 3, "--batch-size", 4, "--checkpoint-minutes", 0)
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


def test_a_run_in_another_precision_is_no_continuation(colours, tmp_path, monkeypatch):
    options = (*MODEL, *BASE, *STEP, "--dataset", colours, "--output", tmp_path / "run")
    run_recipe("retrain", *options)
    monkeypatch.setenv(VARIABLE, "bf16")
    said = run_recipe("retrain", *options, "--resume", "auto", code=2)
    assert 'mixed_precision: absent there, "bf16" here' in " ".join(said.split())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("kernel", "stride", "side"), [(3, 1, 9), (5, 1, 9), (5, 2, 9), (7, 2, 9), (7, 1, 2), (3, 1, 1)]
)
def test_gradients_of_depthwise_convolutions_under_autocast(kernel, stride, side, dtype):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 6, side, side, requires_grad=True), torch.randn(6, 1, kernel, kernel, requires_grad=True)
    with torch.autocast("cpu", dtype):
        out = depthwise_conv(x, weight, stride)
    assert out.dtype == dtype
    found = torch.autograd.grad(out.float().square().sum(), (x, weight))
    full = F.conv2d(x, weight, None, stride, kernel // 2, groups=6)
    for gradient, wanted in zip(found, torch.autograd.grad(full.square().sum(), (x, weight)), strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - wanted).abs().max() / wanted.abs().max() < 0.02


def test_a_generators_figures_are_of_full_precision(colours, started, tmp_path, monkeypatch):
    """What the card says holds for the generator as it is loaded, not as autocast ran it."""
    monkeypatch.setenv(VARIABLE, "bf16")
    run_recipe("train_generator", *recipes(colours, started)["train_generator"], "--output", tmp_path / "run")
    generator = load_generator(tmp_path / "run")
    table = COSTS["macs"].table(generator.space, generator.conditions)
    said = json.loads((tmp_path / "run" / "evaluation.json").read_text())["follows"]
    assert said == follows(generator, table)
