"""The unified supernet against vectors of the released one, and against a plain one written from the paper."""

import copy
import importlib.util
import itertools
import os
import random
import socket
from collections import Counter

import pytest
import timm
import torch
import warm
from hypothesis import given, settings
from hypothesis import strategies as st
from places import REFERENCE, TESTS
from safetensors.torch import load_file
from sampled import paths_of
from scrambled import scramble
from timm.layers import DropPath
from torch import nn
from torch.nn import functional as F

from sgnas_zoo.errors import ArchError, DataError, SpaceError, UnknownNameError
from sgnas_zoo.spaces import SPACES, Arch, Form, MBConvKind, Row, SearchSpace
from sgnas_zoo.spaces.sgnas import KERNELS
from sgnas_zoo.supernet import (
    SAMPLERS,
    UnifiedSupernet,
    calibrate_bn,
    inherit_model,
    inherited_state,
    with_smallest_kernels,
)
from sgnas_zoo.supernet.depthwise import DepthwiseConv2d, depthwise_conv, restore_depthwise, speed_up_depthwise

VECTORS = REFERENCE / "sgnas_supernet_vectors.safetensors"
MICRO = SPACES["sgnas_micro"]


def module_from(path):
    """A module that is not a part of a package, as siblings of tests are not."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OracleSupernet = module_from(TESTS / "supernet_oracle.py").OracleSupernet


def space_of(name, **changes):
    """A small space; by default three slots, and every block that keeps its shape has a residual."""
    fields = {
        "family": "sgnas",
        "kind": MBConvKind(),
        "rows": (Row(8, 1, 1), Row(16, 2, 2)),
        "choices": KERNELS,
        "slots": 3,
        "final": Form("relu6", "relu6"),
        "stem_chs": 8,
        "stem_stride": 1,
        "first_chs": 8,
        "head_chs": 32,
        "resolution": 16,
        "num_classes": 5,
    }
    return SearchSpace(name=name, **fields | changes)


RELEASED = space_of(
    "released", rows=(Row(16, 2, 1), Row(16, 1, 1), Row(24, 2, 1)), slots=6, stem_chs=32, first_chs=16, head_chs=1280,
    resolution=32, num_classes=10,
)  # fmt: skip
SIX = space_of("six", slots=6, stem_chs=16)
CASES = {
    "six": (SIX, (16, 16)),
    "odd": (space_of("odd", rows=(Row(8, 2, 1), Row(16, 1, 2)), stem_stride=2), (27, 19)),
    "two": (space_of("two", choices=(*KERNELS[1:3], KERNELS[3]), slots=2, final=Form("relu", "hard_swish")), (9, 12)),
    "single": (space_of("single", slots=1), (12, 12)),
    "sgnas_micro": (MICRO, (16, 16)),
}
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def pair(space, seed=0):
    """The supernet and the plain one, in double precision, with one state."""
    net, plain = scramble(UnifiedSupernet(space), seed).double(), OracleSupernet(space).double()
    plain.load_state_dict(net.state_dict())
    return net, plain


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def far(found, wanted):
    """Largest difference, as a share of the largest value; of a thousandth, where all are tiny."""
    return ((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-3)).item()


def smoothed(logits, labels=None):
    labels = torch.arange(len(logits)) % logits.shape[1] if labels is None else labels
    return F.cross_entropy(logits, labels, label_smoothing=0.1)


def drawn(sampler, space, seed=3, step=5, paths=3):
    """Paths of a sampler; the one space whose layers have a single slot knows uniform ones alone."""
    return paths_of(sampler if space.slots > 1 else "uniform", space, seed, step, paths)


# --- Against the released supernet


@pytest.fixture(scope="module")
def vectors():
    return load_file(VECTORS)


def released_state(vectors):
    """The state without the skips' convolutions, whose output the released supernet multiplies by zero."""
    state = {name[6:]: tensor for name, tensor in vectors.items() if name.startswith("state.")}
    dead = [name for name in state if name.endswith("blocks.3.weight")]
    assert len(dead) == 3 * 6
    return {name: tensor for name, tensor in state.items() if name not in dead}


def walk(net, x, path):
    """A path that may be outside the space: the released ones skip slot 0 at times."""
    if not isinstance(net, UnifiedSupernet):
        return net(x, path)
    x = net.before(x)
    for layer, picks in zip(net.stages, path.tolist(), strict=True):
        x = layer(x, tuple(picks))
    return net.after(x)


@pytest.fixture(params=[UnifiedSupernet, OracleSupernet], ids=["unified", "oracle"])
def released(request, vectors):
    net = request.param(RELEASED)
    net.load_state_dict(released_state(vectors))
    return net


@pytest.mark.parametrize("number", range(4))
def test_it_computes_what_was_released(released, vectors, number):
    x, path = vectors["x"], vectors[f"path.{number}"]
    released.eval()
    assert far(walk(released, x, path), vectors[f"eval_logits.{number}"]) < 1e-5
    assert far(walk(released, x, path.flip(1)), vectors[f"eval_logits.{number}"]) > 1e-2
    released.train()
    logits = walk(released, x, path)
    assert far(logits, vectors[f"train_logits.{number}"]) < 1e-5
    assert far(smoothed(logits, vectors["y"]), vectors[f"loss.{number}"]) < 1e-5


