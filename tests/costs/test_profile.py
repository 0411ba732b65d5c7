"""Profiles as costs and as files."""

import json
import random
import time
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import csv_of, made_up

from sgnas_zoo.costs import native_conditions
from sgnas_zoo.costs.expectation import expected_cost
from sgnas_zoo.costs.profile import MOST_ERROR, BlockTime, Setup
from sgnas_zoo.costs.profile_file import MOST_BLOCKS, read_csv, read_profile, write_profile
from sgnas_zoo.errors import ArtifactError, ZooError
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.spaces.space import SKIP

PROFILE = made_up("sgnas_micro")
MICRO = SPACES["sgnas_micro"]
TEXT = write_profile(PROFILE)


@pytest.mark.parametrize("space", SPACES)
def test_a_profile_prices_every_architecture_of_its_space(space):
    profile, rng = made_up(space), random.Random(0)
    table = profile.table(SPACES[space], profile.conditions)
    times = {(block.layer, block.choice): block.median_ms for block in profile.blocks}
    for _ in range(20):
        arch = SPACES[space].sample(rng)
        keys = [SPACES[space].deployed(i, SPACES[space].variant(picks)) for i, picks in enumerate(arch.picks)]
        own = sum(times[layer, key] for layer, key in enumerate(keys) if key != SKIP)
        assert table.measure(arch) == pytest.approx(profile.fixed_ms + own)
        assert table.minimum <= table.measure(arch) <= table.maximum


def test_its_expectation_at_a_one_hot_is_its_measure():
    table, rng = PROFILE.table(MICRO, PROFILE.conditions), random.Random(1)
    for _ in range(5):
        arch = MICRO.sample(rng)
        probs = torch.zeros(MICRO.shape, dtype=torch.float64)
        for layer, picks in enumerate(arch.picks):
            for slot, pick in enumerate(picks):
                probs[layer, slot, pick] = 1
        assert float(expected_cost(table, probs)) == pytest.approx(table.measure(arch))


def test_the_scale_counts_for_blocks_and_not_for_the_fixed_part():
    arch = MICRO.sample(random.Random(2))
    once, twice = (replace(PROFILE, scale=s).table(MICRO, PROFILE.conditions).measure(arch) for s in (1.0, 2.0))
    assert twice - PROFILE.fixed_ms == pytest.approx(2 * (once - PROFILE.fixed_ms))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"resolution": 64}, "resolution 32, not 64"),
        ({"form": "search"}, "form final, not search"),
        ({"in_chans": 1}, "in_chans 3, not 1"),
        ({"num_classes": 1000}, "num_classes 10, not 1000"),
        ({"form": "search", "resolution": 64}, "form final, not search and resolution 32, not 64"),
    ],
)
def test_other_conditions_are_refused_by_name(change, named):
    with pytest.raises(ArtifactError, match=named):
        PROFILE.table(MICRO, native_conditions(MICRO, **change))


def test_fewer_classes_than_were_measured_will_do():
    arch = MICRO.sample(random.Random(3))
    few = PROFILE.table(MICRO, native_conditions(MICRO, num_classes=2))
    assert few.measure(arch) == PROFILE.table(MICRO, PROFILE.conditions).measure(arch)


def test_another_space_and_a_missing_block_are_refused():
    with pytest.raises(ArtifactError, match="space sgnas_micro, not sgnas_cifar"):
        PROFILE.table(SPACES["sgnas_cifar"], native_conditions(SPACES["sgnas_cifar"]))
    with pytest.raises(ArtifactError, match=r"lacks layer 0 as k3_e1.*sgnas-zoo profile"):
        replace(PROFILE, blocks=PROFILE.blocks[1:]).table(MICRO, PROFILE.conditions)


# --- files


