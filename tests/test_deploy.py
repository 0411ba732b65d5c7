import copy
import warnings

import pytest
import timm
import torch
from timm.layers import MixedConv2d
from torch import nn

import sgnas_zoo
from sgnas_zoo import deploy
from sgnas_zoo.errors import ModelError
from sgnas_zoo.models.deploy import merged_depthwise
from sgnas_zoo.zoo import zoo_entries

TOLERANCE = 1e-5
CLASSES_OF_FEATURES = ["list", "dict", "getter", "hook", "fx"]


def lively(model):
    """Give batch norms statistics that matter: fresh ones are the identity, and folding them wrongly would not show."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


def images(size=64, batch=2):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def outputs(model, batch):
    with torch.no_grad():
        out = model(batch)
    return list(out.values()) if isinstance(out, dict) else out if isinstance(out, list) else [out]


def difference(model, other, batch):
    pairs = zip(outputs(model, batch), outputs(other, batch), strict=True)
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("name", [*zoo_entries(), "mobilenetv3_small_050", "efficientnet_lite0", "fbnetc_100"])
def test_outputs_stay_and_no_norm_or_mixed_convolution_is_left(name):
    model = lively(timm.create_model(name))
    form = deploy(model)
    assert difference(model, form, images()) <= TOLERANCE
    assert not [m for m in form.modules() if isinstance(m, nn.BatchNorm2d | MixedConv2d)]


@pytest.mark.parametrize("form", ["search", "final"])
@pytest.mark.parametrize("space", ["sgnas_micro", "sgnas_cifar"])
def test_every_form_of_a_space(space, form):
    arch = "-".join(["357"] * len(sgnas_zoo.SPACES[space].layers))
    model = lively(timm.create_model("sgnas", arch=arch, space=space, form=form))
    assert difference(model, deploy(model), images(32)) <= TOLERANCE


@pytest.mark.parametrize("feature_cls", CLASSES_OF_FEATURES)
def test_feature_extractors(feature_cls):
    model = lively(timm.create_model("sgnas_c", features_only=True, feature_cls=feature_cls))
    assert len(outputs(model, images())) == 5
    assert difference(model, deploy(model), images()) <= TOLERANCE


def test_the_comparison_sees_a_change():
    """The control: a deploy form of other statistics must not pass for one of these."""
    model = lively(timm.create_model("sgnas_c"))
    form = deploy(model)
    with torch.no_grad():
        model.blocks[2][0].bn2.running_mean += 0.1
    assert difference(model, form, images()) > 100 * TOLERANCE


def test_the_model_stays_as_it_is():
    model = lively(timm.create_model("sgnas_c")).train()
    state = torch.get_rng_state()
    before, names = copy.deepcopy(model.state_dict()), [type(m).__name__ for m in model.modules()]
    form = deploy(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not form.training
    assert [type(m).__name__ for m in model.modules()] == names
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in form.parameters())
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())
    with torch.no_grad():
        form.conv_stem.weight.zero_()
    assert model.conv_stem.weight.abs().sum() > 0


def test_it_stays_a_model_of_timm():
    model = lively(sgnas_zoo.create_model("sgnas_c"))
    form = deploy(model)
    assert type(form) is type(model)
    assert form.pretrained_cfg == model.pretrained_cfg
    maps, maps_too = model.forward_features(images()), form.forward_features(images())
    assert torch.allclose(maps, maps_too, atol=1e-4)
    assert form.conv_stem.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("kernels", "stride"), [([3, 5, 7], 1), ([3, 3, 7], 2), ([5, 3], 2)])
def test_merged_kernels_compute_what_each_does_on_its_channels(kernels, stride):
    torch.manual_seed(0)
    channels = 8 * len(kernels)
    mixed = MixedConv2d(channels, channels, kernels, stride=stride, depthwise=True)
    merged = merged_depthwise(mixed)
    assert isinstance(merged, nn.Conv2d)
    assert merged.kernel_size == (max(kernels),) * 2
    batch = torch.randn(2, channels, 15, 15)
    assert torch.allclose(mixed(batch), merged(batch), atol=1e-6)


def test_mixed_convolutions_that_cannot_merge_stay():
    dense = MixedConv2d(8, 8, [3, 5])
    assert merged_depthwise(dense) is dense


def test_a_norm_is_only_folded_where_it_alone_reads_the_convolution():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.conv(x)
            return y + self.norm(y)

    model = lively(Branch())
    form = deploy(model)
    assert isinstance(form.norm, nn.BatchNorm2d)
    assert difference(model, form, images(8)) <= TOLERANCE


def test_a_model_that_cannot_be_traced_is_refused():
    class Moody(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match="Moody cannot be traced"), warnings.catch_warnings():
        deploy(Moody())