@pytest.mark.parametrize("number", range(4))
def test_its_gradients_are_the_released_ones(released, vectors, number):
    released.double().train()  # in single precision one ReLU6 at its edge moves them by a thousandth
    smoothed(walk(released, vectors["x"].double(), vectors[f"path.{number}"]), vectors["y"]).backward()
    gradients = {name: parameter.grad for name, parameter in released.named_parameters()}
    wanted = {name: tensor for name, tensor in vectors.items() if name.startswith(f"grad.{number}.")}
    assert len(wanted) == 4
    for name, gradient in wanted.items():
        assert far(gradients[name.removeprefix(f"grad.{number}.")], gradient) < 1e-4


@torch.no_grad()
def test_its_relaxed_pass_is_the_released_one(released, vectors):
    released.eval()
    probs = vectors["soft.probabilities"]
    assert far(released(vectors["x"], probs), vectors["soft.logits"]) < 1e-5
    assert far(released(vectors["x"], probs.flip(1)), vectors["soft.logits"]) > 1e-2


# --- Against the plain supernet


def compare_gradients(net, plain):
    """Compare all, and count those there are: what is off the path has none, so that no weight decay moves it."""
    found, wanted = dict(net.named_parameters()), dict(plain.named_parameters())
    assert found.keys() == wanted.keys()
    there = [name for name, parameter in found.items() if parameter.grad is not None]
    for name in found.keys() - set(there):
        assert wanted[name].grad is None or not wanted[name].grad.any()
    for name in there:
        reference = wanted[name].grad
        off = (found[name].grad - reference).abs().max().item()
        assert off < 1e-8 * reference.abs().max().item() + 1e-12, name  # some are zero but for rounding
    assert sum(wanted[name].grad.abs().max().item() > 1e-6 for name in there) > len(there) / 2
    return len(there)


def on_path(space, arch):
    """Number of parameter tensors that the path uses: 12 around the layers, 4 + 2 + 3 for each candidate in them."""
    return 3 + 6 + 3 + 2 + sum(6 + 3 * sum(pick != space.skip for pick in picks) for picks in arch.picks)


def paths_to_compare():
    """Each sampler in each space; of the one as large as a real one, one sampler is fast."""
    for (case, values), sampler in itertools.product(CASES.items(), SAMPLERS):
        fast = case != "sgnas_micro" or sampler == "uniform"
        yield pytest.param(*values, sampler, id=f"{case}-{sampler}", marks=() if fast else pytest.mark.slow)


@pytest.mark.parametrize(("space", "size", "sampler"), [*paths_to_compare()])
def test_a_path_equals_the_plain_computation(space, size, sampler):
    x = noise(4, 3, *size)
    for arch in drawn(sampler, space):
        net, plain = pair(space)
        with torch.no_grad():
            logits = plain.eval()(x, arch.picks)
            assert far(net.eval()(x, arch), logits) < 1e-9
            assert far(net(x.flip(0), arch), logits) > 1e-2
        before = copy.deepcopy(net.state_dict())
        found, wanted = net.train()(x, arch), plain.train()(x, arch.picks)
        assert far(found, wanted) < 1e-9
        assert far(found, logits) > 1e-2
        smoothed(found).backward()
        smoothed(wanted).backward()
        assert compare_gradients(net, plain) == on_path(space, arch)
        compare_statistics(net, plain, before, arch)


def compare_statistics(net, plain, before, arch):
    """Running statistics: updated where the path runs, untouched elsewhere."""
    wanted = plain.state_dict()
    active = {
        f"stages.{number}.point_wise.bn": [pick != arch.space.skip for pick in picks for _ in range(layer.chs)]
        for number, (layer, picks) in enumerate(zip(net.stages, arch.picks, strict=True))
    }
    compared = 0
    for name, tensor in net.state_dict().items():
        if "running" in name:
            mask = active.get(name.rpartition(".")[0])
            reference = wanted[name] if mask is None else torch.where(torch.tensor(mask), wanted[name], before[name])
            assert far(tensor, reference) < 1e-10, name
            compared += not tensor.equal(before[name])
    assert compared > 2 * len(active)


@pytest.mark.parametrize("space", [SIX, MICRO], ids=lambda space: space.name)
def test_single_precision_is_close(space):
    net, plain = pair(space)
    x = noise(2, 3, 16, 16)
    arch = space.sample(random.Random(0))
    with torch.no_grad():
        assert far(net.float().eval()(x.float(), arch), plain.eval()(x, arch.picks)) < 1e-4


def draw_probs(space, seed):
    """Probabilities of which some are under the limit, and one slot whose kernels all are."""
    probs = (2.5 * noise(*space.shape, seed=seed)).softmax(-1)
    probs[:, -1] = torch.tensor([0.002] * (space.shape[2] - 1) + [1 - 0.002 * (space.shape[2] - 1)])
    probs[:, 0, -1] = 0
    probs[:, 0] /= probs[:, 0].sum(-1, keepdim=True)
    return probs.requires_grad_()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", ["six", "odd", "two"])