def test_a_profile_reads_back_as_it_was_and_has_a_line_for_every_block():
    assert read_profile(TEXT, "x") == PROFILE
    assert sum('"choice"' in line for line in TEXT.splitlines()) == len(PROFILE.blocks)
    bare = replace(PROFILE, validation=None)
    assert read_profile(write_profile(bare), "x") == bare


def changed(**changes):
    return json.dumps(json.loads(TEXT) | changes)


BLOCK = asdict(PROFILE.blocks[0])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        TEXT[: len(TEXT) // 2],
        changed(artifact="supernet"),
        changed(format_version=2),
        changed(space="nowhere"),
        changed(space=["sgnas_micro"]),
        changed(form="both"),
        changed(resolution=10**9),
        changed(resolution=1),
        changed(num_classes=-1),
        changed(threads=0),
        changed(threads=True),
        changed(batch_size=1.5),
        changed(device=""),
        changed(device="x" * 101),
        changed(device="a\nb"),
        changed(date=3),
        changed(versions=[]),
        changed(versions={str(i): "1" for i in range(21)}),
        changed(fixed_ms=float("nan")),
        changed(fixed_ms=-1),
        changed(scale=0),
        changed(scale=float("inf")),
        changed(scale="1"),
        changed(blocks=None),
        changed(blocks=[]),
        changed(blocks=[1]),
        changed(blocks=[BLOCK, BLOCK]),
        changed(blocks=[BLOCK] * (MOST_BLOCKS + 1)),
        changed(blocks=[BLOCK | {"median_ms": float("nan")}]),
        changed(blocks=[BLOCK | {"median_ms": -1}]),
        changed(blocks=[BLOCK | {"median_ms": 1e300}]),
        changed(blocks=[BLOCK | {"median_ms": None}]),
        changed(blocks=[BLOCK | {"layer": -1}]),
        changed(blocks=[BLOCK | {"n": 0}]),
        changed(validation={"nets": 20}),
        changed(validation=[1]),
        json.dumps({k: v for k, v in json.loads(TEXT).items() if k != "cores"}),
    ],
)
def test_a_damaged_or_hostile_profile_is_refused_in_one_line(text):
    start = time.process_time()
    with pytest.raises(ArtifactError) as refused:
        read_profile(text, "somebody's")
    assert time.process_time() - start < 2
    assert "somebody's" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (changed(blocks=[BLOCK, BLOCK | {"n": 0}]), r"\(blocks\[1\]\.n: Expected `int` >= 1\); fetch it again or"),
        (changed(threads=True), r"\(setup\.threads: "),
        (changed(resolution=10**9), r"\(conditions: resolution is 1000000000"),
        (changed(versions=[]), r"\(versions: "),
        (changed(validation={"nets": 20}), r"\(validation: .*`median_error`"),
        (changed(device="a\u200bb"), "not printable"),
        (json.dumps({k: v for k, v in json.loads(TEXT).items() if k != "cores"}), "'cores'"),
    ],
)
def test_what_is_refused_is_named(text, named):
    with pytest.raises(ArtifactError, match=named):
        read_profile(text, "somebody's")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from(sorted(json.loads(TEXT))), JSON)
def test_whatever_a_field_holds_is_a_profile_or_one_error(field, value):
    try:
        profile = read_profile(json.dumps(json.loads(TEXT) | {field: value}), "x")
        profile.table(MICRO, PROFILE.conditions)
    except ZooError:
        return
    assert read_profile(write_profile(profile), "x") == profile


@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_whatever_bytes_are_a_profile_or_one_error(data):
    start = data.draw(st.integers(0, len(TEXT)))
    text = TEXT.encode()[:start] + data.draw(st.binary(max_size=30)) + TEXT.encode()[start + 3 :]
    try:
        read_profile(text, "x")
    except ArtifactError as error:
        assert "\n" not in str(error)  # noqa: PT017  # a profile that still reads is fine as well


# --- tables measured elsewhere

