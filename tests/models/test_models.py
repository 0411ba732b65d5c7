import random
from dataclasses import replace

import pytest
import torch
from timm.layers import BatchNormAct2d
from timm.models import EfficientNet, ResNet
from torch import nn

from sgnas_zoo.costs import COSTS, Conditions, native_conditions
from sgnas_zoo.errors import SpaceError
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.models.counting import count_macs, count_params
from sgnas_zoo.spaces import SPACES, Choice, Form, Kernels

FORMS = ("search", "final")
EVERY = [(name, form) for name in SPACES for form in SPACES[name].forms]
CONDITIONS = [  # resolution, num_classes, in_chans
    (224, 1000, 3),
    (97, 0, 1),
    (64, 10, 4),
    (33, 7, 3),
    (32, 100, 3),
    (160, 1, 2),
]
SGNAS = SPACES["sgnas_imagenet"]


def conditions_of(space, form, resolution, num_classes, in_chans):
    return native_conditions(space, form=form, resolution=resolution, num_classes=num_classes, in_chans=in_chans)


def predicted(arch, conditions):
    return tuple(COSTS[cost].table(arch.space, conditions).measure(arch) for cost in ("macs", "params"))


def counted(arch, conditions):
    with torch.device("meta"):
        model = build_model(
            arch.space.family, arch, conditions.form, num_classes=conditions.num_classes, in_chans=conditions.in_chans
        )
    return count_macs(model, conditions.resolution, conditions.in_chans), count_params(model)


def built(space, text=None, form="final", seed=0, **kwargs):
    torch.manual_seed(seed)
    arch = space.parse(text) if text else space.sample(random.Random(seed))
    return build_model(space.family, arch, form, **kwargs).eval()


def check_costs(name, form, conditions_to_see):
    space, rng = SPACES[name], random.Random(f"{name} {form}")
    for condition in conditions_to_see:
        arch, conditions = space.sample(rng), conditions_of(space, form, *condition)
        assert predicted(arch, conditions) == counted(arch, conditions), (str(arch), conditions)


def test_there_are_spaces_to_check():
    assert len(SPACES) >= 4


@pytest.mark.parametrize(("name", "form"), EVERY)
def test_costs_are_what_torch_counts(name, form):
    """Each space under all conditions, its forms in turn."""
    forms = SPACES[name].forms
    check_costs(name, form, CONDITIONS[forms.index(form) :: len(forms)])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), EVERY)
def test_costs_are_what_torch_counts_on_many(name, form):
    check_costs(name, form, 3 * CONDITIONS)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("change", [{"resolution": 225}, {"num_classes": 999}, {"in_chans": 4}])
def test_other_conditions_cost_something_else(name, change):
    space = SPACES[name]
    arch = space.sample(random.Random(1))
    exact = conditions_of(space, "final", 224, 1000, 3)
    other = native_conditions(space, **{"resolution": 224, "num_classes": 1000, "in_chans": 3} | change)
    assert predicted(arch, other)[0] != counted(arch, exact)[0]


@pytest.mark.parametrize("form", FORMS)
def test_the_other_form_costs_something_else(form):
    arch = SGNAS.sample(random.Random(2))
    (other,) = {*FORMS} - {form}
    real = counted(arch, native_conditions(SGNAS, form=form))
    wrong = predicted(arch, native_conditions(SGNAS, form=other))
    assert all(a != b for a, b in zip(real, wrong, strict=True))


@pytest.mark.parametrize("name", ["sgnas_imagenet", "sgnas_cifar"])
def test_a_one_slot_layer_expands_in_the_search_form_only(name):
    space = SPACES[name]
    text = "-".join(["3"] * len(space.layers))
    expanding = built(space, text, "search").blocks[1][0]
    assert expanding.conv_pw.in_channels == expanding.conv_pw.out_channels == 16
    assert expanding.conv_dw.groups == 16
    assert expanding.conv_pwl.out_channels == 32
    plain = built(space, text, "final").blocks[1][0]
    assert not hasattr(plain, "conv_pwl")
    assert (plain.conv_pw.in_channels, plain.conv_pw.out_channels) == (16, 32)
    for form in FORMS:
        conditions = native_conditions(space, form=form)
        assert predicted(space.parse(text), conditions) == counted(space.parse(text), conditions)


def test_identity_layers_are_absent():
    space = SPACES["greedynas"]
    texts = ["k3e3"] * len(space.layers)
    free = [i for i, layer in enumerate(space.layers) if space.skip in layer.allowed[0]]
    assert len(free) > 4
    full = built(space, "-".join(texts))
    for i in free:
        texts[i] = "id"
    model = built(space, "-".join(texts))
    blocks = [sum(len(stage) for stage in m.blocks) for m in (full, model)]
    assert blocks == [1 + len(space.layers), 1 + len(space.layers) - len(free)]
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 1000)
    conditions = native_conditions(space)
    assert predicted(space.parse("-".join(texts)), conditions) == counted(space.parse("-".join(texts)), conditions)


