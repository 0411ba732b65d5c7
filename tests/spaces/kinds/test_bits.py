"""Mixed precision: bits as choices, convolutions that round, their supernet, and networks that keep their bits."""

import random

import pytest
import timm
import torch
from click.testing import CliRunner
from sampled import paths_of
from scrambled import scramble
from timm.models import ResNet
from torch.nn import functional as F

import sgnas_zoo
from sgnas_zoo.api.profiles import find_profile
from sgnas_zoo.cli.main import main
from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.errors import ArchError, BudgetError, SpaceError
from sgnas_zoo.export import export
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.models.counting import count_bitops
from sgnas_zoo.models.quantised import QuantisedConv2d, quantise_activations, quantise_weights
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.spaces import SPACES, BitsKind, Row, SearchSpace
from sgnas_zoo.spaces.kinds.bits.networks import QuantisedSupernet
from sgnas_zoo.spaces.resnet_bits import CHOICES, FORM
from sgnas_zoo.supernet import calibrate_bn, inherit_model, inherited_state, make_supernet

NAMES = [name for name in SPACES if isinstance(SPACES[name].kind, BitsKind)]
MICRO = SPACES["resnet_micro_bits"]
SMALL = SearchSpace(
    name="small_bits", family="resnet_micro_bits", kind=BitsKind(stem_kernel=3), choices=CHOICES, final=FORM,
    stem_chs=64, first_chs=64, head_chs=32,
    rows=(Row(16, 1, 1), Row(16, 2, 1), Row(24, 2, 1), Row(32, 2, 2)), resolution=32, num_classes=4,
)  # fmt: skip


def images(count=4, side=32, seed=0):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def drawn(space, seed=0):
    return space.sample(random.Random(seed))


def far(found, wanted):
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def one_hot(arch):
    probs = torch.zeros(arch.space.shape, dtype=torch.double)
    for layer, (pick,) in enumerate(arch.picks):
        probs[layer, 0, pick] = 1
    return probs


def test_there_are_spaces_of_bits():
    assert {"resnet18_bits", "resnet34_bits", "resnet_micro_bits"} <= set(NAMES)


# --- BitOps


@pytest.mark.parametrize(
    ("name", "published"),
    [("resnet18_bits", {2: 6.32, 3: 14.21, 4: 25.27}), ("resnet34_bits", {2: 13.21, 3: 29.72, 4: 52.83})],
)
def test_uniform_networks_have_the_published_bitops(name, published):
    """1904.00420, in units of 2^30; stem and classifier do not count."""
    space = SPACES[name]
    table = COSTS["bitops"].table(space, native_conditions(space))
    for bits, expected in published.items():
        arch = space.parse("-".join([f"{bits}{bits}"] * len(space.layers)))
        assert round(table.measure(arch) / 2**30, 2) == expected


@pytest.mark.parametrize("name", NAMES)
def test_counted_bitops_are_those_of_the_built_model(name):
    space = SPACES[name]
    for seed, side in enumerate((64, 97, 224)):
        arch = drawn(space, seed)
        model = build_model(space.family, arch, "final", num_classes=7)
        counted = count_bitops(model, side)
        assert COSTS["bitops"].table(space, native_conditions(space, resolution=side)).measure(arch) == counted > 0
        more = space.arch([(len(space.choices) - 1,), *arch.picks[1:]])
        if more != arch:
            assert count_bitops(build_model(space.family, more, "final"), side) > counted
    assert count_bitops(timm.create_model("resnet18"), 64) == 0


# --- Rounding


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_are_rounded_as_torch_rounds_them(bits):
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(bits), requires_grad=True)
    most = 2 ** (bits - 1) - 1
    steps = 2 * weight.detach().abs().mean((1, 2, 3)) / most**0.5
    zeros = torch.zeros(6, dtype=torch.int32)
    wanted = torch.fake_quantize_per_channel_affine(weight.detach(), steps, zeros, 0, -most, most)
    found = quantise_weights(weight, bits)
    assert torch.allclose(found, wanted, rtol=1e-6, atol=0)
    assert all(len(channel.unique()) <= 2**bits - 1 for channel in found)
    assert far(quantise_weights(weight, bits + 1), wanted) > 1e-3  # the control
    upstream = torch.randn(found.shape)
    found.backward(upstream)
    inside = weight.detach().abs() < most * steps[:, None, None, None]
    assert bits > 2 or not inside.all()
    assert torch.equal(weight.grad, upstream * inside)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_activations_are_cut_and_rounded_and_the_clip_learns_from_what_it_cuts(bits):
    x = (2 * torch.randn(4, 5, 6, 6, generator=torch.Generator().manual_seed(bits))).requires_grad_()
    clip = torch.tensor(1.7, requires_grad=True)
    most = 2**bits - 1
    found = quantise_activations(x, clip, bits)
    wanted = torch.fake_quantize_per_tensor_affine(x.detach(), 1.7 / most, 0, 0, most)
    assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert len(found.unique()) == 2**bits
    upstream = torch.randn(found.shape)
    found.backward(upstream)
    inside, above = (x > 0) & (x < clip), x > clip
    assert torch.equal(x.grad, upstream * inside)
    assert torch.isclose(clip.grad, upstream[above].sum())


