"""Tables of the terminal, for names of any length."""

from hypothesis import given
from hypothesis import strategies as st

from sgnas_zoo.cli.tables import table

CELLS = st.tuples(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=60), st.integers(0, 10**9))


@given(st.lists(CELLS, min_size=1, max_size=5))
def test_columns_are_as_wide_as_their_cells(rows):
    head, *lines = table("model|>M MACs", rows).splitlines()
    assert head.startswith("model ")
    for (name, count), line in zip(rows, lines, strict=True):
        assert line.startswith(name)
        assert line.split() == [name, str(count)]


def test_numbers_end_where_their_head_ends_and_text_begins_where_its_head_begins():
    head, short, long = table("model|>px|weights", [["a", 8, "yes"], ["a_very_long_name", 1024, "no"]]).splitlines()
    end, start = head.index("px") + 2, head.index("weights")
    assert short[:end].endswith("   8")
    assert long[:end].endswith("1024")
    assert (short[start:], long[start:]) == ("yes", "no")


def test_cells_hold_no_control_characters():
    assert "\x1b" not in table("model", [["\x1b]0;pwned\x07"]])
    assert len(table("model", [["two\nlines"]]).splitlines()) == 2
