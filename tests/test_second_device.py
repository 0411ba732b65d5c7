"""All that computes runs on a device that has no float64, and mixes nothing with the CPU."""

import copy
from pathlib import Path

import accelerate
import pytest
import second_device
import timm
import torch
from click.testing import CliRunner
from recipe_runs import NAMES, forget_accelerate, recipes, run_recipe
from second_device import DEVICE, Elsewhere, NoFloat64
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import sgnas_zoo
from sgnas_zoo.cli.main import main
from sgnas_zoo.costs import COSTS
from sgnas_zoo.hub.generators import default_generator
from sgnas_zoo.hub.supernets import load_supernet
from sgnas_zoo.training import runs
from sgnas_zoo.training.evaluation import evaluate
from sgnas_zoo.training.generators import follows
from sgnas_zoo.training.loop.checkpoints import Checkpoints
from sgnas_zoo.training.searching import sharing
from sgnas_zoo.training.surrogate import surrogate_losses

ARCH = "-".join(["357"] * 8)


class There(accelerate.Accelerator):
    """An accelerator that found the device."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.state.device = accelerate.PartialState().device = DEVICE


@pytest.fixture
def there(monkeypatch):
    monkeypatch.setattr(runs, "Accelerator", There)
    monkeypatch.setattr(Checkpoints, "save", lambda self, progress: Path())  # safetensors writes real devices' only
    monkeypatch.setattr(torch, "tensor", second_device.make_tensor)
    with NoFloat64():
        yield
    forget_accelerate()


FAST = {"train_generator", "evaluate"}


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_every_recipe_runs_without_float64(name, colours, started, there, tmp_path):
    more = ("--holdout", "0") if name == "train_supernet bits" else ()
    run_recipe(name.split()[0], *recipes(colours, started)[name], *more, "--output", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["search", "compare"])
def test_commands_that_score_networks_run_without_float64(
    command, colours, started, made, there, tmp_path, monkeypatch
):
    without = torch.no_grad()(evaluate.__wrapped__)  # images kept from outside inference mode: no backend in Python can
    monkeypatch.setattr(sharing, "evaluate", without)
    asked = ("--supernet", started / "supernet", "--dataset", colours, "--population", 4, "--generations", 1,
             "--workers", 0, "--output", tmp_path / "run")  # fmt: skip
    more = ("--flops", "4M") if command == "search" else (
        "--space", "sgnas_micro", "--generator", made / "generator", "--images", 3, "--budgets", "3M,4M",
        "--strategies", "evolution,random,generator",
    )  # fmt: skip
    result = CliRunner().invoke(main, [command, *map(str, (*asked, *more))])
    if result.exception:
        raise result.exception


@pytest.mark.slow
def test_a_supernet_is_measured_without_float64(colours, started, made, there, tmp_path):
    pair = ("--supernet", started / "supernet", "--generator", made / "generator")
    run_recipe("measure_supernet", *pair, "--dataset", colours, "--workers", "0", "--budgets", "2", "--randoms", "1",
               "--output", tmp_path / "run")  # fmt: skip


def test_deploy_folds_without_float64(there):
    model = timm.create_model("sgnas", space="sgnas_micro", arch=ARCH).eval()
    batch = torch.randn(2, 3, 32, 32)
    form = sgnas_zoo.deploy(copy.deepcopy(model).to(DEVICE))
    assert isinstance(form.conv_stem.weight, Elsewhere)
    assert not [m for m in form.modules() if isinstance(m, nn.BatchNorm2d)]
    assert torch.allclose(form(batch.to(DEVICE)).cpu(), model(batch), atol=1e-5)


def test_a_generator_answers_from_the_device(there):
    generator = copy.deepcopy(default_generator("sgnas_micro"))
    wanted = [str(result.arch) for result in sgnas_zoo.generate(flops=[3e6, 4e6, 5e6], generator=generator)]
    generator.to(DEVICE)
    assert [str(result.arch) for result in sgnas_zoo.generate(flops=[3e6, 4e6, 5e6], generator=generator)] == wanted
    assert generator.logits(flops=[4e6]).device == DEVICE
    table = COSTS["macs"].table(generator.space, generator.conditions)
    assert follows(generator, table)["distance_percent"] < 100


def test_networks_are_inherited_and_calibrated_on_the_device(there, made):
    trained, here = load_supernet(made / "supernet"), load_supernet(made / "supernet")
    arch = trained.supernet.space.parse(ARCH)
    trained.supernet.to(DEVICE)
    found = trained.inherit(arch)
    assert {parameter.device for parameter in found.parameters()} == {DEVICE}
    wanted = here.inherit(arch).state_dict()
    for name, tensor in found.state_dict().items():
        assert torch.allclose(tensor.cpu(), wanted[name], atol=1e-5), name


def test_figures_are_those_of_the_cpu(there, made):
    net = load_supernet(made / "supernet").supernet
    archs = [net.space.parse(ARCH), net.space.parse("-".join(["3"] * 8))]
    loader = [(torch.randn(7, 3, 32, 32), torch.arange(7) % 3, 1) for _ in range(3)]
    found = []
    for make in (lambda: accelerate.Accelerator(cpu=True), There):
        forget_accelerate()
        accelerator = make()
        device = accelerator.device
        net.to(device)

        def moved():
            return ((x.to(device), y.to(device), unread) for x, y, unread in loader)  # noqa: B023

        figures = evaluate(lambda x: net.eval()(x, archs[0]), moved(), accelerator)
        losses = surrogate_losses(net, moved(), accelerator, resize=lambda images: images)
        found.append([*figures.values(), *losses(archs)])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0][3:5] == [21, 3]


def as_before(generator, evaluate_on):
    """What the library did before, a line each."""
    conv, norm = nn.Conv2d(3, 3, 3).eval().to(DEVICE), nn.BatchNorm2d(3).eval().to(DEVICE)
    return {
        "deploy": lambda: fuse_conv_bn_eval(conv.double(), norm.double()),
        "evaluate": lambda: torch.zeros(5, dtype=torch.float64, device=evaluate_on),
        "logits": lambda: generator(torch.tensor([4e6], dtype=torch.float64, device=evaluate_on)),
        "scores": lambda: generator(torch.tensor([4e6])).double(),
    }


@pytest.mark.parametrize("place", ["deploy", "evaluate", "logits", "scores"])
def test_float64_on_the_device_would_be_seen(place, there):
    """The control."""
    generator = copy.deepcopy(default_generator("sgnas_micro")).to(DEVICE)
    with pytest.raises((TypeError, RuntimeError), match=r"float64"):
        as_before(generator, DEVICE)[place]()


def test_the_mode_refuses_what_the_device_allows(monkeypatch):
    """Real devices that have float64 are watched, too."""
    monkeypatch.setattr(second_device, "WIDE", (torch.float32,))
    with NoFloat64(), pytest.raises(TypeError, match=r"float32"):
        torch.zeros(2, device=DEVICE)