@pytest.mark.parametrize("clip", [0.1, 0.7, 1.1, 2.3, 2.9, 3.0, 5.3, 7.7])
def test_the_clip_learns_whatever_its_rounding(clip):
    for bits in (2, 3, 4):
        learned = torch.tensor(clip, requires_grad=True)
        quantise_activations(torch.tensor([0.05, 100.0]), learned, bits).sum().backward()
        assert learned.grad == 1


def test_zeros_and_vanished_clips_stay_finite():
    assert not quantise_weights(torch.zeros(2, 2, 3, 3), 2).any()
    clip = torch.tensor(-1.0, requires_grad=True)
    out = quantise_activations(torch.tensor([0.0, 1.0]), clip, 2)
    out.sum().backward()
    assert out.isfinite().all()
    assert clip.grad.isfinite()


# --- Networks


@pytest.mark.parametrize("name", NAMES)
def test_any_bits_by_string_make_a_resnet_of_timms(name):
    arch = drawn(SPACES[name])
    model = timm.create_model(name, arch=str(arch), num_classes=5).eval()
    assert isinstance(model, ResNet)
    chosen = [(m.weight_bits, m.act_bits) for m in model.modules() if isinstance(m, QuantisedConv2d)]
    assert len(chosen) == len(arch.picks)
    assert sorted(chosen) == sorted(arch.space.choices[pick].adds for (pick,) in arch.picks)
    with torch.no_grad():
        assert model(images(2, 64)).shape == (2, 5)
        features = timm.create_model(name, arch=str(arch), features_only=True)(images(1, 64))
    assert [f.shape[1] for f in features] == [64, *(row.out_chs for row in SPACES[name].rows)]


def test_the_networks_are_timms_own_but_for_the_rounding():
    """With its convolutions put back, the network of ResNet-18's bits computes what timm's ResNet-18 computes."""
    ours = timm.create_model("resnet18_bits").eval()
    theirs = timm.create_model("resnet18").eval()
    state = {name: tensor for name, tensor in ours.state_dict().items() if not name.endswith(".clip")}
    theirs.load_state_dict(state)
    x = images(2, 64)
    with torch.no_grad():
        assert far(ours(x), theirs(x)) > 1e-3
        for module in ours.modules():
            if isinstance(module, QuantisedConv2d):
                module.forward = lambda x, conv=module: F.conv2d(x, conv.weight, None, conv.stride, conv.padding)
        assert far(ours(x), theirs(x)) < 1e-5


def test_bits_survive_a_save_and_a_load(tmp_path):
    model = scramble(sgnas_zoo.create_model("resnet_micro_bits", arch=str(drawn(MICRO, 3)), num_classes=3)).eval()
    sgnas_zoo.save_model(model, tmp_path / "model")
    for again in (
        timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval(),
        sgnas_zoo.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval(),
    ):
        with torch.no_grad():
            assert torch.equal(model(images()), again(images()))
        pairs = zip(model.modules(), again.modules(), strict=True)
        convs = [(a, b) for a, b in pairs if isinstance(a, QuantisedConv2d)]
        assert len(convs) == len(MICRO.layers)
        for own, other in convs:
            assert (own.weight_bits, own.act_bits) == (other.weight_bits, other.act_bits)
            rounded = quantise_weights(other.weight, other.weight_bits)
            assert all(len(channel.unique()) <= 2**own.weight_bits - 1 for channel in rounded)
    assert str(drawn(MICRO, 3)) in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize("features_only", [False, True])
def test_the_deploy_form_computes_the_same(features_only):
    model = scramble(timm.create_model("resnet_micro_bits", arch=str(drawn(MICRO)), features_only=features_only)).eval()
    with torch.no_grad():
        expected, got = model(images()), sgnas_zoo.deploy(model)(images())
    for own, other in zip(expected, got, strict=True):
        assert (own - other).abs().max() <= 1e-5 * own.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "pt2"])