def test_the_relaxed_pass_equals_the_plain_computation(case, training):
    space, size = CASES[case]
    x = noise(4, 3, *size)
    counts = set()
    for seed in range(3):
        net, plain = (module.train(training) for module in pair(space, seed))
        probs, own = draw_probs(space, seed), draw_probs(space, seed)
        kernels = probs[..., :-1]
        assert ((kernels > 0) & (kernels <= 0.01)).sum() >= 2 * len(space.layers)
        counts |= {round(layer.sum().item()) for layer in probs[..., -1]}
        found, wanted = net(x, probs), plain(x, own)
        assert far(found, wanted) < 1e-9
        smoothed(found).backward()
        smoothed(wanted).backward()
        assert far(probs.grad, own.grad) < 1e-8
        assert (probs.grad[..., :-1] != 0).equal(kernels > 0.01)
        assert not probs.grad[..., -1].any()
        compare_gradients(net, plain)
        with torch.no_grad():
            assert far(net.eval()(x, probs.flip(0)), net(x, probs)) > 1e-3
    assert len(counts) > 1 or space.slots == 2


@torch.no_grad()
def test_certain_probabilities_are_a_path():
    net = pair(SIX)[0].eval()
    arch = SIX.sample(random.Random(1))
    x = noise(2, 3, 16, 16)
    certain = F.one_hot(torch.tensor(arch.picks), len(SIX.choices)).double()
    assert far(net(x, certain), net(x, arch)) < 1e-12


NUDGES = [  # layer 0 has 8 channels a slot and skips slots 1, 3 and 5
    ("depthwise.blocks.0.blocks.0.conv.weight", ..., True),
    ("depthwise.blocks.0.blocks.1.conv.weight", ..., False),
    ("depthwise.blocks.2.blocks.1.bn.bias", ..., True),
    ("depthwise.blocks.2.blocks.0.bn.bias", ..., False),
    ("depthwise.blocks.1.blocks.0.bn.bias", ..., False),
    ("depthwise.blocks.4.blocks.2.bn.running_var", 3, True),
    ("point_wise.conv.weight", slice(0, 8), True),
    ("point_wise.conv.weight", slice(8, 16), False),
    ("point_wise.bn.running_mean", 32, True),
    ("point_wise.bn.running_mean", 40, False),
    ("point_wise_1.conv.weight", (slice(None), slice(16, 24)), True),
    ("point_wise_1.conv.weight", (slice(None), slice(24, 32)), False),
    ("sbn.3.bias", 0, True),
    ("sbn.2.bias", ..., False),
    ("sbn.4.running_mean", ..., False),
]


@torch.no_grad()
@pytest.mark.parametrize(("name", "where", "counts"), NUDGES)
def test_only_what_is_on_the_path_counts(name, where, counts):
    arch = SIX.parse("30507-35-3575")
    x = noise(2, 3, 16, 16)
    for net, path in zip(pair(SIX), (arch, arch.picks), strict=True):
        logits = net.eval()(x, path)
        net.state_dict()[f"stages.0.{name}"][where] += 0.5
        assert far(net(x, path), logits) > 1e-4 if counts else net(x, path).equal(logits)


def test_no_path_is_kept_on_the_network():
    net = pair(SIX)[0].eval()
    first, second = (SIX.sample(random.Random(seed)) for seed in (0, 1))
    x = noise(2, 3, 16, 16)
    with torch.no_grad():
        alone = net(x, first)
        assert far(net(x, second), alone) > 1e-3
        assert net(x, first).equal(alone)


def test_grown_kernels_compute_what_the_smallest_did():
    space = SPACES["sgnas_micro"]
    net, rng = UnifiedSupernet(space).double(), random.Random(0)
    scramble(net)
    paths = [space.sample(rng) for _ in range(4)]
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    for training in (False, True):
        wanted = [net.train(training)(x, with_smallest_kernels(path)) for path in paths]
        assert far(net(x, paths[0]), wanted[0]) > 1e-3, "the kernels must differ before"
        grown = copy.deepcopy(net)
        grown.grow_kernels()
        assert max(far(grown(x, path), want) for path, want in zip(paths, wanted, strict=True)) < 1e-9


@pytest.mark.parametrize("name", ["sgnas_imagenet", "sgnas_cifar", "sgnas_micro"])
def test_smallest_kernels_keep_the_expansions(name):
    space, rng = SPACES[name], random.Random(1)
    for _ in range(20):
        path = space.sample(rng)
        small = with_smallest_kernels(path)
        for before, after in zip(path.picks, small.picks, strict=True):
            assert [pick == space.skip for pick in before] == [pick == space.skip for pick in after]
            assert {pick for pick in after if pick != space.skip} == {0}


