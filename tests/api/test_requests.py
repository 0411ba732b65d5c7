"""Whatever stands where an argument belongs gets an answer or an error of ours in one line."""

import resource
import subprocess
import sys
import warnings
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgnas_zoo import create_model, generate, save_model
from sgnas_zoo.errors import ZooError

ODD = [
    True, 1j, [None], "350M", "x" * 5000, "x" * 300, b"x", Decimal("nan"), Decimal("sNaN"), torch.tensor([[4e6]]),
    np.timedelta64(4, "s"), np.timedelta64(4_000_000), np.datetime64("2020"), float("nan"), float("inf"), -1, 0, [],
    [[]], [4e6, [3e8, 2]], (x for x in [4e6]), {4e6}, {"a": 1}, object(), Path("a\0b"), "a\0b", Path("x" * 5000),
    ["x" * 5000], torch.tensor([]), np.array([]), torch.tensor([True]), torch.tensor(1j), np.array(["a"]),
    np.array([None]), np.bool_(True), 10**400, "", "..", torch.zeros(2, device="meta"), int, "\x1b[31m",
]  # fmt: skip
SAME = [
    Decimal("4e6"), Fraction(4_000_000), torch.tensor(4e6), torch.tensor([4e6]), np.float32(4e6), np.int64(4_000_000),
    np.array([4e6]), np.array(4e6), [4e6], (4e6,), 4_000_000, [np.int32(4_000_000)], [torch.tensor(4_000_000)],
]  # fmt: skip
BUDGETS = ("flops", "params", "bitops", "latency")
OTHERS = ("space", "generator", "resolution", "num_classes", "in_chans")
careful = settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=list(HealthCheck))
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.complex_numbers()
    | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def attempt(call, **asked):
    """Call; an error has to be ours, or a TypeError, in one line of moderate length that can be printed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(**asked)
    except (ZooError, TypeError) as error:
        message = str(error)
    assert message.isprintable()
    assert len(message) < 700
    return None


def request(call, name, value):
    asked = {} if name in BUDGETS else {"flops": 4e6}
    if name == "latency":
        asked["profile"] = "nowhere/to.json"
    if name in ("arch", "form"):
        asked = {"model_name": "sgnas", "space": "sgnas_micro", "params": 1.2e5}
    return attempt(call, **asked, **{name: value})


@pytest.mark.parametrize("name", [*BUDGETS, *OTHERS])
def test_generate_answers_or_says_why_not(name):
    for value in ODD:
        request(generate, name, value)


@pytest.mark.parametrize("name", [*BUDGETS, *OTHERS, "model_name", "pretrained", "arch", "form", "token", "revision"])
def test_create_model_answers_or_says_why_not(name):
    for value in ODD:
        request(create_model, name, value)


@careful
@given(st.sampled_from([*BUDGETS, *OTHERS]), anything)
def test_any_value_gets_an_answer_or_an_error_of_ours(name, value):
    request(generate, name, value)
    if name != "resolution":  # a large one would be built
        request(create_model, name, value)


@pytest.mark.parametrize("value", SAME, ids=repr)
def test_numbers_of_other_libraries_are_numbers(value):
    plain = generate(flops=4e6)
    assert generate(flops=value) == plain
    assert create_model(flops=value).zoo == create_model(flops=4e6).zoo


def test_whole_numbers_of_numpy_are_taken_everywhere(tmp_path):
    model = create_model(flops=4e6, num_classes=np.int64(7), in_chans=np.int32(1), resolution=np.int64(32))
    assert model.num_classes == 7
    assert model.zoo["num_classes"] == 7
    assert type(model.zoo["in_chans"]) is int
    save_model(model, tmp_path / "model")
    (result,) = generate(flops=4e6, num_classes=np.int64(7), resolution=np.uint16(32))
    assert type(result.conditions.resolution) is int
    with pytest.raises(ZooError, match="num_classes is True"):
        generate(flops=4e6, num_classes=True)


def test_lists_that_do_not_pair_up_are_refused():
    with pytest.raises(ZooError, match="2 flops and 3 params do not pair up"):
        generate(flops=[4e6, 5e6], params=[1e5, 1e5, 1e5])
    assert len(generate(flops=[4e6, 5e6], params=1.5e5)) == 2


MEMORY = """
import resource, sys
import sgnas_zoo
sgnas_zoo.generate(flops=350e6)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = sgnas_zoo.generate(flops=[200e6 + 20e3 * i for i in range(int(sys.argv[1]))])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
def test_ten_thousand_budgets_take_little_memory():
    unit = 1 if sys.platform == "linux" else 1024  # bytes elsewhere
    assert resource.getpagesize()
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, "10000"], capture_output=True, text=True, check=True, timeout=300
    )
    assert float(done.stdout) / unit < 300


def test_budgets_that_are_answered_a_few_at_a_time_are_answered_as_one_by_one(monkeypatch):
    budgets = [2e6 + 20e3 * i for i in range(300)]
    together = generate(flops=budgets, space="sgnas_micro")
    monkeypatch.setattr("sgnas_zoo.search.propose.AT_ONCE", 7)
    assert generate(flops=budgets, space="sgnas_micro") == together
    monkeypatch.setattr("sgnas_zoo.search.propose.AT_ONCE", 1000)
    assert generate(flops=budgets, space="sgnas_micro") == together
