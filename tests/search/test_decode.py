import dataclasses
import itertools
import re

import numpy as np
import pytest
import torch

from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.errors import BudgetError
from sgnas_zoo.search.bounds import Bound
from sgnas_zoo.search.decode import decode
from sgnas_zoo.search.ranges import check_range
from sgnas_zoo.search.relaxation import allowed_mask, log_probs
from sgnas_zoo.spaces import SPACES, Choice, Form, Kernels, MBConvKind, Row, SearchSpace

SGNAS = SPACES["sgnas_imagenet"]
WITNESS = "3-3-3-3-3-3-3-3-3-300333-3-3-3-3-333355-557777-777777-777777-777777"
"""Below 200 M MACs, with the most parameters that are known there."""
EVERY = [SPACES[name] for name in SPACES]
ROWS = {
    2: (Row(16, 1, 1), Row(32, 2, 1)),
    3: (Row(24, 2, 2), Row(40, 2, 1)),
}


def small_space(layers):
    return SearchSpace(
        name=f"small{layers}",
        family="sgnas",
        kind=MBConvKind(),
        rows=ROWS[layers],
        choices=(Choice("3", Kernels((3,))), Choice("7", Kernels((7,))), Choice("0", Kernels())),
        slots=2,
        final=Form("relu", "relu", se=True, expand_single=False),
        head_chs=8,
        num_classes=0,
        resolution=32,
    )


def table(cost, space=SGNAS):
    return COSTS[cost].table(space, native_conditions(space))


def opposed(table):
    """A cost that falls as that of ``table`` rises, as no counted cost does but a measured one may."""
    layers = tuple(tuple(max(costs) - cost for cost in costs) for costs in table.layers)
    return dataclasses.replace(table, name="opposed", unit="ms", layers=layers)


