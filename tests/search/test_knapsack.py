import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.search.knapsack import solve, weigh
from sgnas_zoo.search.slots import reach
from sgnas_zoo.search.windows import Window, best_in_windows, dual, relaxed
from sgnas_zoo.spaces import SPACES

WHOLE = st.integers(-4, 9).map(float)
REAL = st.floats(-4, 9, width=32, allow_subnormal=False)
careful = settings(deadline=None, derandomize=True, max_examples=400)


@st.composite
def instances(draw, numbers, max_rows):
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


def check_row(values, weights, limits):
    """Compare the batched solver with enumeration."""
    row, limit = weights[..., 0], limits[:, 0]
    picks, solved = solve(values, row, limit)
    assert solved.all()
    for n in range(len(values)):
        every_value, every_load = enumerate_all(values[n], weights)
        fits = np.isfinite(every_value) & (every_load[:, 0] <= limit[n])
        if not fits.any():
            assert (picks[n] == -1).all()
            continue
        assert weigh(row, picks[n : n + 1])[0] <= limit[n]
        assert values[n, np.arange(len(picks[n])), picks[n]].sum() == pytest.approx(every_value[fits].max(), abs=1e-9)


def check_windows(values, weights, where):
    """Compare the search over several sets of values and windows with enumeration; whether anything fits."""
    found = best_in_windows(values, weights, where)
    best = -np.inf
    for problem in values:
        every_value, every_load = enumerate_all(problem, weights)
        for window in where:
            fits = (every_load >= window.low).all(1) & (every_load <= window.high).all(1)
            best = max(best, every_value[fits].max(initial=-np.inf))
    if not np.isfinite(best):
        assert found is None
        return False
    total = weights[np.arange(len(weights)), found.picks].sum(0)
    assert any((window.low <= total).all() and (total <= window.high).all() for window in where)
    assert found.value == pytest.approx(best, abs=1e-6)
    assert found.value == pytest.approx(values[found.of, np.arange(len(weights)), found.picks].sum(), abs=1e-9)
    return True


@careful
@given(instances(WHOLE, 1))
def test_whole_weights_agree_with_enumeration(instance):
    check_row(*instance)


@careful
@given(instances(REAL, 1))
def test_real_weights_agree_with_enumeration(instance):
    assume(not rounding_decides(*instance))
    check_row(*instance)


@careful
@given(instances(WHOLE, 3), st.lists(st.floats(0, 9), min_size=3, max_size=3), st.booleans())
def test_windows_of_several_rows_agree_with_enumeration(instance, widths, one_sided):
    values, weights, limits = instance
    rows = limits.shape[1]
    low = np.full(rows, -np.inf) if one_sided else np.where(np.arange(rows) == 0, limits[0] - widths[:rows], -np.inf)
    check_windows(values, weights, [Window(low, limits[0]), Window(np.full(rows, -np.inf), limits[-1])])


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("chunk", [8, 30_000])
def test_random_windows_agree_with_enumeration(rows, chunk, monkeypatch):
    monkeypatch.setattr("sgnas_zoo.search.windows.AT_ONCE", chunk)
    monkeypatch.setattr("sgnas_zoo.search.windows.LONG", 4)
    rng = np.random.default_rng(rows)
    fitting = 0
    for trial in range(60):
        weights = rng.uniform(0, 9, (5, 5, rows))
        weights = weights.round() if trial % 2 else weights
        high = rng.uniform(5, 40, rows).round()
        low = np.where(np.arange(rows) == trial % rows, high - rng.uniform(0, 2), -np.inf)
        fitting += check_windows(rng.normal(size=(3, 5, 5)), weights, [Window(low, high)])
    assert 20 < fitting < 60  # both answers are tried


def test_the_comparison_with_enumeration_notices_an_answer_that_is_not_the_best(monkeypatch):
    exact = best_in_windows

    def stingy(values, weights, where):
        return exact(values, weights, [Window(window.low, window.high - 1) for window in where])

    rng = np.random.default_rng(0)
    problem = rng.normal(size=(3, 5, 5)), rng.uniform(0, 9, (5, 5, 2)), [Window(np.full(2, -np.inf), np.full(2, 20.0))]
    assert check_windows(*problem)
    monkeypatch.setitem(globals(), "best_in_windows", stingy)
    with pytest.raises(AssertionError):
        check_windows(*problem)


def test_what_nothing_binds_is_the_best_of_every_layer():
    values, weights = np.array([[[1.0, 2.0], [3.0, 0.0]]]), np.ones((2, 2))
    assert solve(values, weights, np.array([2.0]))[0].tolist() == [[1, 0]]


def test_problems_of_a_batch_do_not_see_each_other():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(50, 6, 8)), rng.uniform(0, 9, (6, 8))
    limits = rng.uniform(1, 30, 50)
    together, _ = solve(values, weights, limits)
    assert (together[:, 0] < 0).any()
    assert (together[:, 0] >= 0).any()
    for n in range(50):
        assert solve(values[n : n + 1], weights, limits[n : n + 1])[0][0].tolist() == together[n].tolist()


