import dataclasses
import itertools
import json
import random

import pytest
import torch
from places import REFERENCE

from sgnas_zoo.costs import COSTS, Conditions, native_conditions
from sgnas_zoo.costs.expectation import expected_cost
from sgnas_zoo.errors import ArchError, SpaceError, UnknownNameError
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.spaces import SPACES, Choice, Form, Kernels, MBConvKind, Row, SearchSpace

REFERENCE = REFERENCE / "sgnas_cost_table.json"
SGNAS = SPACES["sgnas_imagenet"]
PUBLISHED = {
    "A": (
        "573733-7333-353-77375-7533-75557-73377-73333-75573-7553-5735-7737-7353-7735-3733-33373-7337-777-33737",
        6_001_862, 373.18,
    ),
    "B": (
        "5735-553-553-55355-55533-35555-35577-5537-5557-5553-55-555-535-3753-3733-3777-7557-535-33737",
        5_482_272, 326.03,
    ),
    "C": (
        "5535-553-553-553-5553-355-3557-553-555-5553-55-555-535-555-333-75-3577-73-33733",
        4_652_252, 280.56,
    ),
}  # fmt: skip

EVERY = [(SPACES[space], COSTS[cost], form) for space in SPACES for cost in COSTS for form in SPACES[space].forms]


def varies(space, cost, form="final"):
    """Whether a cost depends on the choices: MACs do not on bits, and nothing but bits has BitOps."""
    prices = cost.table(space, native_conditions(space, form=form))
    return prices.minimum < prices.maximum


VARYING = [case for case in EVERY if varies(*case)]
every_varying_cost = pytest.mark.parametrize(
    ("space", "cost", "form"), VARYING, ids=[f"{space.name}-{cost.name}-{form}" for space, cost, form in VARYING]
)
every_cost = pytest.mark.parametrize(
    ("space", "cost", "form"), EVERY, ids=[f"{space.name}-{cost.name}-{form}" for space, cost, form in EVERY]
)

TINY = SearchSpace(
    name="tiny",
    family="sgnas",
    kind=MBConvKind(),
    rows=(Row(16, 1, 1), Row(24, 2, 1)),
    choices=(Choice("3", Kernels((3,))), Choice("7", Kernels((7,))), Choice("0", Kernels())),
    slots=2,
    final=Form("relu", "relu", se=True, expand_single=False),
)


def table(cost, space=SGNAS, **changes):
    return COSTS[cost].table(space, native_conditions(space, **changes))


