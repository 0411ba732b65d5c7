"""The choice-block supernet: a path of it is a stand-alone network, and that network is what it hands down."""

import math
import random

import pytest
import torch
from sampled import paths_of
from scrambled import scramble
from torch import nn
from torch.nn import functional as F

from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.errors import ArchError, SpaceError
from sgnas_zoo.spaces import SPACES, Branch, Choice, Form, Kernels, MBConvKind, Row, SearchSpace, ShuffleKind
from sgnas_zoo.spaces.kinds.shuffle.networks import WidthSupernet
from sgnas_zoo.supernet import (
    ChoiceSupernet,
    UnifiedSupernet,
    calibrate_bn,
    inherit_model,
    inherited_state,
    make_supernet,
)
from sgnas_zoo.supernet.depthwise import DepthwiseConv2d

ROWS = (Row(16, 2, 2), Row(24, 2, 2))
SMALL = {"rows": ROWS, "stem_chs": 8, "head_chs": 32, "resolution": 32, "num_classes": 5}
KINDS = tuple(Choice(str(i), Branch(kernels, 1.0)) for i, kernels in enumerate([(3,), (5,), (3, 3, 3)]))
BLOCKS = (
    Choice("k3e2", Kernels((3, 3))), Choice("k5e3s", Kernels((5, 5, 5), se=True)), Choice("k7e3", Kernels((7, 7, 7))),
    Choice("id", Kernels()),
)  # fmt: skip
SCALES = tuple(Choice(letter, Branch(scale=scale)) for letter, scale in zip("abc", (0.4, 1, 1.6), strict=True))
WIDTHS = (*(Choice(choice.label, Branch(choice.adds.kernels)) for choice in KINDS), *SCALES)
RELU = Form("relu", "relu")
SMALL_SPACES = [
    SearchSpace(name="kinds", family="spos", kind=ShuffleKind(), choices=KINDS, final=RELU, first_chs=8, **SMALL),
    SearchSpace(
        name="widths", family="spos_channel", kind=ShuffleKind(), choices=WIDTHS, slots=2, final=RELU, first_chs=8,
        **SMALL,
    ),
    SearchSpace(
        name="blocks", family="greedynas", kind=MBConvKind(identity=True), choices=BLOCKS, first_chs=8,
        final=Form("relu", "hard_swish", expand_single=False), **SMALL,
    ),
]  # fmt: skip
CHOICE_SPACES = [SPACES[name] for name in ("spos", "spos_channel", "greedynas", "greedynas_se", "nas_bench_macro")]
every_space = pytest.mark.parametrize("space", [*SMALL_SPACES, *CHOICE_SPACES], ids=lambda space: space.name)
small_space = pytest.mark.parametrize("space", SMALL_SPACES, ids=lambda space: space.name)


def scrambled(space):
    """A supernet of which nothing is neutral, in double precision."""
    return scramble(make_supernet(space, 5)).double()


def images(count=4, side=32, seed=0):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


@every_space
def test_a_fresh_supernet_takes_every_class_to_be_as_likely(space):
    torch.manual_seed(0)
    net = make_supernet(space, 10).train()
    x = torch.randn(4, 3, 64, 64)
    loss = F.cross_entropy(net(x, space.sample(random.Random(0))), torch.arange(4))
    assert abs(loss.item() - math.log(10)) < 0.5


def one_hot(arch):
    probs = torch.zeros(arch.space.shape, dtype=torch.double)
    for layer, picks in enumerate(arch.picks):
        probs[layer, range(len(picks)), list(picks)] = 1
    return probs


def far(found, wanted):
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def archs(space, count=3):
    return [space.sample(random.Random(i)) for i in range(count)]


@small_space
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_path_is_the_network_that_inherits_it(space, training):
    net, x = scrambled(space).train(training), images()
    assert isinstance(net, ChoiceSupernet)
    for arch in archs(space):
        model = inherit_like(net, arch)
        assert model.training is training
        wanted = net(x, arch)
        assert far(model(x), wanted) < 1e-9
        if training:  # the norms have learned the same on both sides; later paths start from there
            assert far(model.eval()(x), inherit_like(net, arch).eval()(x)) < 1e-9
        other = next(other for other in archs(space, 9) if other != arch)
        if not training:
            assert far(net(x, other), wanted) > 1e-3  # the control


def inherit_like(net, arch):
    """What inherits, in double precision too."""
    model = inherit_model(net, arch).double()
    model.load_state_dict(inherited_state(net, arch))
    return model


