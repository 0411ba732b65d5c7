"""The knee of a front."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sgnas_zoo.search.knee import front, knee

COORDINATE = st.integers(-1000, 1000)
POINTS = st.lists(st.tuples(COORDINATE, COORDINATE), max_size=12)
FACTOR = st.sampled_from([2.0**n for n in range(-20, 21)])  # exact in binary, so that no tie is broken by rounding


def height(points, at):
    """How far a point is above the chord of its front, in units of x and y."""
    ends = front(points)
    (x0, y0), (x1, y1) = points[ends[0]], points[ends[-1]]
    return points[at][1] - (y0 + (points[at][0] - x0) * (y1 - y0) / (x1 - x0))


def test_the_knee_of_what_bends_once():
    assert knee([(1, 0), (2, 8), (3, 9), (4, 10)]) == 1
    assert knee([(4, 10), (2, 8), (3, 9), (1, 0)]) == 1  # in any order
    assert knee([(x, math.sqrt(x)) for x in range(101)]) == 25  # where the slope is that of the chord


@given(POINTS)
def test_the_front_is_what_no_point_beats(points):
    found = front(points)
    kept = [points[at] for at in found]
    assert kept == sorted(kept)
    for at, (x, y) in enumerate(points):
        beaten = any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)
        assert beaten == ((x, y) not in kept), at
    assert len(set(kept)) == len(kept)


@given(POINTS)
def test_no_point_of_the_front_is_farther_above_the_chord(points):
    found = knee(points)
    heights = [height(points, at) for at in front(points)] if len(front(points)) > 2 else []
    if found is None:
        assert max(heights, default=0) <= 1e-6
    else:
        assert found in front(points)
        assert height(points, found) == pytest.approx(max(heights))
        assert height(points, found) > 0


@given(POINTS, FACTOR, FACTOR, COORDINATE, COORDINATE)
def test_units_and_origins_of_the_axes_do_not_matter(points, wide, high, right, up):
    moved = [(wide * (x + right), high * (y + up)) for x, y in points]
    assert knee(moved) == knee(points)


@given(POINTS)
def test_points_that_are_beaten_do_not_matter(points):
    assume(points)
    before = knee(points)
    beaten = [(x + 1, y - 1) for x, y in points]
    assert knee([*points, *beaten]) == before


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_points_have_none(count):
    assert knee([(1, 1), (2, 3)][:count]) is None


@given(st.integers(3, 20), st.integers(1, 10**9), st.integers(1, 1000), COORDINATE)
def test_a_straight_line_has_none(count, step, slope, offset):
    assert knee([(step * n, offset + slope * step * n) for n in range(count)]) is None


def test_what_bends_the_other_way_or_is_level_has_none():
    assert knee([(1, 0), (2, 1), (3, 10)]) is None
    assert knee([(1, 5), (2, 5), (3, 5)]) is None
    assert knee([(1, 5), (1, 6), (1, 7)]) is None