def random_probs(space, seed, *batch):
    logits = torch.randn(*batch, *space.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return log_probs(space, logits).exp()


def one_hot(arch):
    return torch.nn.functional.one_hot(torch.tensor(arch.picks), len(arch.space.choices)).double()


def test_the_contract_below_covers_every_space_and_cost():
    assert {cost.name for _, cost, _ in EVERY} >= {"macs", "conv_macs", "params"}
    lite = {space.name for space, _, form in EVERY if form == "lite"}
    assert lite == {"sgnas_imagenet", "sgnas_cifar", "sgnas_micro", "greedynas", "nas_bench_macro"}
    assert len(EVERY) == (2 * len(SPACES) + len(lite)) * len(COSTS) >= 24
    assert {space.name for space, _, _ in VARYING} == set(SPACES)
    assert {cost.name for _, cost, _ in VARYING} == set(COSTS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_cost_what_their_authors_state(name):
    text, params, mega_macs = PUBLISHED[name]
    arch = SGNAS.parse(text)
    assert table("params").measure(arch) == params
    assert table("conv_macs").measure(arch) == pytest.approx(mega_macs * 1e6, abs=5e3)


def test_macs_are_conv_macs_and_the_classifier():
    arch = SGNAS.parse(PUBLISHED["A"][0])
    assert table("macs").measure(arch) - table("conv_macs").measure(arch) == 1280 * 1000
    assert table("macs", num_classes=0).measure(arch) == table("conv_macs").measure(arch)


def test_parameters_do_not_depend_on_resolution_but_macs_do():
    arch = SGNAS.parse(PUBLISHED["A"][0])
    assert table("params", resolution=160).measure(arch) == table("params").measure(arch)
    assert table("macs", resolution=160).measure(arch) < table("macs").measure(arch)


def test_input_channels_change_the_stem_only():
    grown, plain = table("params", in_chans=5), table("params")
    assert grown.fixed - plain.fixed == 2 * 32 * 3 * 3
    assert grown.layers == plain.layers


def test_only_the_search_form_keeps_the_expansion_of_a_single_slot():
    search, final = (COSTS["params"].table(SPACES["sgnas_cifar"], Conditions(form)) for form in ("search", "final"))
    for number, layer in enumerate(search.space.layers):
        for variant, kept, dropped in zip(
            search.space.merge(number).variants, search.layers[number], final.layers[number], strict=True
        ):
            expansion = layer.in_chs**2 + 2 * layer.in_chs if len(variant.kernels) == 1 else 0
            assert kept - dropped == expansion


@every_cost
def test_the_expectation_at_a_one_hot_is_the_measure(space, cost, form):
    prices = cost.table(space, native_conditions(space, form=form))
    archs = [space.sample(random.Random(seed)) for seed in range(10)]
    expected = expected_cost(prices, torch.stack([one_hot(arch) for arch in archs]))
    assert expected.tolist() == [prices.measure(arch) for arch in archs]
    assert (len(set(expected.tolist())) > 1) == varies(space, cost, form)


@every_cost
def test_the_range_is_attained_and_holds_all_samples(space, cost, form):
    prices = cost.table(space, native_conditions(space, form=form))
    for pick, bound in ((min, prices.minimum), (max, prices.maximum)):
        picks = []
        for number, (layer, costs) in enumerate(zip(space.layers, prices.layers, strict=True)):
            variant = space.merge(number).variants[costs.index(pick(costs))]
            picks.append(next(p for p in itertools.product(*layer.allowed) if space.variant(p) == variant))
        assert prices.measure(space.arch(picks)) == bound
    samples = [prices.measure(space.sample(random.Random(seed))) for seed in range(50)]
    if prices.over_layers == "max":  # which one layer alone decides
        assert prices.minimum <= min(samples) < max(samples) <= prices.maximum or not varies(space, cost, form)
    elif varies(space, cost, form):
        assert prices.minimum < min(samples) < max(samples) < prices.maximum
    else:
        assert {prices.minimum} == set(samples) == {prices.maximum}


@every_varying_cost
def test_every_choice_that_is_allowed_gets_a_gradient(space, cost, form):
    prices = cost.table(space, native_conditions(space, form=form))
    logits = torch.zeros(space.shape, dtype=torch.float64, requires_grad=True)
    expected_cost(prices, log_probs(space, logits).exp()).backward()
    if prices.over_layers == "max":  # a layer whose dearest block is below what others need never counts
        assert logits.grad.isfinite().all()
        assert logits.grad.abs().max() > 0
        return
    for layer, gradients in zip(space.layers, logits.grad, strict=True):
        for allowed, gradient in zip(layer.allowed, gradients, strict=True):
            assert gradient.isfinite().all()
            assert gradient[list(allowed)].abs().max() > 0
            assert gradient.sum().abs() < 1e-9 * gradient.abs().max()


@pytest.mark.parametrize("cost", [name for name in COSTS if varies(TINY, COSTS[name])])
def test_the_expectation_is_that_of_all_architectures_enumerated(cost):
    prices, probs = table(cost, TINY), random_probs(TINY, seed=0)
    total, expected = 0.0, 0.0
    for flat in itertools.product(*(slot for layer in TINY.layers for slot in layer.allowed)):
        arch = TINY.arch([flat[:2], flat[2:]])
        prob = (one_hot(arch) * probs).sum(-1).prod().item()
        total += prob
        expected += prob * prices.measure(arch)
    assert total == pytest.approx(1)
    assert expected_cost(prices, probs).item() == pytest.approx(expected, rel=1e-12)
    mean_slots = prices.measure(TINY.parse("3-3")), prices.measure(TINY.parse("77-77"))
    assert mean_slots[0] < expected < mean_slots[1]


def test_the_expectation_is_batched_over_all_leading_dimensions():
    prices, probs = table("macs"), random_probs(SGNAS, 1, 2, 3)
    expected = expected_cost(prices, probs)
    assert expected.shape == (2, 3)
    for i, j in itertools.product(range(2), range(3)):
        assert expected[i, j].item() == pytest.approx(expected_cost(prices, probs[i, j]).item(), rel=1e-12)


def test_search_form_agrees_with_the_reference_lookup_table():
    reference = json.loads(REFERENCE.read_text())
    prices = table("conv_macs", form="search")
    assert len(reference["depthwise"]) == len(SGNAS.layers) == 19
    for seed in range(20):
        arch = SGNAS.sample(random.Random(seed))
        total = reference["fixed"]
        for number, picks in enumerate(arch.picks):
            labels = [SGNAS.choices[pick].label for pick in picks]
            active = [label for label in labels if label != "0"]
            depthwise, pointwise = reference["depthwise"][str(number)], reference["pointwise"][str(number)]
            total += sum(depthwise[f"k{label}"] for label in active)
            total += (pointwise["point_1"] + pointwise["point_2"]) * len(active) / 6
        assert prices.measure(arch) == pytest.approx(total * 1e6, rel=1e-9)


def test_an_arch_of_another_space_has_no_measure():
    with pytest.raises(ArchError, match="prices sgnas_imagenet, not sgnas_cifar"):
        table("macs").measure(SPACES["sgnas_cifar"].parse(PUBLISHED["A"][0]))


@pytest.mark.parametrize(
    ("field", "value", "least"),
    [
        ("resolution", 0, 1),
        ("resolution", 224.0, 1),
        ("resolution", True, 1),
        ("resolution", "224", 1),
        ("num_classes", -1, 0),
        ("num_classes", None, 0),
        ("in_chans", 0, 1),
    ],
)
def test_conditions_out_of_range_are_refused(field, value, least):
    with pytest.raises(SpaceError, match=f"{field} is {value!r}; give a whole number of at least {least}"):
        Conditions(**{field: value})


def test_an_unknown_form_is_refused_with_a_near_match():
    with pytest.raises(UnknownNameError, match="Unknown form 'serach': did you mean search"):
        table("macs", form="serach")


def test_native_conditions_are_those_of_the_space_unless_changed():
    cifar = SPACES["sgnas_cifar"]
    assert native_conditions(cifar) == Conditions("final", 32, 100, 3)
    assert native_conditions(cifar, form="search", num_classes=10) == Conditions("search", 32, 10, 3)


def test_an_unknown_cost_is_refused_with_a_near_match():
    with pytest.raises(UnknownNameError, match="Unknown cost 'mac': did you mean macs"):
        COSTS["mac"]


def test_a_table_is_a_frozen_value():
    assert table("macs") == table("macs") != table("conv_macs")
    with pytest.raises(dataclasses.FrozenInstanceError):
        table("macs").fixed = 0
