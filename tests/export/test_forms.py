"""Networks of every form, saved, loaded and exported to every format: in float32 and in int8."""

import itertools

import pytest
import torch
from exports import images, needs
from scrambled import scramble
from torch import nn

from sgnas_zoo import SPACES, create_model, save_model
from sgnas_zoo.api.exported import ExportedModel
from sgnas_zoo.export import FORMATS, export
from sgnas_zoo.spaces import Form, MBConvKind, Row, SearchSpace
from sgnas_zoo.spaces.sgnas import KERNELS

SPACE = SearchSpace(
    name="tiny_forms", family="sgnas", kind=MBConvKind(), rows=(Row(16, 2, 2),), choices=KERNELS, slots=6,
    search=Form("relu6", "relu6"), final=Form("hard_swish", "hard_swish", se=True, expand_single=False),
    head_chs=64, resolution=32, num_classes=10,
)  # fmt: skip
ARCH = "7-53"
BATCH = images(4, 3, 32, 32, seed=9)


FORMS = [pytest.param(form, marks=() if form == "lite" else pytest.mark.slow) for form in SPACE.forms]


@pytest.fixture(autouse=True)
def space():
    with SPACES.temporarily(SPACE.name, SPACE) as made:
        yield made


def saved(form, folder, **kwargs):
    """A network of a form as its folder gives it back."""
    model = create_model("sgnas", arch=ARCH, space=SPACE.name, form=form, **kwargs)
    return create_model(save_model(scramble(model), folder), pretrained=True).eval()


@torch.no_grad()
def noise(file, model):
    """Mean square of what a file adds to a model's outputs, relative to theirs."""
    wanted = model.eval()(BATCH)
    return ((file(BATCH) - wanted).square().mean() / wanted.square().mean()).item()


def test_the_forms_are_other_networks():
    assert SPACE.forms == ("search", "final", "lite")
    made = [create_model("sgnas", arch=ARCH, space=SPACE.name, form=form) for form in SPACE.forms]
    tensors = [model.state_dict().keys() for model in made]
    assert all(one != other for one, other in itertools.combinations(tensors, 2))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_saved_network_is_exported_in_its_form(name, form, tmp_path):
    needs(name)
    model = saved(form, tmp_path / "net")
    done = export(model, tmp_path / f"net{FORMATS[name].suffix}", name)
    assert done.error < 1e-5
    file = ExportedModel(done.path)
    assert noise(file, model) < 1e-9
    other = create_model("sgnas", arch=ARCH, space=SPACE.name, form=form, act_layer=nn.SiLU)
    other.load_state_dict(model.state_dict())
    assert noise(file, other) > 1e-3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_saved_network_is_quantised_in_its_form(name, form, tmp_path):
    needs(name, int8=True)
    model, suffix = saved(form, tmp_path / "net"), FORMATS[name].suffix
    calibration = images(16, 3, 32, 32, seed=3)
    done = export(model, tmp_path / f"int8{suffix}", name, calibration=calibration, keep_float=1)
    assert len(done.kept) == 1
    assert done.details["precision"] == "int8"
    assert 1e-6 < noise(ExportedModel(done.path), model) < 0.05