def random_log_probs(space, seed, *batch, scale=2.0):
    logits = torch.randn(*batch, *space.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return log_probs(space, scale * logits).numpy()


def log_prob(log_probs, arch):
    return sum(
        log_probs[layer, slot, pick] for layer, picks in enumerate(arch.picks) for slot, pick in enumerate(picks)
    )


def all_archs(space):
    per_layer = [list(itertools.product(*layer.allowed)) for layer in space.layers]
    return [space.arch(picks) for picks in itertools.product(*per_layer)]


def best_by_enumeration(archs, log_probs, costs, limits, spend=0.99):
    """Most probable log-probability that fits, among those that spend their share of a bound if there are any.

    Bounds that nothing reaches are none to spend, unless all are: then what costs most by the first is spent.
    """
    fits, most = (costs <= limits).all(1), costs.max(0)
    aims = [n for n in range(len(limits)) if limits[n] <= most[n]]
    floors = spend * limits if aims else most
    spent = fits & (costs >= floors)[:, aims or [0]].any(1)
    among = np.flatnonzero(spent if spent.any() else fits)
    return max((log_prob(log_probs, archs[i]) for i in among), default=None), bool(spent.any())


@pytest.mark.parametrize("layers", ROWS)
@pytest.mark.parametrize("names", [("macs",), ("params",), ("macs", "params"), ("macs", "opposed")])
def test_it_agrees_with_enumeration(layers, names):
    space = small_space(layers)
    tables = [opposed(table("params", space)) if name == "opposed" else table(name, space) for name in names]
    archs = all_archs(space)
    costs = np.array([[t.measure(arch) for t in tables] for arch in archs])
    rng = np.random.default_rng(layers)
    near, refused = [], 0
    for seed in range(60):
        probs = random_log_probs(space, seed)
        limits = rng.uniform(costs.min(0), costs.max(0)).round()
        if seed % 3 == 0:  # exactly what some architecture costs
            limits = costs[rng.integers(len(costs))]
        slack = {1: [0], 4: [-1], 7: range(len(limits))}.get(seed % 9, [])  # more than any costs
        limits[list(slack)] = rng.uniform(1, 3) * costs.max(0)[list(slack)] + 1
        bounds = [Bound(t, float(limit)) for t, limit in zip(tables, limits, strict=True)]
        best, spent = best_by_enumeration(archs, probs, costs, limits)
        if best is None:
            refused += 1
            with pytest.raises(BudgetError, match="together"):
                decode(probs[None], bounds)
            continue
        (found,) = decode(probs[None], bounds)
        cost = np.array([t.measure(found.arch) for t in tables])
        assert (cost <= limits).all()
        assert not spent or (cost >= 0.99 * limits).any() or (len(slack) and (limits > costs.max(0)).any())
        if (limits > costs.max(0)).all():
            assert cost[0] == costs[:, 0].max()
        assert found.log_prob == pytest.approx(log_prob(probs, found.arch), abs=1e-9)
        assert found.log_prob == pytest.approx(best, abs=1e-6)
        near.append(spent)
    assert any(near)
    assert not all(near) or "opposed" in names
    assert (refused > 0) == ("opposed" in names)


@pytest.mark.parametrize("names", [("macs",), ("macs", "params")])
@pytest.mark.parametrize("spend", [0, 0.8])
def test_what_need_not_be_spent_may_be_left(names, spend):
    space = small_space(3)
    tables, archs = [table(name, space) for name in names], all_archs(space)
    costs, rng, cheap = np.array([[t.measure(a) for t in tables] for a in archs]), np.random.default_rng(0), 0
    for seed in range(30):
        probs, limits = random_log_probs(space, seed), rng.uniform(costs.min(0), costs.max(0) * 1.2).round()
        bounds = [Bound(t, float(limit)) for t, limit in zip(tables, limits, strict=True)]
        (found,) = decode(probs[None], bounds, spend)
        cost = np.array([t.measure(found.arch) for t in tables])
        assert (cost <= limits).all()
        if spend or (limits <= costs.max(0)).all():
            best, _ = best_by_enumeration(archs, probs, costs, limits, spend)
        else:
            best = max(log_prob(probs, arch) for arch, own in zip(archs, costs, strict=True) if (own <= limits).all())
        assert found.log_prob == pytest.approx(best, abs=1e-6)
        cheap += bool((cost < 0.99 * limits).all())
    assert cheap


def test_limits_may_differ_between_the_problems_of_a_batch():
    macs, params = table("macs"), table("params")
    probs = random_log_probs(SGNAS, 0, 4)
    limits = [250e6, 300e6, 350e6, 400e6]
    together = decode(probs, [Bound(macs, limits), Bound(params, 5e6)])
    for n, limit in enumerate(limits):
        (alone,) = decode(probs[n : n + 1], [Bound(macs, limit), Bound(params, 5e6)])
        assert together[n] == alone
        assert macs.measure(alone.arch) <= limit
        assert params.measure(alone.arch) <= 5e6


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_every_budget_is_kept_and_spent_whatever_the_logits(scale):
    macs = table("macs")
    budgets = [million * 1e6 for million in range(180, 551)]
    assert len(budgets) == 371
    results = decode(random_log_probs(SGNAS, 0, len(budgets), scale=scale), [Bound(macs, budgets)])
    for budget, result in zip(budgets, results, strict=True):
        assert 0.99 * budget <= macs.measure(result.arch) <= budget


def test_logits_that_prefer_nothing_still_spend_the_budget():
    macs = table("macs")
    budgets = [100e6, 250e6, 400e6, 550e6]
    results = decode(random_log_probs(SGNAS, 0, 4, scale=0.0), [Bound(macs, budgets)])
    for budget, result in zip(budgets, results, strict=True):
        assert 0.99 * budget <= macs.measure(result.arch) <= budget


@pytest.mark.parametrize("space", EVERY, ids=list(SPACES))
def test_the_ends_of_the_range_can_be_asked_for(space):
    for cost in COSTS:
        prices = table(cost, space)
        if not prices.maximum:  # BitOps, where nothing is quantised
            continue
        cheapest, dearest = decode(random_log_probs(space, 0, 2), [Bound(prices, [prices.minimum, prices.maximum])])
        assert prices.measure(cheapest.arch) == prices.minimum
        least = 0 if prices.over_layers == "max" else 0.99 * prices.maximum  # a maximum over layers is never spent
        assert least <= prices.measure(dearest.arch) <= prices.maximum


def test_among_equally_probable_architectures_it_takes_the_dearer_one():
    macs = table("macs")
    (found,) = decode(random_log_probs(SGNAS, 0, 1, scale=0.0), [Bound(macs, macs.maximum)])
    assert macs.measure(found.arch) > 0.999 * macs.maximum


def test_a_most_probable_architecture_that_spends_the_budget_is_returned_as_it_is():
    macs = table("macs")
    probs = random_log_probs(SGNAS, 0, 1)
    favourite = SGNAS.arch(probs[0].argmax(-1))
    (found,) = decode(probs, [Bound(macs, macs.measure(favourite))])
    assert found.arch == favourite


def message(budget, cost="macs"):
    with pytest.raises(BudgetError) as error:
        decode(random_log_probs(SGNAS, 0, 1), [Bound(table(cost), budget)])
    return str(error.value)


@pytest.mark.parametrize(
    ("budget", "cost", "corrected"), [(350, "macs", "350e6"), (287.5, "conv_macs", "287.5e6"), (5, "params", "5e6")]
)
def test_a_budget_in_millions_is_refused_with_its_corrected_spelling(budget, cost, corrected):
    assert f"did you mean {corrected}?" in message(budget, cost)


@pytest.mark.parametrize("budget", [0, -350e6, -1, float("nan"), float("-inf"), 1e6])
def test_a_budget_out_of_range_has_no_corrected_spelling(budget):
    assert "did you mean" not in message(budget)


@pytest.mark.parametrize("budget", [0, -350e6, float("nan"), float("-inf"), lambda macs: macs.minimum - 1])
def test_a_budget_out_of_range_names_the_range_and_the_nearest_network(budget):
    macs = table("macs")
    text = message(budget(macs) if callable(budget) else budget)
    assert "below what sgnas_imagenet can do" in text
    low, high = map(float, re.search(r"Choose from ([\d.]+)M to ([\d.]+)M", text).groups())
    assert 0 <= low * 1e6 - macs.minimum < 1e5
    assert 0 <= macs.maximum - high * 1e6 < 1e5
    arch, cost = re.search(r"nearest network is (\S+) with ([\d,]+)\.$", text).groups()
    assert macs.measure(SGNAS.parse(arch)) == float(cost.replace(",", "")) == macs.minimum


@pytest.mark.parametrize("space", EVERY, ids=list(SPACES))
@pytest.mark.parametrize("budget", [1.0000001, 1e6, float("inf")])
def test_a_bound_that_nothing_reaches_gives_the_largest(space, budget):
    macs, params = table("macs", space), table("params", space)
    probs = random_log_probs(space, 0, 1)
    (alone,) = decode(probs, [Bound(macs, budget * macs.maximum)])
    (both,) = decode(probs, [Bound(macs, budget * macs.maximum), Bound(params, budget * params.maximum)])
    assert macs.measure(alone.arch) == macs.measure(both.arch) == macs.maximum


@pytest.mark.parametrize("names", [("macs", "params"), ("params", "macs")])
def test_a_bound_that_nothing_reaches_changes_no_other(names):
    binding, slack = map(table, names)
    probs, limit = random_log_probs(SGNAS, 0, 1), (binding.minimum + binding.maximum) / 2
    (alone,) = decode(probs, [Bound(binding, limit)])
    for bounds in itertools.permutations([Bound(binding, limit), Bound(slack, 2 * slack.maximum)]):
        (beside,) = decode(probs, bounds)
        assert beside.arch == alone.arch


def test_the_range_in_the_message_is_feasible():
    macs = table("macs")
    low, high = map(float, re.search(r"Choose from ([\d.]+)M to ([\d.]+)M", message(350)).groups())
    check_range(macs, low * 1e6)
    check_range(macs, high * 1e6)


def test_one_bad_limit_of_a_batch_is_refused():
    with pytest.raises(BudgetError, match="A budget of 350 MACs"):
        decode(random_log_probs(SGNAS, 0, 2), [Bound(table("macs"), [350e6, 350])])


def test_bounds_that_exclude_each_other_name_what_is_left():
    macs, other, probs = table("macs"), opposed(table("params")), random_log_probs(SGNAS, 0, 1)
    with pytest.raises(BudgetError, match=r"keeps 200,000,000 MACs and .* ms together.*Raise one") as error:
        decode(probs, [Bound(macs, 200e6), Bound(other, other.minimum)])
    left = float(re.search(r"the least is ([\d,]+) ms", str(error.value))[1].replace(",", ""))
    (found,) = decode(random_log_probs(SGNAS, 0, 1), [Bound(other, left)])
    assert other.minimum < left <= other.maximum
    assert macs.measure(found.arch) > 200e6


@pytest.mark.parametrize("slack", [1.01, 1.03, 1.06])
def test_bounds_that_one_architecture_keeps_are_not_refused(slack):
    macs, other, probs = table("macs"), opposed(table("params")), random_log_probs(SGNAS, 0, 1)
    witness = SGNAS.parse(WITNESS)
    bounds = [Bound(macs, 200e6), Bound(other, slack * other.measure(witness))]
    assert macs.measure(witness) <= 200e6
    (found,) = decode(probs, bounds)
    assert all(bound.table.measure(found.arch) <= bound.limits for bound in bounds)


def test_two_bounds_of_which_one_can_be_spent_are_spent():
    space = SPACES["spos"]
    macs, params = table("macs", space), table("params", space)
    limits = [327390542, 3372656]
    witness = space.parse("33320011111122221123")
    assert params.measure(witness) / limits[1] > 0.99
    assert macs.measure(witness) / limits[0] > 0.99
    for seed in range(5):
        (found,) = decode(random_log_probs(space, seed, 1), [Bound(macs, limits[0]), Bound(params, limits[1])])
        shares = macs.measure(found.arch) / limits[0], params.measure(found.arch) / limits[1]
        assert 0.99 <= max(shares) <= 1


def test_forbidden_choices_are_never_decoded():
    probs = random_log_probs(SGNAS, 0, 1)
    assert np.isneginf(probs[0][~allowed_mask(SGNAS).numpy()]).all()
    assert np.isfinite(probs[0][allowed_mask(SGNAS).numpy()]).all()


def test_the_least_of_a_cost_in_fractions_can_be_asked_for():
    rng = np.random.default_rng(0)
    probs = random_log_probs(SGNAS, 0, 1)
    for _ in range(30):
        layers = tuple(tuple(rng.uniform(0, 1, len(costs)).tolist()) for costs in table("macs").layers)
        prices = dataclasses.replace(table("macs"), unit="ms", fixed=rng.uniform(), layers=layers)
        (found,) = decode(probs, [Bound(prices, prices.minimum)])
        assert prices.measure(found.arch) == prices.minimum


def test_what_is_left_within_other_bounds_is_made_of_real_variants():
    space = SPACES["greedynas"]
    macs, other = table("macs", space), opposed(table("macs", space))
    with pytest.raises(BudgetError, match="together") as error:
        decode(random_log_probs(space, 0, 1), [Bound(macs, macs.maximum), Bound(other, other.minimum),
                                               Bound(macs, macs.minimum)])  # fmt: skip
    left = float(re.search(r"the least is ([\d,]+) MACs", str(error.value))[1].replace(",", ""))
    assert left == macs.maximum