KNOWN = {
    "space": "sgnas_micro", "conditions": PROFILE.conditions, "setup": Setup("pixel", "cpu", "litert"),
    "versions": (), "cores": 8, "date": "2026-01-01",
}  # fmt: skip


def test_a_table_measured_elsewhere_is_a_profile_like_any_other():
    profile = read_csv(csv_of(PROFILE), "table.csv", **KNOWN)
    arch = MICRO.sample(random.Random(0))
    table = PROFILE.table(MICRO, PROFILE.conditions)
    assert profile.table(MICRO, PROFILE.conditions).measure(arch) == pytest.approx(table.measure(arch))
    assert profile.validation is None
    assert profile.tolerance == MOST_ERROR  # nobody knows it
    assert read_profile(write_profile(profile), "x") == profile
    assert "litert" in profile.rule


def test_optional_columns_are_kept():
    text = "layer,choice,median_ms,iqr_ms,n\n0,k3_e1,1.5,0.2,7\nfixed,,3,,\n"
    assert read_csv(text, "x", **KNOWN).blocks == (BlockTime(0, "k3_e1", 1.5, 0.2, 7),)


WRITTEN = {
    "utf-8 with a mark": lambda text: text.encode("utf-8-sig"),
    "a mark in the text": lambda text: "\ufeff" + text,
    "semicolons and decimal commas": lambda text: text.replace(",", ";").replace(".", ",").encode("utf-8-sig"),
    "semicolons and points": lambda text: text.replace(",", ";"),
    "UTF-16 with tabs": lambda text: text.replace(",", "\t").replace(".", ",").encode("utf-16"),
    "what Excel alone reads": lambda text: "sep=;\r\n" + text.replace(",", ";").replace("\n", "\r\n"),
    "latin-1": lambda text: text.replace("\n", ",Gerät\n").encode("latin-1"),
    "empty lines": lambda text: text.replace("\n", "\n,,\n") + "\n,,\n",
    "blanks and capitals": lambda text: text.replace(",", ", ").replace("layer", " Layer "),
    "quotes": lambda text: "\n".join(",".join(f'"{c}"' for c in line.split(",")) for line in text.splitlines()),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_tables_as_spreadsheets_write_them(how):
    plain = csv_of(PROFILE)
    assert read_csv(WRITTEN[how](plain), "table.csv", **KNOWN) == read_csv(plain, "table.csv", **KNOWN)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("layer;choice;median_ms\n0;k3_e1;1.234,5\nfixed;;1\n", "1.234,5"),
        ("layer;choice;median_ms\n0;k3_e1;1,234\nfixed;;1.5\n", "1,234"),  # thousands, as there are points
        ('layer,choice,median_ms\n0,k3_e1,"1,5"\nfixed,,1\n', "1,5"),
        ("layer,choice,median_ms\n0,k3_e1,1,5\nfixed,,1\n", "more columns"),  # decimal commas between commas
        ("", "no column layer"),
        ("layer,choice\n", "no column median_ms"),
        ("layer,choice,median_ms\n0,k3_e1,1\n", "row of layer fixed"),
        ("layer,choice,median_ms\nfixed,,1\nfixed,,1\n", "row of layer fixed"),
        ("layer,choice,median_ms\n0,k3_e1,nan\nfixed,,1\n", r"blocks\[0\]\.median_ms: "),
        ("layer,choice,median_ms\n0,k3_e1,-1\nfixed,,1\n", r"blocks\[0\]\.median_ms: "),
        ("layer,choice,median_ms\none,k3_e1,1\nfixed,,1\n", "one"),
        ("layer,choice,median_ms\n0,,1\nfixed,,1\n", r"blocks\[0\]\.choice: "),
        ("layer,choice,median_ms\n0,k3_e1,1\n0,k3_e1,1\nfixed,,1\n", "twice"),
    ],
)
def test_a_table_that_is_none_is_refused(text, named):
    with pytest.raises(ArtifactError, match=named):
        read_csv(text, "table.csv", **KNOWN)
