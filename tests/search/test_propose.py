"""From budgets to architectures: what a generator answers, and how much of a budget it spends."""

import numpy as np
import pytest

from sgnas_zoo.costs import COSTS
from sgnas_zoo.search.bounds import Bound
from sgnas_zoo.search.decode import decode_ranked
from sgnas_zoo.search.propose import _scores, propose, propose_several


@pytest.fixture
def generator(new_generator):
    return new_generator(0).eval()


def tables(generator):
    return [COSTS[name].table(generator.space, generator.conditions) for name in ("macs", "params")]


def test_it_spends_a_budget_on_its_cost_by_default(generator):
    macs, _ = tables(generator)
    limits = np.linspace(2e6, 8e6, 25).tolist()
    for limit, found in zip(limits, propose(generator, {macs: limits}), strict=True):
        assert 0.99 * limit <= macs.measure(found.arch) <= limit


def test_one_that_need_not_spend_answers_with_its_most_probable_architecture(generator):
    macs, _ = tables(generator)
    generator.spend = 0.0
    limits = np.linspace(2e6, 8e6, 25).tolist()
    answers, shares = propose(generator, {macs: limits}), []
    for n, (limit, found) in enumerate(zip(limits, answers, strict=True)):
        best = decode_ranked(_scores(generator, np.array(limits))[n], [Bound(macs, limit)], 1)[0]
        assert found.log_prob == pytest.approx(best.log_prob)
        shares.append(macs.measure(found.arch) / limit)
    assert min(shares) < 0.99
    assert max(shares) <= 1


def test_budgets_on_other_costs_are_spent_all_the_same(generator):
    """Targets are swept for them, and the most probable of all would be that of any target."""
    macs, params = tables(generator)
    generator.spend = 0.0
    limits = np.linspace(1.3 * params.minimum, 0.8 * params.maximum, 5).tolist()
    for limit, found in zip(limits, propose(generator, {params: limits}), strict=True):
        assert 0.99 * limit <= params.measure(found.arch) <= limit
    (both,) = propose(generator, {macs: [4e6], params: [limits[2]]})
    assert macs.measure(both.arch) <= 4e6
    assert params.measure(both.arch) <= limits[2]


@pytest.mark.parametrize("spend", [0.0, 0.99])
def test_several_begin_with_the_answer(generator, spend):
    macs, _ = tables(generator)
    generator.spend = spend
    (answer,) = propose(generator, {macs: [4e6]})
    several = propose_several(generator, [Bound(macs, 4e6)], 5)
    assert several[0] == answer.arch
    assert len({*several}) == 5
    assert all(macs.measure(arch) <= 4e6 for arch in several)