@every_space
def test_one_architecture_is_the_same_as_path_as_probabilities_and_inherited(space):
    net, x = scrambled(space).eval(), images(2)
    for arch in archs(space, 2):
        wanted = net(x, arch)
        assert far(net(x, one_hot(arch)), wanted) < 1e-9
        assert far(inherit_like(net, arch)(x), wanted) < 1e-9


@small_space
def test_relaxed_blocks_add_up_by_their_probabilities(space):
    """Mixed in the last layer only, the map before the head is the weighted sum of the maps of the choices."""
    net, x, seen = scrambled(space).eval(), images(2), []
    net.conv_head.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    arch, last = space.sample(random.Random(1)), len(space.layers) - 1
    allowed = space.layers[last].allowed[0]
    parts = torch.linspace(1, 2, len(allowed), dtype=torch.double) / torch.linspace(1, 2, len(allowed)).sum()
    probs = one_hot(arch)
    probs[last, 0] = 0
    probs[last, 0, list(allowed)] = parts
    net(x, probs)
    mixed = seen.pop()
    total = torch.zeros_like(mixed)
    for part, choice in zip(parts, allowed, strict=True):
        net(x, space.arch([*arch.picks[:last], (choice, *arch.picks[last][1:])]))
        total += part * seen.pop()
    assert far(mixed, total) < 1e-9


@small_space
def test_every_probability_has_a_gradient(space):
    net = scrambled(space).eval().requires_grad_(False)
    logits = torch.zeros(space.shape, dtype=torch.double)
    for layer, row in enumerate(space.layers):
        for slot, allowed in enumerate(row.allowed):
            forbidden = [choice for choice in range(len(space.choices)) if choice not in allowed]
            logits[layer, slot, forbidden] = -100.0
    logits.requires_grad_()
    net(images(2), logits.softmax(-1)).square().sum().backward()
    for layer, row in enumerate(space.layers):
        for slot, allowed in enumerate(row.allowed):
            assert (logits.grad[layer, slot, list(allowed)] != 0).all()


@every_space
def test_gradients_are_those_of_plain_convolutions(space):
    fast, plain, fewer = scrambled(space).train(), scrambled(space).train(), 0
    for part in plain.modules():
        if type(part) is DepthwiseConv2d:
            part.__class__, fewer = nn.Conv2d, fewer + 1
    assert fewer
    arch = space.sample(random.Random(3))
    for net in (fast, plain):
        net(images(), arch).square().sum().backward()
    wanted = {name: parameter.grad for name, parameter in plain.named_parameters()}
    largest = max(gradient.abs().max() for gradient in wanted.values() if gradient is not None)
    for name, parameter in fast.named_parameters():
        assert (parameter.grad is None) == (wanted[name] is None)
        if parameter.grad is not None:  # that of a bias which a norm takes away is rounding alone
            size = max(wanted[name].abs().max(), 1e-6 * largest)
            assert (parameter.grad - wanted[name]).abs().max() < 1e-9 * size
    assert all(type(part) is not DepthwiseConv2d for part in inherit_model(fast, arch).modules())


@small_space
def test_a_step_trains_what_the_path_uses_and_nothing_else(space):
    net, arch = scrambled(space).train(), space.sample(random.Random(2))
    F.cross_entropy(net(images(), arch), torch.arange(4)).backward()
    for number, picks in enumerate(arch.picks):
        for choice in space.layers[number].allowed[0]:
            if choice != space.skip:
                trained = [parameter.grad is not None for parameter in net.block(number, choice).parameters()]
                assert all(trained) if choice == picks[0] else not any(trained)
    assert all(parameter.grad is not None for parameter in net.conv_head.parameters())


def test_a_narrow_path_leaves_the_outer_channels_alone():
    space = SMALL_SPACES[1]
    net = scrambled(space).train()
    state = {name: tensor.clone() for name, tensor in net.layers.state_dict().items()}
    arch = space.arch([(0, 3)] * 4)
    F.cross_entropy(net(images(), arch), torch.arange(4)).backward()
    for number in range(4):
        width, block = net.width(number, (0, 3)), net.block(number, 0)
        first, norm = block.branch_main[0], block.branch_main[1]
        assert 0 < width < first.out_channels
        assert (first.weight.grad[:width] != 0).any()
        assert not first.weight.grad[width:].any()
        before = state[f"{number}.0.branch_main.1.running_mean"]
        assert not torch.equal(norm.running_mean[:width], before[:width])
        assert torch.equal(norm.running_mean[width:], before[width:])


