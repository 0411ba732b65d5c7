"""The additive model: what it is fitted to, what it predicts, and that its answers are the best sums there are."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.errors import BudgetError
from sgnas_zoo.search.additive import fit_additive, fit_to_random
from sgnas_zoo.search.bounds import Bound
from sgnas_zoo.search.decode import decode_ranked
from sgnas_zoo.search.problem import Problem
from sgnas_zoo.search.relaxation import allowed_mask
from sgnas_zoo.spaces import SPACES

MACRO = SPACES["nas_bench_macro"]
MACS = COSTS["macs"].table(MACRO, native_conditions(MACRO, form="search"))
PARAMS = COSTS["params"].table(MACRO, native_conditions(MACRO, form="search"))
EVERY = [MACRO.arch([(pick,) for pick in picks]) for picks in itertools.product(range(3), repeat=8)]


def drawn(space, count, seed=0):
    rng = random.Random(seed)
    return [*dict.fromkeys(space.sample(rng) for _ in range(count))]


def worths(space, seed=0):
    made = np.random.default_rng(seed).normal(size=space.shape)
    return np.where(allowed_mask(space).numpy(), made, -np.inf)


def total(arch, values):
    return sum(values[layer, slot, pick] for layer, picks in enumerate(arch.picks) for slot, pick in enumerate(picks))


@pytest.mark.parametrize("space", [SPACES[name] for name in SPACES], ids=list(SPACES))
def test_sums_over_layers_are_found_again(space):
    values = worths(space)
    archs = drawn(space, 2 * values.size)
    model = fit_additive(archs, [70 + total(arch, values) for arch in archs])
    unseen = drawn(space, 50, seed=1)
    told = [70 + total(arch, values) for arch in unseen]
    assert np.abs(model.predict(unseen) - told).max() < 0.1
    assert model.error < 0.05 * model.spread


def test_the_error_is_that_of_scores_which_the_fit_does_not_know():
    values, noise = worths(MACRO), np.random.default_rng(0)
    archs = drawn(MACRO, 60)
    scores = np.array([total(arch, values) for arch in archs]) + noise.normal(size=len(archs))
    model = fit_additive(archs, scores)
    unseen = drawn(MACRO, 2000, seed=1)
    fresh = np.array([total(arch, values) for arch in unseen]) + noise.normal(size=len(unseen))
    wrong = float(np.sqrt(((model.predict(unseen) - fresh) ** 2).mean()))
    known = float(np.sqrt(((model.predict(archs) - scores) ** 2).mean()))
    assert model.error == pytest.approx(wrong, rel=0.2)
    assert known < 0.9 * model.error  # of what it was fitted to it says too little


def test_pairs_of_neighbours_count_where_they_tell_more():
    values, rng = worths(MACRO), np.random.default_rng(1)
    both = rng.normal(size=(7, 3, 3))

    def paired(arch):
        picks = [pick for (pick,) in arch.picks]
        return total(arch, values) + sum(both[i, a, b] for i, (a, b) in enumerate(itertools.pairwise(picks)))

    archs = drawn(MACRO, 300)
    model, plain = fit_additive(archs, list(map(paired, archs))), fit_additive(archs, [total(a, values) for a in archs])
    assert model.pairs is not None
    assert plain.error < 0.05 * plain.spread  # with pairs or without them
    unseen = drawn(MACRO, 200, seed=1)
    assert np.abs(model.predict(unseen) - [paired(arch) for arch in unseen]).max() < 0.1
    for bounds in ([Bound(MACS, 40e6)], [Bound(MACS, 60e6), Bound(PARAMS, 1.5e6)]):
        fits = [arch for arch in EVERY if all(b.table.measure(arch) <= b.limits for b in bounds)]
        predicted = model.predict(fits)
        assert [float(model.predict([arch])[0]) for arch in model.ranked(bounds, 5)] == pytest.approx(
            sorted(predicted, reverse=True)[:5]
        )
    with pytest.raises(BudgetError, match="Choose from"):
        model.ranked([Bound(MACS, 1e6)], 1)


def test_scores_of_nothing_predict_their_mean():
    archs, noise = drawn(MACRO, 60), np.random.default_rng(0).normal(size=60)
    model = fit_additive(archs, noise)
    assert np.abs(model.predict(EVERY[::50]) - noise.mean()).max() < 0.7
    assert model.error > 0.95 * model.spread


def test_two_scores_are_too_few():
    with pytest.raises(BudgetError, match="needs 3 scores at least, not 2; score more paths"):
        fit_additive(drawn(MACRO, 2), [1.0, 2.0])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), macs=st.floats(9e6, 120e6), params=st.none() | st.floats(5e5, 4e6))
def test_what_is_ranked_is_the_order_of_all(seed, macs, params):
    values = worths(MACRO, seed)
    bounds = [Bound(MACS, macs), *([] if params is None else [Bound(PARAMS, params)])]
    fits = [arch for arch in EVERY if all(bound.table.measure(arch) <= bound.limits for bound in bounds)]
    best = sorted(fits, key=lambda arch: -total(arch, values))[:7]
    found = decode_ranked(values, bounds, 7)
    assert [answer.arch for answer in found] == best
    assert [answer.log_prob for answer in found] == pytest.approx([total(arch, values) for arch in best])


def test_ranked_blocks_differ_where_slots_can_be_filled_in_many_ways():
    space = SPACES["sgnas_micro"]
    table = COSTS["macs"].table(space, native_conditions(space, form="search"))
    found = [answer.arch for answer in decode_ranked(worths(space), [Bound(table, 4e6)], 12)]
    made = {tuple(space.variant(picks) for picks in arch.picks) for arch in found}
    assert len(made) == 12
    assert all(table.measure(arch) <= 4e6 for arch in found)


def test_no_answer_within_bounds_that_exclude_each_other():
    most = max(map(max, MACS.layers))
    turned = replace(MACS, fixed=0, layers=tuple(tuple(most - cost for cost in layer) for layer in MACS.layers))
    with pytest.raises(BudgetError, match=r"keeps .* together"):
        decode_ranked(worths(MACRO), [Bound(MACS, 9e6), Bound(turned, turned.minimum)], 3)


def test_random_architectures_are_scored_whether_they_keep_the_bounds_or_not():
    values, asked = worths(MACRO), {}

    def score(archs):
        asked.update((arch, total(arch, values)) for arch in archs)
        return [asked[arch] for arch in archs]

    problem = Problem(MACRO, [Bound(MACS, 20e6)], score)
    model = fit_to_random(problem, 200)
    assert problem.evaluations == len(asked) == 200
    assert any(not problem.fits(arch) for arch in asked)
    assert not problem.scores  # none is a candidate by that
    assert model.ranked(problem.bounds, 1) == [
        max((arch for arch in EVERY if problem.fits(arch)), key=lambda arch: total(arch, values))
    ]
    before = dict(asked)
    fit_to_random(Problem(MACRO, [Bound(MACS, 50e6)], score), 200)
    assert asked == before  # one seed, one draw, whatever the bounds
