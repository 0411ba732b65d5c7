"""Budgets as people write several of them: lists, ranges, and both."""

import pytest

from sgnas_zoo.errors import BudgetError
from sgnas_zoo.search.budgets import listed

FIVES = [1e6 * number for number in range(25, 90, 5)]


@pytest.mark.parametrize(
    ("name", "text", "amounts"),
    [
        ("flops", "25M:85M:5M", FIVES),
        ("flops", "2M, 3M", [2e6, 3e6]),
        ("flops", "1M,25M:85M:5M,0.1G", [1e6, *FIVES, 1e8]),
        ("flops", "4M:4M:1M", [4e6]),
        ("params", "1.1M:1.4M:0.1M", [1.1e6, 1.2e6, 1.3e6, 1.4e6]),
        ("bitops", "1G:2G:500M", [1e9, 1.5e9, 2e9]),
        ("latency", "5ms:7ms:1ms", ["5ms", "6ms", "7ms"]),
        ("latency", "900us,1ms:2ms:500us", ["900us", "1ms", "1.5ms", "2ms"]),
    ],
)
def test_a_range_holds_both_ends(name, text, amounts):
    assert listed(name, text) == amounts


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("flops", "85M:25M:5M", "'85M:25M:5M' is not a valid range: its last amount is below its first; write"),
        (
            "flops",
            "25M:85M:7M",
            "its step does not lead from its first amount to its last; write one such as 25M:85M:5M",
        ),
        ("flops", "25M:85M", "it takes a first amount, a last one and a step; write one such as 25M:85M:5M."),
        ("flops", "25M:85M:5M:1M", "it takes a first amount, a last one and a step"),
        ("flops", "25M:85M:10K", "it has more than 1,000 amounts"),
        ("flops", "25M:85M:0", "'0' is not a budget; write a positive count such as 350M"),
        ("flops", "25M:85M:-5M", "'-5M' is not a budget; write a positive count such as 350M"),
        ("flops", "25M:85M:5", "5 is too small for a network; did you mean 5M?"),
        ("flops", "25M::5M", "'' is not a budget"),
        (
            "latency",
            "5ms:9ms",
            "is not a valid range: it takes a first amount, a last one and a step; write one such as 25ms:85ms:5ms",
        ),
        ("latency", "5ms:9ms:1", "latency='1' is not a latency; give a time with its unit, such as 1ms"),
    ],
)
def test_what_is_no_range_is_refused_in_one_line(name, text, message):
    with pytest.raises(BudgetError) as error:
        listed(name, text)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1