def test_of_equally_good_picks_the_one_that_is_lightest_at_first_is_found():
    weights = np.broadcast_to(np.array([1.0, 2.0, 3.0])[:, None], (4, 3, 1))
    found = best_in_windows(np.zeros((1, 4, 3)), weights, [Window(np.array([9.0]), np.array([9.0]))])
    assert found.picks.tolist() == [0, 1, 2, 2]


def best_by_milp(values, weights, window):
    """Largest summed value (layers, variants) with sums inside a window, by HiGHS; None where nothing lies there."""
    exists = np.isfinite(values)
    layer = np.nonzero(exists)[0]
    one_each = csr_array((np.ones(len(layer)), (layer, np.arange(len(layer)))), shape=(len(values), len(layer)))
    scale = np.abs(weights[exists]).max(0)
    answer = milp(
        -values[exists],
        integrality=np.ones(len(layer)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(weights[exists].T / scale[:, None], window.low / scale, window.high / scale),
        ],
        options={"mip_rel_gap": 0},
    )
    assert answer.status in (0, 2), answer.message
    return -answer.fun if answer.status == 0 else None


def knapsack(space, seed, scale=2.0):
    """Values (1, layers, variants) and weights (layers, variants, 2) in MACs and parameters; their tables."""
    tables = [COSTS[cost].table(space, native_conditions(space)) for cost in ("macs", "params")]
    widest = max(map(len, tables[0].layers))
    weights, values = np.zeros((len(space.layers), widest, 2)), np.full((1, len(space.layers), widest), -np.inf)
    rng = np.random.default_rng(seed)
    for number, layer in enumerate(space.layers):
        logits = scale * rng.normal(size=(1, space.slots, len(space.choices)))
        for slot, allowed in enumerate(layer.allowed):
            logits[0, slot, [i for i in range(len(space.choices)) if i not in allowed]] = -np.inf
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        best = reach(space.merge(number), log_probs)[-1][0]
        values[0, number, : len(best)] = best
        for column, table in enumerate(tables):
            weights[number, : len(best), column] = table.layers[number]
    return values, weights, tables


@pytest.mark.parametrize("budget", [200e6, 350e6, 530e6])
def test_a_window_on_the_real_space_agrees_with_highs(budget):
    values, weights, (macs, _) = knapsack(SPACES["sgnas_imagenet"], int(budget))
    assert weights.shape[1] == 83
    window = Window(np.array([0.99 * budget - macs.fixed]), np.array([budget - macs.fixed]))
    found = best_in_windows(values, weights[..., :1], [window])
    assert found.value == pytest.approx(best_by_milp(values[0], weights[..., :1], window), abs=1e-6)


@pytest.mark.parametrize("name", ["sgnas_imagenet", "sgnas_micro", "spos", "greedynas"])
def test_windows_of_two_costs_on_real_spaces_agree_with_highs(name):
    rng = np.random.default_rng(0)
    found_some = 0
    for seed in range(6):
        values, weights, tables = knapsack(SPACES[name], seed)
        anchor = weights[np.arange(len(weights)), np.where(np.isfinite(values[0]), values[0], -np.inf).argmax(1)].sum(0)
        high = (anchor * rng.uniform(0.7, 1.3, 2)).round()
        for row, table in enumerate(tables):
            low = np.where(np.arange(2) == row, 0.99 * (high + table.fixed) - table.fixed, -np.inf)
            window = Window(low, high)
            found, expected = best_in_windows(values, weights, [window]), best_by_milp(values[0], weights, window)
            assert (found is None) == (expected is None)
            found_some += found is not None
            if found is not None:
                assert found.value == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert found_some


def test_the_dual_is_that_of_the_linear_program():
    for seed in range(10):
        values, weights, _ = knapsack(SPACES["greedynas"], seed)
        high = weights.max(1).sum(0) * np.array([0.5, 0.4])
        window = Window(np.array([0.99 * high[0], -np.inf]), high)
        multipliers = dual(values[0], weights, window)
        exists = np.isfinite(values[0])
        layer = np.nonzero(exists)[0]
        rows = np.concatenate([weights[exists].T, -weights[exists].T[:1]]) / 1e6
        program = linprog(
            -values[0][exists], A_ub=rows, b_ub=np.append(high, -window.low[0]) / 1e6, bounds=(0, 1),
            A_eq=csr_array((np.ones(len(layer)), (layer, np.arange(len(layer))))), b_eq=np.ones(len(values[0])),
        )  # fmt: skip
        assert (program.status == 2) == (multipliers is None)
        if multipliers is not None:
            assert relaxed(values, weights, window, multipliers)[0] == pytest.approx(-program.fun, abs=1e-5)