@pytest.mark.parametrize(("name", "form"), EVERY)
def test_forward(name, form):
    space = SPACES[name]
    model = built(space, form=form, num_classes=5, in_chans=2)
    assert isinstance(model, EfficientNet | ResNet)
    with torch.no_grad():
        out = model(torch.randn(2, 2, 97, 97))
    assert out.shape == (2, 5)
    assert out.isfinite().all()
    assert not torch.equal(out[0], out[1])


def test_activations_and_squeeze_follow_the_form():
    def kinds(form):
        return {type(module).__name__ for module in built(SGNAS, form=form).modules()}

    assert {"Hardswish", "SqueezeExcite"} <= kinds("final")
    assert "ReLU6" in kinds("search")
    assert "SqueezeExcite" not in kinds("search")


@pytest.mark.parametrize("name", [name for name, form in EVERY if form == "lite"])
def test_a_lite_network_has_relu6_and_no_squeeze_and_excitation(name):
    model = built(SPACES[name], form="lite", num_classes=3)
    kinds = [type(module) for module in model.modules()]
    acts = {kind for kind in kinds if issubclass(kind, nn.ReLU6) or kind.__module__.startswith("torch.nn.modules.act")}
    assert acts == {nn.ReLU6}
    assert kinds.count(nn.ReLU6) == kinds.count(BatchNormAct2d) - sum(
        isinstance(module, BatchNormAct2d) and isinstance(module.act, nn.Identity) for module in model.modules()
    )
    assert not {kind.__name__ for kind in kinds} & {"SqueezeExcite", "Sigmoid", "Hardsigmoid", "HardSwish", "Hardswish"}


@pytest.mark.parametrize("name", ["sgnas_micro", "sgnas_cifar"])
def test_where_final_is_lite_already_both_are_one_network(name):
    space, images = SPACES[name], torch.randn(2, 3, 32, 32)
    final, lite = (built(space, form=form) for form in ("final", "lite"))
    assert torch.equal(final(images), lite(images))


def test_lite_takes_another_time_where_it_does_less():
    less = {name for name in SPACES if SPACES[name].standalone_forms == ("final", "lite")}
    assert less == {"sgnas_imagenet", "greedynas"}
    assert all(SPACES[name].standalone_forms == ("final",) for name in {*SPACES} - less)


@pytest.mark.parametrize("name", [name for name in SPACES if "lite" not in SPACES[name].forms])
def test_a_space_without_a_lite_form_says_what_to_do(name):
    space = SPACES[name]
    for make in (
        lambda: built(space, form="lite"),
        lambda: native_conditions(space, form="lite"),
        lambda: COSTS["macs"].table(space, Conditions("lite")),
    ):
        with pytest.raises(SpaceError, match=rf"^{name} has no lite form.*\(--form final\).*sgnas_imagenet\.$"):
            make()


def test_a_space_of_somebodys_own_has_a_lite_form_by_its_blocks():
    own = replace(SGNAS, name="own", final=Form("relu", "swish", se=True), head_chs=64)
    arch = own.sample(random.Random(3))
    assert predicted(arch, native_conditions(own, form="lite")) == counted(arch, native_conditions(own, form="lite"))
    assert own.forms == ("search", "final", "lite")
    squeezing = replace(own, choices=(*own.choices, Choice("s", Kernels((3,), se=True))))
    assert squeezing.forms == ("search", "final")


@pytest.mark.parametrize(("token", "same"), [("35", True), ("3", False)])
def test_a_lite_network_has_the_tensors_of_the_search_form_but_for_layers_of_one_slot(token, same):
    """Why weights are not inherited into it."""
    text = "-".join([token] * len(SGNAS.layers))
    shapes = [
        {name: tensor.shape for name, tensor in built(SGNAS, text, form).state_dict().items()}
        for form in ("search", "lite")
    ]
    assert (shapes[0] == shapes[1]) is same


@pytest.mark.parametrize(("name", "reductions"), [("sgnas_imagenet", [2, 4, 8, 16, 32]), ("sgnas_cifar", [1, 2, 4, 8])])
def test_feature_maps_have_the_stated_sizes(name, reductions):
    model = built(SPACES[name], features_only=True)
    assert model.feature_info.reduction() == reductions
    with torch.no_grad():
        maps = model(torch.randn(1, 3, 64, 64))
    assert [m.shape[-1] for m in maps] == [64 // r for r in reductions]
    assert [m.shape[1] for m in maps] == model.feature_info.channels()


def test_reset_classifier():
    model = built(SGNAS)
    model.reset_classifier(3)
    assert model.num_classes == 3
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 3)
    model.reset_classifier(0)
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 1280)


@pytest.mark.parametrize("keyword", [{"no_such_keyword": 1}, {"stem_size": 8}, {"block_args": []}])
def test_keywords_that_shape_the_architecture_or_that_nobody_knows(keyword):
    with pytest.raises(TypeError):
        built(SGNAS, **keyword)


def test_counting_leaves_the_model_alone():
    model = built(SPACES["sgnas_cifar"]).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_macs(model, 32)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