def test_residual_layers_can_start_as_the_identity():
    space = SPACES["sgnas_micro"]
    x = torch.randn(2, 3, 32, 32)
    for begins in (False, True):
        net = UnifiedSupernet(space, zero_init_last=begins)
        layer, maps = next(layer for layer in net.layers() if layer.residual), torch.randn(2, 24, 8, 8)
        assert torch.equal(layer(maps, (0, 1, 2, 3, 3, 3)), maps) == begins
        assert net(x, space.sample(random.Random(0))).isfinite().all()


@pytest.mark.parametrize("name", ["greedynas", "greedynas_se"])
def test_spaces_of_other_blocks_have_no_unified_supernet(name):
    with pytest.raises(
        SpaceError, match=rf"supernet of {name} is not possible; it needs: choices are one kernel each.*search=Form"
    ):
        UnifiedSupernet(SPACES[name])


def test_spaces_without_a_skip_have_no_unified_supernet():
    with pytest.raises(SpaceError, match="a skip last"):
        UnifiedSupernet(space_of("full", choices=KERNELS[:3]))


ALMOST = {
    "falling": {"choices": (*KERNELS[2::-1], KERNELS[3])},
    "se": {"search": Form("relu6", "relu6", se=True)},
    "single": {"search": Form("relu6", "relu6", expand_single=False)},
    "identity": {"kind": MBConvKind(identity=True)},
}


@pytest.mark.parametrize("name", ALMOST)
def test_other_spaces_are_refused_or_inherited(name):
    space = space_of(name, **ALMOST[name])
    arch = space.parse("0-3-357" if name == "identity" else "3-75-357")
    try:
        net = UnifiedSupernet(space).eval()
    except SpaceError:
        return
    x = noise(2, 3, 16, 16).float()
    assert far(inherit_model(net, arch)(x), net(x, arch)) < 1e-4


def test_foreign_paths_are_refused():
    net = UnifiedSupernet(SIX)
    x = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ArchError, match="This path is of sgnas_micro, the supernet of six; sample its own"):
        net(x, MICRO.sample(random.Random(0)))
    with pytest.raises(ArchError, match=r"shape \(3, 6, 4\), not \(3, 4, 6\)"):
        net(x, torch.full((3, 4, 6), 0.25))


# --- Depthwise convolution


def own_and_torch(x, weight, stride, leaf=(True, True)):
    """Output and gradients, ours and torch's."""
    results = []
    for convolve in (
        lambda x, w: depthwise_conv(x, w, stride),
        lambda x, w: F.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2, groups=len(w)),
    ):
        leaves = [t.detach().clone().requires_grad_(wanted) for t, wanted in zip((x, weight), leaf, strict=True)]
        out = convolve(*leaves)
        out.backward(noise(*out.shape, seed=1).to(out))
        results.append((out.detach(), *(t.grad for t in leaves)))
    return zip(*results, strict=True)


SIDES = st.integers(1, 9)


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), SIDES, SIDES),
    kernel=st.sampled_from((1, 3, 5, 7, 9)),
    stride=st.sampled_from((1, 2)),
    layout=st.sampled_from((torch.contiguous_format, torch.channels_last)),
)
def test_outputs_and_gradients_are_those_of_torch(shape, kernel, stride, layout):
    x = noise(*shape).contiguous(memory_format=layout)
    for found, wanted in own_and_torch(x, noise(shape[1], 1, kernel, kernel, seed=2), stride):
        assert found.shape == wanted.shape
        assert far(found, wanted) < 1e-12


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_weight_gradient_is_near_that_of_torch_in_single_precision(kernel, stride):
    x, weight = noise(4, 16, 15, 12).float(), noise(16, 1, kernel, kernel).float()
    (same, _), _, (found, wanted) = ((f, w) for f, w in own_and_torch(x, weight, stride))
    assert same.dtype == torch.float
    assert far(found, wanted) < 1e-5
    assert far(found.flip(2), wanted) > 1e-2


@pytest.mark.parametrize("stride", [1, 2])
def test_the_weight_gradient_is_that_of_finite_differences(stride):
    leaves = noise(2, 2, 5, 6).requires_grad_(), noise(2, 1, 5, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, weight: depthwise_conv(x, weight, stride), leaves)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("leaf", [(True, False), (False, True)])
def test_only_the_gradient_that_is_wanted_is_there(kernel, leaf):
    for found, wanted in own_and_torch(noise(2, 3, 6, 7), noise(3, 1, kernel, kernel), 2, leaf):
        assert (found is None) == (wanted is None)
        assert found is None or far(found, wanted) < 1e-12


@pytest.mark.parametrize(
    ("kernel", "stride", "side", "tiled"),
    [
        (3, 1, 2, True),
        (3, 2, 3, False),
        (5, 2, 4, True),
        (5, 2, 5, False),
        (5, 1, 16, True),
        (7, 2, 6, True),
        (1, 1, 4, False),
        (7, 1, 1, False),
    ],
)
def test_tiles_are_for_kernels_wider_than_the_map_and_wide_ones_of_stride_one(kernel, stride, side, tiled):
    out = depthwise_conv(noise(2, 3, side, side), noise(3, 1, kernel, kernel).requires_grad_(), stride)
    assert (type(out.grad_fn).__name__ == "_TiledDepthwiseBackward") == tiled