def test_it_is_exported_with_its_bits(tmp_path, name):
    arch = drawn(MICRO)
    model = scramble(timm.create_model("resnet_micro_bits", arch=str(arch), num_classes=3)).eval()
    done = export(model, tmp_path / f"model.{name}", format=name)
    assert done.error < 1e-4


def test_spaces_that_timm_cannot_build_are_refused():
    rows = (Row(16, 1, 1), Row(16, 2, 1), Row(24, 1, 1), Row(32, 2, 1))
    with pytest.raises(SpaceError, match="four stages of strides 1, 2, 2, 2"):
        SearchSpace(
            name="x", family="x", kind=BitsKind(), choices=CHOICES, final=FORM, stem_chs=64, first_chs=64, rows=rows
        )
    with pytest.raises(SpaceError, match="output_stride needs a space with a stride-2 stem"):
        timm.create_model("resnet_micro_bits", output_stride=16)


# --- Budgets


def a_generator(space=MICRO):
    torch.manual_seed(0)
    conditions = native_conditions(space)
    table = COSTS["bitops"].table(space, conditions)
    return ArchGenerator(drawn(space), "bitops", conditions, (table.minimum, table.maximum), width=8)


def test_a_budget_of_bitops_is_never_exceeded():
    budgets = [80e6, 120e6, 160e6, 200e6, 290e6]
    for budget, result in zip(budgets, sgnas_zoo.generate(bitops=budgets, generator=a_generator()), strict=True):
        assert 0.99 * budget <= result.costs["bitops"] <= budget
        assert result.record()["bitops"] == result.costs["bitops"]
    model = sgnas_zoo.create_model(bitops=160e6, generator=a_generator())
    assert model.zoo["bitops"] == count_bitops(model, 32) <= 160e6


@pytest.mark.parametrize(
    ("budgets", "space", "message"),
    [
        ({"bitops": 1e6}, "resnet_micro_bits", "below what resnet_micro_bits can do"),
        ({"bitops": 1e6}, "sgnas_imagenet", "sgnas_imagenet has no BitOps"),
        ({"bitops": 200}, "resnet_micro_bits", "did you mean 200e6"),
    ],
)
def test_budgets_out_of_range_are_refused(budgets, space, message):
    generator = a_generator() if space == "resnet_micro_bits" else None
    with pytest.raises(BudgetError, match=message):
        sgnas_zoo.generate(**budgets, space=None if generator else space, generator=generator)


def table_of_times(drop=()):
    """A CSV of times as a device with an integer unit may have: by weights, bits and map."""
    rows = ["layer,choice,median_ms", "fixed,,1.5"]
    for layer in range(len(MICRO.layers)):
        rows += [
            f"{layer},w{w}_a{a},{0.01 * w * a + 0.1:.4f}"
            for w, a in (choice.adds for choice in CHOICES) if (layer, w, a) not in drop
        ]  # fmt: skip
    return "\n".join(rows)


def from_csv(text, tmp_path):
    (tmp_path / "times.csv").write_text(text)
    made = ["profile", "--space", "resnet_micro_bits", "--from-csv", tmp_path / "times.csv", "--device", "board",
            "--runtime", "integers", "--output", tmp_path / "board.json"]  # fmt: skip
    return CliRunner().invoke(main, [str(argument) for argument in made])


def test_latency_of_a_device_with_few_bits_is_a_budget(tmp_path):
    assert from_csv(table_of_times(), tmp_path).exit_code == 0
    profile = tmp_path / "board.json"
    table = find_profile(profile).table(MICRO, native_conditions(MICRO))
    assert (table.minimum, table.maximum) == pytest.approx((1.5 + 12 * 0.14, 1.5 + 12 * 0.26))
    with pytest.warns(UserWarning, match="error of the profile of board is not known"):
        (result,) = sgnas_zoo.generate(
            latency="4ms", bitops=200e6, profile=profile, measure=False, generator=a_generator()
        )
    assert 3.9 < result.latency.predicted_ms <= 4 or 198e6 < result.costs["bitops"] <= 200e6
    assert result.latency.predicted_ms == pytest.approx(table.measure(result.arch))
    assert result.latency.predicted_ms <= 4
    (tmp_path / "gap").mkdir()
    gap = from_csv(table_of_times(drop=[(3, 2, 4)]), tmp_path / "gap")
    assert (gap.exit_code, "This profile lacks layer 3 as w2_a4" in gap.stderr) == (2, True)


# --- The supernet


