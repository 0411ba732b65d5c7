import copy
import warnings
from itertools import product

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, MixedConv2d, ScaledStdConv2d, StdConv2d
from torch import nn
from torch.nn.utils import parametrizations, prune, weight_norm

import sgnas_zoo
from sgnas_zoo import deploy
from sgnas_zoo.errors import ModelError
from sgnas_zoo.models.deploy import merged_depthwise
from sgnas_zoo.zoo import zoo_entries

TOLERANCE = 1e-5
EXACT = 1e-10
"""Of float64: what hundreds of layers make of the rounding of float32 differs with the machine's BLAS."""
OTHERS = [
    "resnet18", "resnet26t", "resnetblur18", "seresnet50", "resnext50_32x4d", "res2net50_14w_8s",
    "mobilenetv2_050", "mobilenetv3_small_075", "mobilenetv3_rw", "tf_mobilenetv3_small_minimal_100",
    "mobilenetv4_conv_small", "efficientnet_b0", "tf_efficientnet_lite0", "tf_efficientnetv2_b0", "mixnet_s",
    "mnasnet_050", "spnasnet_100", "semnasnet_050", "fbnetv3_b", "tinynet_e", "lcnet_035", "ghostnet_050",
    "ghostnetv2_100", "hardcorenas_a", "dla34", "dla46_c", "hrnet_w18_small", "densenet121", "selecsls42b",
    "hardcorenas_b", "dpn48b", "skresnet18", "repghostnet_050", "resnetv2_50", "levit_128s", "xception41",
    "legacy_seresnet18", "starnet_s1", "fasternet_t0", "regnetx_002",
]  # fmt: skip
"""Forty networks of timm, of many builders; of the last one, everything stays."""
CLASSES_OF_FEATURES = ["list", "dict", "getter", "hook", "fx"]


