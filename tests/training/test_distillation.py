"""A teacher: what it sees, what is learned from it, and what a recipe makes of it."""

import json

import pytest
import torch
from recipe_runs import BASE, MODEL, STEP, run_recipe
from torch.nn import functional as F

import sgnas_zoo
from sgnas_zoo.errors import SettingError
from sgnas_zoo.training.config import Distil
from sgnas_zoo.training.distillation import Teacher, distillation_loss, make_teacher

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
COLOURS = ("red", "green", "blue")


def asked(teacher):
    return Distil(teacher=teacher, teacher_weight=None, teacher_temperature=None)


@pytest.mark.parametrize("side", [16, 32])
def test_it_sees_images_as_its_own_config_says(side):
    own = {"input_size": (3, 32, 32), "mean": MEAN, "std": STD}
    network = sgnas_zoo.create_model("sgnas", flops=4e6, pretrained_cfg_overlay=own).eval()
    pixels = torch.rand(2, 3, side, side)
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in ((0.1, 0.2, 0.3), (0.9, 0.8, 0.7)))
    teacher = Teacher(network, "own", {"mean": mean.flatten().tolist(), "std": std.flatten().tolist()})
    large = F.interpolate(pixels, (32, 32), mode="bicubic", antialias=True)
    with torch.no_grad():
        wanted = network((large - torch.tensor(MEAN).view(-1, 1, 1)) / torch.tensor(STD).view(-1, 1, 1))
    assert torch.allclose(teacher((pixels - mean) / std), wanted, atol=1e-4)
    assert not torch.allclose(teacher(pixels), wanted, atol=1e-2)  # the control
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_distance_is_that_of_softened_probabilities(temperature):
    own, taught = torch.randn(5, 7, dtype=torch.double), torch.randn(5, 7, dtype=torch.double)
    p, q = ((each / temperature).softmax(1) for each in (taught, own))
    wanted = (p * (p.log() - q.log())).sum(1).mean() * temperature**2
    assert abs(distillation_loss(own, taught, temperature) - wanted) < 1e-5
    assert distillation_loss(taught, taught + 3, temperature) < 1e-6
    own.requires_grad_()
    (gradient,) = torch.autograd.grad(distillation_loss(own, taught, 1.0), own)
    assert torch.allclose(gradient, (own.softmax(1) - taught.softmax(1)) / 5, atol=1e-6)


def test_without_one_there_is_none():
    assert make_teacher(asked(None), COLOURS, {}) is None
    assert (asked(None).weight, asked(None).temperature) == (0.9, 4.0)
    assert Distil(teacher="x", teacher_weight=0.0, teacher_temperature=1.0).weight == 0.0


@pytest.mark.parametrize("classes", [("red", "green"), ("green", "red", "blue"), ("a", "b", "c", "d")])
def test_one_that_knows_other_classes_is_refused(started, classes):
    with pytest.raises(SettingError, match=r"knows other classes \(red, green, blue, ...\) than the dataset .*; fine-"):
        make_teacher(asked(str(started / "model")), classes, {"mean": MEAN, "std": STD})


def test_a_network_learns_what_its_teacher_answers(colours, started, tmp_path):
    """With all of the loss the teacher's it comes nearer to its teacher than with all of it the labels'."""
    data = (*BASE, "--seed", "5", "--epochs", "10", "--batch-size", "16", "--dataset", colours)
    for name, weight in (("taught", 1), ("told", 0)):
        lesson = ("--teacher", started / "model", "--teacher-weight", weight, "--teacher-temperature", 2)
        run_recipe("retrain", *MODEL, *data, *lesson, "--crop", "pad", "--output", tmp_path / name)
    pixels = torch.randint(0, 60, (15, 3, 16, 16)) + 100 * torch.eye(3)[torch.arange(15) % 3][:, :, None, None]
    models = [
        sgnas_zoo.create_model(f"local-dir:{folder}", pretrained=True).eval()
        for folder in (started / "model", tmp_path / "taught", tmp_path / "told")
    ]
    mean, std = (torch.tensor(models[0].pretrained_cfg[name]).view(-1, 1, 1) for name in ("mean", "std"))
    teacher, taught, told = (model((pixels / 255 - mean) / std) for model in models)
    assert distillation_loss(taught, teacher, 1.0) < 0.5 * distillation_loss(told, teacher, 1.0)
    record = json.loads((tmp_path / "taught" / "config.json").read_text())["zoo"]
    assert record["teacher"]["id"] == "model"
    assert record["training"]["teacher_weight"] == 1
    assert str(started) not in json.dumps(record["training"])
    assert "| teacher | `model` |" in (tmp_path / "taught" / "README.md").read_text()


def test_a_recipe_refuses_a_teacher_of_other_classes_in_one_line(colours, tmp_path):
    said = run_recipe("retrain", *MODEL, *BASE, *STEP, "--dataset", colours, "--teacher", "resnet18",
                      "--output", tmp_path / "run", code=2)  # fmt: skip
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "model.safetensors").exists()