def scrambled(space=SMALL):
    """A supernet of which nothing is neutral, with clips that cut a little."""
    net = scramble(make_supernet(space, 4)).double()
    for name, tensor in net.state_dict().items():
        if name.endswith("clips"):
            tensor.uniform_(1, 3, generator=torch.Generator().manual_seed(len(name)))
    return net


def inherit_like(net, arch):
    model = inherit_model(net, arch).double()
    model.load_state_dict(inherited_state(net, arch))
    return model


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_path_is_the_network_that_inherits_it(training):
    net, x = scrambled().train(training), images().double()
    assert isinstance(net, QuantisedSupernet)
    for seed in range(3):
        arch, other = drawn(SMALL, seed), drawn(SMALL, seed + 10)
        model = inherit_like(net, arch)
        wanted = net(x, arch)
        assert far(model(x), wanted) < 1e-9
        assert far(inherit_like(net, other).train(training)(x), wanted) > 1e-3  # the control
        if training:
            assert far(model.eval()(x), inherit_like(net, arch).eval()(x)) < 1e-9
            net = scrambled().train()


def test_one_hot_probabilities_are_the_path_and_all_have_gradients():
    net, x, arch = scrambled().eval().requires_grad_(False), images(2).double(), drawn(SMALL)
    assert far(net(x, one_hot(arch)), net(x, arch)) < 1e-9
    logits = torch.zeros(SMALL.shape, dtype=torch.double, requires_grad=True)
    net(x, logits.softmax(-1)).square().sum().backward()
    assert (logits.grad != 0).all()


def test_relaxed_convolutions_add_up_by_their_probabilities():
    net = scrambled().eval()
    conv, x = net.net.layer1[0].conv1, images(2)[:, :1].double().expand(-1, 64, -1, -1).abs()
    probs = torch.linspace(1, 2, len(CHOICES), dtype=torch.double) / torch.linspace(1, 2, len(CHOICES)).sum()
    wanted = sum(conv(x, choice.adds) * prob for choice, prob in zip(CHOICES, probs, strict=True))
    weighted = [(*choice.adds, prob) for choice, prob in zip(CHOICES, probs, strict=True)]
    assert far(conv.relaxed(x, weighted), wanted) < 1e-9
    assert far(conv.relaxed(x, weighted[:-1]), wanted) > 1e-3  # the control


def test_a_step_trains_shared_weights_and_the_clips_of_its_bits():
    net, arch = scrambled().train(), SMALL.parse("-".join(["24"] * len(SMALL.layers)))
    F.cross_entropy(net(10 * images().double(), arch), torch.arange(4)).backward()
    convs = [module for module in net.modules() if hasattr(module, "clips")]
    assert len(convs) == len(SMALL.layers)
    for conv in convs:
        assert (conv.weight.grad != 0).any()
        of = dict(zip(conv.act_bits, conv.clips.grad, strict=True))
        assert of[2] == of[3] == 0
    assert sum(conv.clip(4).item() != 0 and conv.clips.grad[-1].item() != 0 for conv in convs) > len(convs) // 2


def test_a_supernet_of_bits_learns_and_hands_down_what_it_learned():
    torch.manual_seed(0)
    net, labels = make_supernet(SMALL, 4), torch.arange(16) % 4
    x = images(16) * 0.3 + F.one_hot(labels, 4)[:, :3, None, None].float()  # classes by colour
    optimizer, losses = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9), []
    for step in range(40):
        (arch,) = paths_of("uniform", SMALL, 0, step, 1)
        loss = F.cross_entropy(net.train()(x, arch), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert sum(losses[-5:]) < sum(losses[:5]) / 2
    arch = drawn(SMALL)
    model = calibrate_bn(inherit_model(net.eval(), arch), [x])
    assert F.cross_entropy(model(x), labels) < losses[0]


def test_bins_are_of_bitops_where_bits_are_chosen():
    table = COSTS["bitops"].table(MICRO, native_conditions(MICRO))

    def spread(sampler):
        costs = [table.measure(paths_of(sampler, MICRO, 0, step, 1)[0]) for step in range(200)]
        return sum(abs(cost - sum(costs) / len(costs)) for cost in costs) / len(costs)

    assert spread("flops_bins") > 1.4 * spread("uniform")


def test_paths_of_other_spaces_are_refused():
    net = make_supernet(SMALL)
    with pytest.raises(ArchError, match="This path is of resnet_micro_bits, the supernet of small_bits"):
        net(images(1), drawn(MICRO))
    with pytest.raises(ArchError, match=r"This architecture is of resnet_micro_bits"):
        inherit_model(net, drawn(MICRO))
