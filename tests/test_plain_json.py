"""Plain data against types that say bounds: what is refused is named in one line."""

import json
import re
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from msgspec import Meta, Struct

from sgnas_zoo.plain_json import checked, fits, parse_json

Count = Annotated[int, Meta(ge=1, le=10)]


class Inner(Struct):
    counts: list[Count]
    how: Literal["a", "b"] = "a"
    also: dict[str, float] = {}


@dataclass(frozen=True)
class Outer:
    inner: Inner
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5

    def __post_init__(self):
        if self.share == 0 and self.inner.how == "b":
            raise ValueError("b needs a share")


def test_what_fits_becomes_a_value_and_unknown_fields_are_ignored():
    plain = {"inner": {"counts": [1, 10], "what": []}, "share": 1, "else": None}
    assert checked(plain, Outer) == Outer(Inner([1, 10]), 1.0)
    assert type(checked(plain, Outer).share) is float
    assert fits(plain, Outer)


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"inner": {"counts": [1, 0]}}, "inner.counts[1]: Expected `int` >= 1"),
        ({"inner": {"counts": [10**400]}}, "inner.counts[0]: Expected `int` <= 10"),
        ({"inner": {"counts": [True]}}, "inner.counts[0]: Expected `int`, got `bool`"),
        ({"inner": {"counts": [2.0]}}, "inner.counts[0]: Expected `int`, got `float`"),
        ({"inner": {"counts": [], "how": 3}}, "inner.how: Expected `str`, got `int`"),
        ({"inner": {}}, "inner: Object missing required field `counts`"),
        ({"inner": {"counts": []}, "share": 10**400}, "share: Number out of range"),
        ({"inner": {"counts": []}, "share": float("nan")}, "share: Expected `float` >= 0.0"),
        ({"inner": {"counts": [], "how": "b"}, "share": 0}, "b needs a share"),
        ({}, "Object missing required field `inner`"),
        ([1], "Expected `object`, got `array`"),
        (json.loads(r'{"\ud800": 1}'), "half a character stands where a name has to be"),
        (json.loads(r'{"inner": {"counts": [], "how": "\ud800"}}'), "half a character stands where a name has to be"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(plain, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        checked(plain, Outer)
    assert not fits(plain, Outer)


@pytest.mark.parametrize("text", ["NaN", "[1e400]", "-Infinity", "[" * 201 + "]" * 201, "", "{"])
def test_json_that_is_not_plain_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a number|nested deeper|Expecting"):
        parse_json(text)
    assert parse_json("[" * 200 + "]" * 200)
