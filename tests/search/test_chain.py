"""Choices along a chain: the best there are, against enumeration."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgnas_zoo.search.chain import Chain, best_in_chain, worth


def random_chain(seed, layers, choices, rows, tight):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(layers, choices))
    values[1:, 1:][rng.random((layers - 1, choices - 1)) < 0.2] = -np.inf
    weights = rng.integers(0, 20, (layers, choices, rows)).astype(float)
    least, most = weights.min(1).sum(0), weights.max(1).sum(0)
    return Chain(values, rng.normal(size=(layers - 1, choices, choices)), weights, least + tight * (most - least))


def enumerated(chain):
    layers, choices = chain.values.shape
    best = None
    for picks in itertools.product(range(choices), repeat=layers):
        index = (np.arange(layers), np.array(picks))
        if np.isfinite(chain.values[index]).all() and (chain.weights[index].sum(0) <= chain.room).all():
            value = worth(chain, np.array(picks))
            best = value if best is None else max(best, value)
    return best


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6), layers=st.integers(2, 6), choices=st.integers(2, 4), rows=st.integers(1, 3),
    tight=st.floats(-0.1, 1.1),
)  # fmt: skip
def test_the_best_of_all_choices_is_found(seed, layers, choices, rows, tight):
    chain = random_chain(seed, layers, choices, rows, tight)
    found, best = best_in_chain(chain), enumerated(chain)
    if best is None:
        assert found is None
        return
    value, picks = found
    assert value == pytest.approx(best)
    assert worth(chain, picks) == pytest.approx(value)
    assert (chain.weights[np.arange(layers), picks].sum(0) <= chain.room).all()


def test_neighbours_matter():
    chain = random_chain(3, 6, 4, 1, 0.5)
    alone = best_in_chain(chain._replace(pairs=np.zeros_like(chain.pairs)))
    assert worth(chain, alone[1]) < best_in_chain(chain)[0] - 0.5


@pytest.mark.parametrize(("layers", "choices", "rows"), [(20, 4, 1), (21, 13, 1), (21, 13, 2)])
def test_chains_of_real_length_are_solved_at_once(layers, choices, rows):
    rng = np.random.default_rng(0)
    weights = rng.integers(10**5, 10**7, (layers, choices, rows)).astype(float)
    values = rng.normal(size=(layers, choices)) + 1e-7 * weights.sum(2)
    pairs = 0.3 * rng.normal(size=(layers - 1, choices, choices))
    chain = Chain(values, pairs, weights, weights.mean(1).sum(0))
    value, picks = best_in_chain(chain)
    assert value == pytest.approx(worth(chain, picks))
    load = weights[np.arange(layers), picks].sum(0)
    assert (load <= chain.room).all()
    assert (load > 0.9 * chain.room).any()
