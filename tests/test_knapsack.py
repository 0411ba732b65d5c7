import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_array

from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.search.decode import reach
from sgnas_zoo.search.knapsack import load, solve, upper_bound
from sgnas_zoo.spaces import SPACES

WHOLE = st.integers(-4, 9).map(float)
REAL = st.floats(-4, 9, width=32, allow_subnormal=False)
careful = settings(deadline=None, derandomize=True, max_examples=400)


@st.composite
def instances(draw, numbers, max_rows=3):
    """Up to three problems that share their weights; small whole values and weights tie often."""
    layers, variants, rows = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(1, max_rows))
    number = draw(st.integers(1, 3))
    values = draw(arrays(float, (number, layers, variants), elements=numbers))
    missing = draw(arrays(bool, (layers, variants)))
    missing[:, draw(st.integers(0, variants - 1))] = False
    weights = draw(arrays(float, (layers, variants, rows), elements=numbers))
    limits = draw(arrays(float, (number, rows), elements=numbers)) * draw(st.integers(1, layers))
    return np.where(missing, -np.inf, values), np.where(missing[..., None], 0.0, weights), limits


def enumerate_all(values, weights):
    """Value (picks,) and load (picks, rows) of every way to pick one variant per layer of one problem."""
    picks = np.indices([values.shape[1]] * len(values)).reshape(len(values), -1)
    layers = np.arange(len(values))[:, None]
    return values[layers, picks].sum(0), weights[layers, picks].sum(0)


def rounding_decides(values, weights, limits):
    loads = [enumerate_all(problem, weights)[1] - limit for problem, limit in zip(values, limits, strict=True)]
    return np.abs(loads).min() < 1e-6


def check_against_enumeration(values, weights, limits):
    picks, proven = solve(values, weights, limits)
    for n in range(len(values)):
        every_value, every_load = enumerate_all(values[n], weights)
        exists = np.isfinite(every_value)
        fits = exists & (every_load <= limits[n]).all(1)
        if not fits.any():
            assert (picks[n] == -1).all()
            continue
        assert (picks[n] >= 0).all()
        value = values[n, np.arange(len(picks[n])), picks[n]].sum()
        assert np.isfinite(value)
        assert (load(weights, picks[n : n + 1]) <= limits[n]).all()
        best = every_value[fits].max()
        assert value <= best + 1e-9
        assert value >= best - 1e-9 or not proven[n]
        assert proven[n] or weights.shape[2] > 1
        assert upper_bound(values[n : n + 1], weights, limits[n : n + 1])[0] >= best - 1e-9


@careful
@given(instances(WHOLE))
def test_whole_weights_agree_with_enumeration(instance):
    check_against_enumeration(*instance)


@careful
@given(instances(REAL))
def test_real_weights_agree_with_enumeration(instance):
    assume(not rounding_decides(*instance))
    check_against_enumeration(*instance)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("whole", [True, False])
def test_random_instances_with_floors_agree_with_enumeration(rows, whole):
    rng = np.random.default_rng(rows)
    outcomes = []
    for _ in range(60):
        weights = rng.uniform(0, 9, (5, 5, rows))
        weights = weights.round() if whole else weights
        weights[..., -1] = -weights[..., 0] if rows > 1 else weights[..., -1]  # a floor under the first row
        values = rng.normal(size=(4, 5, 5))
        limits = rng.uniform(5, 40, (4, rows))
        if rows > 1:
            limits[:, -1] = -limits[:, 0] + rng.uniform(0, 2, 4)
        limits = limits.round() if whole else limits
        check_against_enumeration(values, weights, limits)
        outcomes.extend(solve(values, weights, limits))
    picks = np.stack(outcomes[::2])
    proven = np.stack(outcomes[1::2])
    assert (picks[..., 0] >= 0).mean() > 0.5
    assert proven.mean() > 0.9


def test_what_nothing_binds_is_the_best_of_every_layer():
    values, weights = np.array([[[1.0, 2.0], [3.0, 0.0]]]), np.ones((2, 2, 1))
    picks, proven = solve(values, weights, np.array([[2.0]]))
    assert picks.tolist() == [[1, 0]]
    assert proven.all()


def test_problems_of_a_batch_do_not_see_each_other():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(50, 6, 8)), rng.uniform(0, 9, (6, 8, 2))
    limits = rng.uniform(6, 30, (50, 2))
    together = solve(values, weights, limits)
    assert (together.picks[:, 0] < 0).any()
    assert (together.picks[:, 0] >= 0).any()
    for n in range(50):
        alone = solve(values[n : n + 1], weights, limits[n : n + 1])
        assert alone.picks[0].tolist() == together.picks[n].tolist()


def best_by_milp(values, weights, low, high):
    """Largest summed value with a summed weight from ``low`` to ``high``, by HiGHS."""
    layers, variants = values.shape
    one_each = lil_array((layers, layers * variants))
    for layer in range(layers):
        one_each[layer, layer * variants : (layer + 1) * variants] = 1
    answer = milp(
        -np.where(np.isfinite(values), values, 0).ravel(),
        integrality=np.ones(values.size),
        bounds=Bounds(0, np.isfinite(values).astype(float).ravel()),
        constraints=[LinearConstraint(one_each.tocsr(), 1, 1), LinearConstraint(weights.reshape(1, -1), low, high)],
        options={"mip_rel_gap": 0},
    )
    assert answer.success, answer.message
    return -answer.fun


@pytest.mark.parametrize("budget", [200, 290, 350, 420, 530])
def test_a_window_on_the_real_space_agrees_with_highs(budget):
    space = SPACES["sgnas_imagenet"]
    table = COSTS["macs"].table(space, native_conditions(space))
    widest = max(map(len, table.layers))
    assert widest == 83
    weights, values = np.zeros((19, widest)), np.full((19, widest), -np.inf)
    rng = np.random.default_rng(budget)
    for number, (layer, costs) in enumerate(zip(space.layers, table.layers, strict=True)):
        logits = 2 * rng.normal(size=(1, space.slots, len(space.choices)))
        for slot, allowed in enumerate(layer.allowed):
            logits[0, slot, [i for i in range(len(space.choices)) if i not in allowed]] = -np.inf
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        weights[number, : len(costs)] = np.array(costs) / 1e6
        values[number, : len(costs)] = reach(space.merge(number), log_probs)[-1][0]
    high = budget - table.fixed / 1e6
    low = 0.99 * budget - table.fixed / 1e6
    both = np.stack([weights, -weights], -1)
    picks, proven = solve(values[None], both, np.array([[high, -low]]))
    assert proven.all()
    assert low <= load(both, picks)[0, 0] <= high
    value = values[np.arange(19), picks[0]].sum()
    assert value == pytest.approx(best_by_milp(values, weights, low, high), abs=1e-6)