@small_space
def test_a_supernet_learns_and_hands_down_what_it_learned(space):
    torch.manual_seed(0)
    net, x, labels = make_supernet(space, 4), images(16).float(), torch.arange(16) % 4
    x = x * 0.3 + F.one_hot(labels, 4)[:, :3, None, None].float()  # classes by colour
    optimizer, losses = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9), []
    arch = space.sample(random.Random(0))
    for _ in range(30):
        loss = F.cross_entropy(net.train()(x, arch), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    model = calibrate_bn(inherit_model(net.eval(), arch), [x])
    assert F.cross_entropy(model(x), labels) < losses[0]


def test_residual_blocks_may_begin_as_the_identity():
    space, x = SMALL_SPACES[2], images(2).float()
    for begins in (False, True):
        torch.manual_seed(0)
        net = make_supernet(space, 5, zero_init_last=begins).eval()
        same = far(net(x, space.parse("k3e2-k3e2-k3e2-k3e2")), net(x, space.parse("k3e2-id-k3e2-id")))
        assert (same < 1e-6) is begins


@every_space
def test_paths_and_probabilities_of_other_spaces_are_refused(space):
    net = make_supernet(space, 2)
    other = next(s for s in SMALL_SPACES if s != space)
    with pytest.raises(ArchError, match=f"This path is of {other.name}, the supernet of {space.name}"):
        net(images(1).float(), other.sample(random.Random(0)))
    with pytest.raises(ArchError, match="have the shape"):
        net(images(1).float(), torch.ones(2, 1, 3))
    with pytest.raises(ArchError, match=f"This architecture is of {other.name}"):
        inherit_model(net, other.sample(random.Random(0)))


def test_each_space_gets_the_supernet_that_serves_it():
    kinds = {
        name: type(make_supernet(SPACES[name], 2)) for name in ("sgnas_micro", "spos", "spos_channel", "greedynas")
    }
    assert list(kinds.values()) == [UnifiedSupernet, ChoiceSupernet, WidthSupernet, ChoiceSupernet]
    with pytest.raises(SpaceError, match=r"a layer has several slots\. Train a unified one"):
        ChoiceSupernet(SPACES["sgnas_micro"])


# --- Sampling in FLOPs bins


def macs_of(sampler, steps, paths=2, name="spos"):
    space = SPACES[name]
    table = COSTS["macs"].table(space, native_conditions(space))
    return [table.measure(path) / 1e6 for step in range(steps) for path in paths_of(sampler, space, 0, step, paths)]


def shares(costs):
    """Shares of the released bins: 10M each from 290M to 360M."""
    counts = [sum(low <= cost < low + 10 for cost in costs) for low in range(290, 360, 10)]
    return [count / len(costs) for count in counts]


def test_uniform_paths_spend_what_the_authors_counted():
    """12,500 uniform paths over the bins, as one of them reported in an issue of the released code."""
    published = [132, 828, 2366, 3941, 3482, 1406, 312]
    ours = shares(macs_of("uniform", 1500))
    assert all(abs(share - count / 12500) < 0.03 for share, count in zip(ours, published, strict=True))


def test_flops_bins_reach_the_ends_that_uniform_paths_miss():
    uniform, binned = shares(macs_of("uniform", 100)), shares(macs_of("flops_bins", 100))
    assert uniform[0] + uniform[-1] < 0.08
    assert binned[0] + binned[-1] > 0.15
    assert all(0.05 < share < 0.3 for share in binned)


@pytest.mark.parametrize("paths", [1, 4])
def test_a_sandwich_needs_a_widest(paths):
    for name in ("spos", "spos_channel", "greedynas"):
        with pytest.raises(SpaceError, match=rf"sandwich sampler starts at the widest, which {name} does not have"):
            paths_of("sandwich", SPACES[name], 0, 0, paths)


@pytest.mark.parametrize("name", ["spos", "spos_channel", "greedynas", "nas_bench_macro", "resnet_micro_bits"])
def test_fair_paths_train_every_choice_of_every_slot_once(name):
    space = SPACES[name]
    orders = set()
    for step in range(5):
        for layer in range(len(space.layers)):
            for slot, allowed in enumerate(space.layers[layer].allowed):
                paths = paths_of("fair", space, 0, step, len(allowed))
                drawn = [path.picks[layer][slot] for path in paths]
                assert sorted(drawn) == sorted(allowed)
                orders.add(tuple(drawn))
        assert any(
            sorted(path.picks[0][0] for path in paths_of("uniform", space, 0, step, len(allowed))) != sorted(allowed)
            for step in range(20)
        )  # which others do not
    assert len(orders) > 5