@pytest.mark.parametrize(("side", "kernel", "stride"), [(1, 7, 1), (1, 3, 2), (2, 7, 1), (3, 7, 2), (4, 7, 1)])
def test_kernels_are_cut_to_what_meets_the_map(side, kernel, stride, monkeypatch):
    """With a bias, as in evaluation; what is left out has a gradient of zero."""
    x, weight, bias = noise(2, 3, side, side), noise(3, 1, kernel, kernel).requires_grad_(), noise(3)
    wanted, sizes, convolve = F.conv2d(x, weight, bias, stride, kernel // 2, groups=3), [], F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda x, weight, *rest, **named: (
        sizes.append(weight.shape[-1]) or convolve(x, weight, *rest, **named)
    ))  # fmt: skip
    found = depthwise_conv(x, weight, stride, bias)
    assert sizes == ([] if side == 1 else [min(kernel, 2 * side - 1)])
    assert far(found, wanted) < 1e-12
    (gradient,) = torch.autograd.grad(found.square().sum(), weight)
    edge = (kernel - min(kernel, 2 * side - 1)) // 2
    assert gradient.count_nonzero() == gradient[..., edge : kernel - edge, edge : kernel - edge].count_nonzero() > 0


def test_without_gradients_it_is_torch_alone():
    x, weight = noise(2, 3, 6, 7), noise(3, 1, 5, 5).requires_grad_()
    assert type(depthwise_conv(x, weight, 1).grad_fn).__name__ == "_TiledDepthwiseBackward"  # what the others lack
    with torch.no_grad():
        plain = depthwise_conv(x, weight, 1)
    assert plain.grad_fn is None
    assert plain.equal(depthwise_conv(x, weight, 1))
    assert "Tiled" not in type(depthwise_conv(x.requires_grad_(), weight.detach(), 1).grad_fn).__name__