def lively(model):
    """Give batch norms statistics that matter: fresh ones are the identity, and folding them wrongly would not show."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            if module.track_running_stats:
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
            for name, parameter in module.named_parameters(recurse=False):
                nn.init.normal_(parameter, 0, 0.3) if name.startswith("bias") else nn.init.uniform_(parameter, 0.5, 1.5)
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


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_forty_networks_of_timm_compute_the_same(name):
    assert len(set(OTHERS)) == 40
    model = lively(timm.create_model(name, num_classes=10)).double()
    form = deploy(model)
    assert difference(model, form, images(224 if name == "levit_128s" else 64).double()) <= EXACT
    left, had = (sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) for net in (form, model))
    assert left < had or name == OTHERS[-1]


@pytest.mark.parametrize(
    ("space", "form"),
    [*product(["sgnas_micro", "sgnas_cifar"], ["search", "final"]), ("sgnas_imagenet", "lite")],
)
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


class Chain(nn.Module):
    """Two convolutions with a norm behind each; what is made of it below is no longer provably two pairs."""

    def __init__(self, norm=nn.BatchNorm2d, conv=nn.Conv2d):
        super().__init__()
        self.conv1, self.norm1 = conv(3, 3, 3, padding=1), norm(3)
        self.conv2, self.norm2 = conv(3, 3, 3, padding=1), norm(3)

    def forward(self, x):
        return self.norm2(self.conv2(self.norm1(self.conv1(x))))


class ConvTwice(Chain):
    def forward(self, x):
        return super().forward(x) + self.conv1(x.flip(-1))


class NormTwice(Chain):
    def forward(self, x):
        return self.norm1(super().forward(x))


class BlockTwice(Chain):
    def forward(self, x):
        return super().forward(super().forward(x))


class WeightElsewhere(Chain):
    def forward(self, x):
        return super().forward(x) + self.conv1.weight.sum()


class ByKeyword(Chain):
    def forward(self, x):
        return self.norm2(input=self.conv2(input=self.norm1(self.conv1(x))))


def same_module(chain):
    chain.conv2 = chain.conv1


def same_norm(chain):
    chain.norm2 = chain.norm1


def second_name(chain):
    chain.alias, chain.conv1 = chain.conv1, chain.conv1
    chain._modules = dict(sorted(chain._modules.items()))  # the other name comes first


def tied(chain):
    chain.conv2.weight = chain.conv1.weight


def pruned(chain):
    prune.l1_unstructured(chain.conv1, "weight", amount=0.5)
    prune.l1_unstructured(chain.norm2, "weight", amount=1)


def old_weight_norm(chain):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        weight_norm(chain.conv1)


def new_weight_norm(chain):
    parametrizations.weight_norm(chain.conv1)


def spectral(chain):
    parametrizations.spectral_norm(chain.conv1).eval()


def hook_between(chain):
    chain.conv1.register_forward_hook(lambda module, inputs, output: output * 2)


def hook_before_norm(chain):
    chain.norm1.register_forward_pre_hook(lambda module, inputs: (inputs[0].relu(),))


def own_forward(chain):
    chain.conv1.forward = lambda x: nn.functional.conv2d(x, chain.conv1.weight, None, padding=1).tanh()


def half_alike(chain):
    chain.norm1 = nn.BatchNorm2d(3, affine=False)


CHANGED = [same_module, same_norm, second_name, tied, pruned, old_weight_norm, new_weight_norm, spectral, hook_between,
           hook_before_norm, own_forward]  # fmt: skip
ODD = {
    **{kind.__name__: kind for kind in (ConvTwice, NormTwice, BlockTwice, WeightElsewhere)},
    "no statistics": lambda: Chain(lambda chs: nn.BatchNorm2d(chs, track_running_stats=False)),
    "drops": lambda: Chain(lambda chs: BatchNormAct2d(chs, drop_layer=lambda: nn.Upsample(scale_factor=2))),
    "group norm": lambda: Chain(lambda chs: nn.GroupNorm(1, chs)),
    "standardised": lambda: Chain(conv=StdConv2d),
    "standardised and scaled": lambda: Chain(conv=ScaledStdConv2d),
}


def changed(how):
    def make():
        chain = Chain()
        how(chain)
        return chain

    return make


@pytest.mark.parametrize("make", [*ODD.values(), *map(changed, CHANGED)],
                         ids=[*ODD, *(how.__name__ for how in CHANGED)])  # fmt: skip
def test_what_is_no_pair_stays_and_computes_the_same(make):
    torch.manual_seed(0)
    model = lively(make())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wanted = outputs(model, images(8))  # spectral norm and its like look at the model, too
    form = deploy(model)
    assert float((wanted[0] - outputs(form, images(8))[0]).abs().max() / wanted[0].abs().max()) <= TOLERANCE
    assert [m for m in form.modules() if isinstance(m, (nn.BatchNorm2d, nn.GroupNorm))]  # something stayed
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("make", [Chain, changed(half_alike), lambda: Chain(BatchNormAct2d), lambda: Chain().double()])
def test_pairs_are_folded(make):
    """The control: whatever is a pair goes."""
    model = lively(make())
    form, dtype = deploy(model), model.conv1.weight.dtype
    assert difference(model, form, images(8).to(dtype)) <= TOLERANCE
    assert not [m for m in form.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {p.dtype for p in form.parameters()} == {dtype}


def test_a_pair_called_by_keyword_is_no_foreign_error():
    model = lively(ByKeyword())
    assert difference(model, deploy(model), images(8)) <= TOLERANCE


def test_folding_what_is_called_twice_would_show():
    """The control: without the check the outputs are far off."""
    model = lively(ConvTwice())
    form = copy.deepcopy(model)
    form.conv1, form.norm1 = torch.nn.utils.fusion.fuse_conv_bn_eval(form.conv1, form.norm1), nn.Identity()
    assert difference(model, form, images(8)) > 1000 * TOLERANCE


@pytest.mark.parametrize("change", ["padding_mode", "stride", "prune"])
def test_mixed_convolutions_with_something_of_their_own_stay(change):
    mixed = MixedConv2d(8, 8, [3, 5], depthwise=True).eval()
    if change == "prune":
        prune.l1_unstructured(mixed["0"], "weight", amount=0.5)
    elif change == "stride":
        mixed["0"].stride = (2, 2)
    else:
        mixed["0"].padding_mode = "circular"
        mixed["0"]._reversed_padding_repeated_twice = [1] * 4
    assert merged_depthwise(mixed) is mixed


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, torch.optim.swa_utils.AveragedModel])
def test_wrapped_models_are_unwrapped(wrap):
    model = lively(timm.create_model("sgnas", space="sgnas_micro", arch="-".join(["35"] * 8), num_classes=3))
    form = deploy(wrap(model))
    assert type(form) is type(model)
    assert difference(model, form, images(32)) <= TOLERANCE