@pytest.mark.parametrize("name", ["sgnas_a", "spos", "mobilenetv3_small_050", "tf_efficientnet_lite0", "resnet10t"])
def test_networks_that_are_sped_up_compute_and_learn_the_same(name):
    """Mixed kernels, shuffle blocks, squeeze-and-excitation; padding that depends on the input and none at all."""
    plain = scramble(timm.create_model(name, num_classes=5)).double().train()
    fast, depthwise = copy.deepcopy(plain), [m for m in plain.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    speed_up_depthwise(fast)
    changed = [module for module in fast.modules() if type(module) is DepthwiseConv2d]
    assert len(changed) == len([module for module in depthwise if type(module) is nn.Conv2d])
    x, found = noise(2, 3, 64, 64), []
    for network in (plain, fast):
        torch.manual_seed(0)
        network(x).square().sum().backward()
        found.append(dict(network.named_parameters()))
    assert found[0].keys() == found[1].keys()
    assert all(far(found[1][key].grad, found[0][key].grad) < 1e-9 for key in found[0])
    assert not changed or far(changed[-1].weight.grad.flip(2), changed[-1].weight.grad) > 1e-3
    restore_depthwise(fast)
    assert [type(module) for module in fast.modules()] == [type(module) for module in plain.modules()]


# --- Inheritance

CIFAR_LIKE = space_of(
    "cifar_like", rows=(Row(16, 1, 2), Row(24, 2, 2), Row(32, 1, 1)), slots=6, first_chs=16,
    search=Form("relu6", "relu6"), final=Form("hard_swish", "hard_swish", se=True, expand_single=False),
)  # fmt: skip
BY_HAND = {  # one slot; equal kernels; skips before active slots; falling kernels
    "sgnas_micro": ["3-5-7-3-5-7-3-5", "33-555-77-3333-55-77-333-3", "300005-70003-50007-3003-7005-50505-30703-70007"],
    "cifar_like": ["7-5-3-5-7", "753-7053-300003-77553-33", "70005-50003-30007-333333-777777"],
}


@pytest.mark.parametrize("space", [MICRO, CIFAR_LIKE, CASES["two"][0]], ids=lambda space: space.name)
def test_an_inherited_model_is_the_path(space):
    net = scramble(UnifiedSupernet(space))
    archs = [arch for sampler in SAMPLERS for arch in drawn(sampler, space, paths=2)]
    archs += [space.parse(text) for text in BY_HAND.get(space.name, ())]
    archs = list(dict.fromkeys(archs))  # a small space repeats itself
    x = noise(4, 3, 16, 16)
    outputs = []
    for arch in archs:
        model, whole = inherit_model(net.eval(), arch).double(), copy.deepcopy(net).double()
        assert not model.training
        with torch.no_grad():
            logits = whole(x, arch)
            assert far(model(x), logits) < 1e-9
            assert far(model.train()(x), whole.train()(x, arch)) < 1e-9
        slices, state = inherited_state(whole, arch), model.state_dict()
        assert slices.keys() == state.keys()
        assert max(far(state[name], tensor) for name, tensor in slices.items() if "running" in name) < 1e-9
        outputs.append(logits)
    assert len(outputs) >= 5
    assert min(far(a, b) for i, a in enumerate(outputs) for b in outputs[:i]) > 1e-3  # so another slice would be seen


def test_an_inherited_model_follows_the_mode_and_the_classes():
    net = UnifiedSupernet(MICRO, num_classes=3, in_chans=1)
    arch = MICRO.sample(random.Random(0))
    model = inherit_model(net, arch, drop_rate=0.5)
    assert model.training
    assert model.drop_rate == 0.5
    assert model.eval()(torch.zeros(2, 1, 16, 16)).shape == (2, 3)


def test_inherited_weights_are_copies():
    net = scramble(UnifiedSupernet(MICRO))
    model = inherit_model(net, MICRO.sample(random.Random(0)))
    before = copy.deepcopy(net.state_dict())
    places = {tensor.data_ptr() for tensor in net.state_dict().values()}
    for state in (model.state_dict(), inherited_state(net, MICRO.sample(random.Random(0)))):
        assert not places & {tensor.data_ptr() for tensor in state.values()}
        assert not any(tensor.requires_grad for tensor in state.values())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    smoothed(model.train()(torch.randn(2, 3, 16, 16))).backward()
    optimizer.step()
    assert all(tensor.equal(before[name]) for name, tensor in net.state_dict().items())


def test_a_foreign_architecture_is_refused():
    with pytest.raises(ArchError, match="This architecture is of six, the supernet of sgnas_micro; take one"):
        inherit_model(UnifiedSupernet(MICRO), SIX.sample(random.Random(0)))


# --- Samplers

SPACES_TO_SAMPLE = {**{name: SPACES[name] for name in SPACES}, **{name: space for name, (space, _) in CASES.items()}}
every_space = pytest.mark.parametrize("space", SPACES_TO_SAMPLE.values(), ids=SPACES_TO_SAMPLE)
VARY = [space for space in SPACES_TO_SAMPLE.values() if space.slots > 1 and space.skip is not None]
every_slotted_space = pytest.mark.parametrize("space", VARY, ids=lambda space: space.name)


def active(space, picks):
    return sum(pick != space.skip for pick in picks)


def test_the_contracts_below_cover_what_is_registered():
    assert set(SAMPLERS) >= {"uniform", "fair", "sandwich"}
    assert len(SPACES_TO_SAMPLE) >= 9
    assert {space.name for space in VARY} >= {"sgnas_imagenet", "sgnas_cifar", "sgnas_micro"}
    with pytest.raises(UnknownNameError, match="did you mean fair"):
        SAMPLERS["fairr"]


@every_sampler
@every_space
def test_paths_of_a_fresh_sampler_are_a_function_of_seed_and_step(space, sampler):
    if space not in VARY and sampler == "sandwich":
        with pytest.raises(SpaceError, match=f"which {space.name} does not have; use fair"):
            paths_of(sampler, space, 0, 0, 4)
        return
    random.seed(1)
    state = random.getstate()
    steps = {(seed, step): tuple(paths_of(sampler, space, seed, step, 4)) for seed in range(3) for step in range(6)}
    assert random.getstate() == state
    assert len(set(steps.values())) == 18
    random.seed(2)
    for (seed, step), paths in reversed(steps.items()):
        assert tuple(paths_of(sampler, space, seed, step, 4)) == paths
        assert len(paths) == 4
        assert all(isinstance(path, Arch) and path.space is space for path in paths)  # so each is in the space


@every_sampler
@pytest.mark.parametrize("space", [MICRO, CASES["two"][0]], ids=lambda space: space.name)
def test_samplers_reach_every_choice(space, sampler):
    paths = [path for step in range(60) for path in paths_of(sampler, space, 0, step, 4)]
    for number, layer in enumerate(space.layers):
        for slot, allowed in enumerate(layer.allowed):
            assert {path.picks[number][slot] for path in paths} == set(allowed)


def uneven_kernels(space, paths):
    """How far apart the counts of a slot's kernels are, at worst."""
    worst = 0
    for number, layer in enumerate(space.layers):
        for slot in range(space.slots):
            counts = Counter(path.picks[number][slot] for path in paths)
            kernels = [counts[pick] for pick in layer.allowed[slot] if pick != space.skip]
            worst = max(worst, max(kernels) - min(kernels))
    return worst


def repeated_expansions(space, paths):
    return any(
        len({active(space, path.picks[number]) for path in paths}) < len(paths) for number in range(len(space.layers))
    )


@every_slotted_space
def test_fair_paths_differ_in_expansion_and_share_the_kernels(space):
    for step in range(25):
        for count in range(1, space.slots + 1):
            paths = paths_of("fair", space, 1, step, count)
            assert not repeated_expansions(space, paths)
            assert uneven_kernels(space, paths) <= 1
        for number in range(len(space.layers)):
            assert {active(space, path.picks[number]) for path in paths} == set(range(1, space.slots + 1))
        many = paths_of("fair", space, 1, step, 2 * space.slots)
        assert uneven_kernels(space, many) <= 1
        assert not repeated_expansions(space, many[: space.slots])
        assert not repeated_expansions(space, many[space.slots :])
        assert all(picks[0] != space.skip for path in many for picks in path.picks)


def test_uniform_paths_are_not_fair():
    drawn = [paths_of("uniform", MICRO, 1, step, 4) for step in range(25)]
    assert all(repeated_expansions(MICRO, paths) for paths in drawn)
    assert all(uneven_kernels(MICRO, paths) > 1 for paths in drawn)


@every_slotted_space
def test_a_sandwich_starts_with_the_widest(space):
    seen = set()
    for step in range(10):
        first, *others = paths_of("sandwich", space, 1, step, 4 if space.slots > 3 else 2)
        assert all(active(space, picks) == space.slots for picks in first.picks)
        assert not repeated_expansions(space, others)
        assert paths_of("sandwich", space, 1, step, 1) == [first]
        seen.add(first)
    assert len(seen) > 5


def test_the_parts_of_a_sandwich_are_drawn_independently():
    steps = [paths_of("sandwich", MICRO, 0, step, 2) for step in range(200)]
    assert len({(first.picks[0][0], second.picks[0][0]) for first, second in steps}) == 9


# --- Calibration


def test_one_batch_gives_its_mean_and_variance():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    scramble(model)
    images = noise(5, 3, 8, 8).float()
    assert calibrate_bn(model, [images]) is model
    wide = model[0](images).transpose(0, 1).flatten(1).detach()
    assert far(model[1].running_mean, wide.mean(1)) < 1e-5
    assert far(model[1].running_var, wide.var(1, unbiased=True)) < 1e-5
    assert far(model[1].running_var, wide.var(1, unbiased=False)) > 1e-3


def test_batches_count_alike():
    model = nn.Sequential(nn.BatchNorm2d(3))
    batches = [(1 + step) * noise(2 + step, 3, 4, 4, seed=step).float() + step for step in range(3)]
    calibrate_bn(model, iter(batches))
    flat = [batch.transpose(0, 1).flatten(1) for batch in batches]
    assert far(model[0].running_mean, sum(batch.mean(1) for batch in flat) / 3) < 1e-5
    assert far(model[0].running_var, sum(batch.var(1) for batch in flat) / 3) < 1e-5
    assert far(model[0].running_var, torch.cat(flat, 1).var(1)) > 1e-2
    calibrate_bn(model, [batches[0]])
    assert far(model[0].running_mean, flat[0].mean(1)) < 1e-5  # nothing of before is left


class Watched(nn.Module):
    """Records the mode it runs in."""

    def __init__(self):
        super().__init__()
        self.modes = []

    def forward(self, x):
        self.modes.append(self.training)
        return x


def test_only_norms_leave_evaluation_mode():
    watched = Watched()
    model = nn.Sequential(nn.Dropout(0.9), DropPath(0.9), watched, nn.BatchNorm2d(3)).train()
    images = noise(4, 3, 4, 4).float()
    calibrate_bn(model, [images, images])
    assert watched.modes == [False, False]
    assert far(model[3].running_mean, images.mean((0, 2, 3))) < 1e-5
    assert not any(module.training for module in model.modules())


def test_an_inherited_model_is_calibrated_alike_whatever_it_drops():
    net, arch = scramble(UnifiedSupernet(MICRO)), MICRO.sample(random.Random(0))
    images = noise(6, 3, 16, 16).float()
    states = []
    for options in ({}, {"drop_rate": 0.5, "drop_path_rate": 0.5}):
        model = inherit_model(net, arch, **options)
        before = copy.deepcopy(model.state_dict())
        states.append(calibrate_bn(model, images.split(3)).state_dict())
        for name, tensor in states[-1].items():
            assert tensor.equal(before[name]) != ("running" in name or "tracked" in name), name
    assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items())


def failing():
    yield torch.zeros(2, 3, 4, 4)
    raise OSError("disk")


@pytest.mark.parametrize(("batches", "error"), [([], DataError), (failing(), OSError)])
def test_momenta_and_mode_come_back_when_calibration_fails(batches, error):
    model = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3), nn.BatchNorm2d(3, momentum=0.01)).train()
    with pytest.raises(error):
        calibrate_bn(model, batches)
    assert [norm.momentum for norm in model] == [0.3, 0.01]
    assert not any(module.training for module in model.modules())
    calibrate_bn(model, [torch.zeros(2, 3, 4, 4)])
    assert [norm.momentum for norm in model] == [0.3, 0.01]


# --- Two processes

TOY = '''
import sys
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.nn import functional as F
from torch.utils.data import DataLoader
from sgnas_zoo.spaces import Form, MBConvKind, Row, SearchSpace
from sgnas_zoo.spaces.sgnas import KERNELS
from sgnas_zoo.supernet import UnifiedSupernet
from sgnas_zoo.supernet.samplers import fair
from sgnas_zoo.training.evaluation import evaluate
from sgnas_zoo.training.loop.parallel import average_buffers, average_gradients

SPACE = SearchSpace(name="toy", family="sgnas", kind=MBConvKind(), rows=(Row(8, 1, 1), Row(16, 2, 2)),
                    choices=KERNELS, slots=3, final=Form("relu6", "relu6"), stem_chs=8,
                    first_chs=8, head_chs=16, resolution=8, num_classes=5)
STEPS, PATHS, ROWS = 3, 2, 7


def network():
    torch.manual_seed(0)
    return UnifiedSupernet(SPACE).train()


def optimizer_of(net):
    return torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9, weight_decay=1e-2)


def backward(net, step, rank):
    """Accumulate the gradients of a step's paths on the images of a rank."""
    drawn = torch.Generator().manual_seed(10 * step + rank)
    images, labels = torch.randn(4, 3, 16, 16, generator=drawn), torch.randint(5, (4,), generator=drawn)
    for path in fair(SPACE, 7, step, PATHS):
        (F.cross_entropy(net(images, path), labels) / PATHS).backward()


def table():
    drawn = torch.Generator().manual_seed(0)
    return torch.randn(ROWS, 6, generator=drawn), torch.randint(6, (ROWS,), generator=drawn)


def collate(rows):
    images, labels = table()
    read = [row for row in rows if row != 2]
    return images[read], labels[read], len(rows) - len(read)


def main(folder):
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(even_batches=False))
    rank = accelerator.process_index
    assert accelerator.num_processes == 2
    net = network()
    optimizer = optimizer_of(net)
    for step in range(STEPS):
        backward(net, step, rank)
        average_gradients(accelerator, net.parameters())
        optimizer.step()
        optimizer.zero_grad()
    own = {name: buffer.clone() for name, buffer in net.named_buffers()}
    average_buffers(accelerator, net)
    loader = accelerator.prepare(DataLoader(range(ROWS), batch_size=2, collate_fn=collate))
    scores = evaluate(lambda images: images, loader, accelerator)
    torch.save({"state": net.state_dict(), "own": own, "scores": scores}, f"{folder}/{rank}.pt")
    accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1])
'''


def launch(path):
    """Run a script in two processes, which find one another as those of torch's launcher do."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
           "MASTER_PORT": str(port)}  # fmt: skip
    started = [warm.start(path, path.parent, env=env | {"RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(2)]
    for done in [process.finish() for process in started]:
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The script as a module, and what its two processes left."""
    path = tmp_path_factory.mktemp("toy") / "toy.py"
    path.write_text(TOY)
    launch(path)
    return module_from(path), [torch.load(path.with_name(f"{rank}.pt"), weights_only=True) for rank in (0, 1)]


def train_in_turn(toy, average):
    """Both ranks in this process, each with a network of its own."""
    nets = [toy.network(), toy.network()]
    optimizers = [toy.optimizer_of(net) for net in nets]
    averaged = 0
    for step in range(toy.STEPS):
        for rank, net in enumerate(nets):
            toy.backward(net, step, rank)
        for first, second in zip(*(net.parameters() for net in nets), strict=True):
            assert (first.grad is None) == (second.grad is None)
            if average and first.grad is not None:
                mean = (first.grad + second.grad) / 2
                first.grad, second.grad = mean, mean.clone()
                averaged += 1
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert averaged > 50 or not average
    return nets


def test_two_processes_train_one_supernet(toy):
    script, results = toy
    first, second = (result["state"] for result in results)
    assert all(tensor.equal(second[name]) for name, tensor in first.items())
    nets = train_in_turn(script, average=True)
    for name, parameter in nets[0].named_parameters():
        assert (first[name] - parameter).abs().max() < 1e-6, name
    alone = train_in_turn(script, average=False)
    assert max((first[name] - p).abs().max().item() for name, p in alone[0].named_parameters()) > 1e-3
    untrained = dict(script.network().named_parameters())
    still = [name for name, parameter in untrained.items() if first[name].equal(parameter)]
    assert any("depthwise.blocks" in name for name in still)  # without a gradient there is no decay either
    assert len(still) < len(untrained) / 2


def test_two_processes_average_their_statistics(toy):
    script, results = toy
    own = [result["own"] for result in results]
    nets = train_in_turn(script, average=True)
    floating = [name for name, buffer in nets[0].named_buffers() if buffer.is_floating_point()]
    assert len(floating) > 50
    for name in floating:
        assert far(results[0]["state"][name], (own[0][name] + own[1][name]) / 2) < 1e-6
        assert far(own[1][name], dict(nets[1].named_buffers())[name]) < 1e-3
    assert any(far(own[0][name], own[1][name]) > 1e-2 for name in floating)


def test_two_processes_count_every_image_once(toy):
    script, results = toy
    logits, labels = script.table()
    read = torch.arange(script.ROWS) != 2  # one process cannot read this one, so their batches are unlike
    logits, labels = logits[read], labels[read]
    wanted = {
        "top1": pytest.approx(100 * (logits.argmax(1) == labels).double().mean().item()),
        "top5": pytest.approx(100 * (logits.argmin(1) != labels).double().mean().item()),
        "loss": pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5),
        "images": script.ROWS - 1,
        "skipped": 1,
    }
    assert [result["scores"] for result in results] == [wanted, wanted]
