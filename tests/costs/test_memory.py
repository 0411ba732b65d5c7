"""Memory and flash: tables against what built models need, decodes under them, and how people ask for them."""

import itertools
import random
import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sgnas_zoo
from sgnas_zoo.cli.main import main
from sgnas_zoo.costs import BUDGETS, COSTS, native_conditions
from sgnas_zoo.errors import BudgetError
from sgnas_zoo.hub.models import save_model
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.models.memory import count_flash, count_memory
from sgnas_zoo.search.additive import fit_additive
from sgnas_zoo.search.bounds import Bound
from sgnas_zoo.search.budgets import listed
from sgnas_zoo.search.decode import decode, decode_ranked
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.spaces.blocks import Operation, peak
from sgnas_zoo.units import number_of_bytes

MICRO = SPACES["sgnas_micro"]
PRECISIONS = ("int8", "fp16", "float32")


def table(cost, space=MICRO, **changes):
    return COSTS[f"{cost}_bytes"].table(space, native_conditions(space, **changes))


def case(space, seed):
    """An architecture, its form, side, classes, channels and precision."""
    rng = random.Random(seed)
    sides = [side for side in (32, 33, 64, 97, space.resolution) if side >= space.reduction]
    changes = {
        "form": rng.choice(space.forms), "resolution": rng.choice(sides), "in_chans": rng.choice((1, 3)),
        "num_classes": rng.choice((0, 10, 1000)), "precision": rng.choice(PRECISIONS),
    }  # fmt: skip
    return space.sample(rng), changes


def priced_and_counted(space, seed):
    """Memory and flash by the tables, and as counted on the built model."""
    arch, changes = case(space, seed)
    tables = [table(cost, space, **changes).measure(arch) for cost in ("memory", "flash")]
    model = build_model(
        space.family, arch, changes["form"], num_classes=changes["num_classes"], in_chans=changes["in_chans"]
    )
    precision = changes["precision"]
    counted = count_memory(model, changes["resolution"], changes["in_chans"], precision), count_flash(model, precision)
    return tables, [*counted]


# --- Tables


@pytest.mark.parametrize("name", SPACES)
def test_tables_are_what_built_networks_need(name):
    """By tracing every operation of the deploy form on the meta device, and by its parameters."""
    for seed in range(2):
        priced, counted = priced_and_counted(SPACES[name], seed)
        assert priced == counted


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_tables_are_what_many_networks_need(name):
    found = [priced_and_counted(SPACES[name], seed) for seed in range(2, 12)]
    assert all(priced == counted for priced, counted in found)
    assert len({tuple(priced) for priced, _ in found}) > 7


def test_without_its_sums_a_network_needs_less_memory():
    """The control: a count that could not fail would prove nothing."""
    arch = SPACES["nas_bench_macro"].parse("02222222")  # the first layer is small: layers that add their input decide
    model = build_model(arch.space.family, arch, "final")
    assert count_memory(model, 32) == table("memory", arch.space).measure(arch)
    for block in itertools.chain(*model.blocks):
        block.has_skip = False
    assert count_memory(model, 32) < table("memory", arch.space).measure(arch)


def test_without_gates_less_flash_and_with_kernels_apart_other_memory(monkeypatch):
    space = SPACES["sgnas_imagenet"]
    arch = space.parse("-".join(["357357"] + ["3"] * (len(space.layers) - 1)))
    model = build_model(space.family, arch, "final")
    memory, flash = count_memory(model, 224), count_flash(model)
    assert (memory, flash) == tuple(table(cost, space).measure(arch) for cost in ("memory", "flash"))
    monkeypatch.setattr("sgnas_zoo.models.memory.deploy", lambda model: model)
    assert count_memory(model, 224) != memory
    monkeypatch.undo()
    model.blocks[1][0].se = nn.Identity()
    assert count_flash(model) < flash


def test_memory_at_float32_is_that_of_live_tensors():
    """The largest sum of tensors that a chain of torch operations keeps, by hand."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.AdaptiveAvgPool2d(1))
    assert count_memory(net, 8, 3, "float32") == 4 * (8 + 16) * 64
    assert count_memory(net, 8, 3, "int8") == (8 + 16) * 64
    assert count_flash(net, "float32") == 4 * sum(parameter.numel() for parameter in net.parameters())
    assert count_flash(net, "int8") == 8 * 27 + 16 * 8 + (8 + 16) * (4 + 4)


def test_few_bits_are_packed_at_int8():
    space = SPACES["resnet_micro_bits"]
    lows, highs = (space.arch([[end]] * len(space.layers)) for end in (0, len(space.choices) - 1))
    bits = [sum(space.choices[arch.picks[0][0]].adds) for arch in (lows, highs)]
    assert bits[0] < bits[1]
    assert table("flash", space).measure(lows) < table("flash", space).measure(highs)
    wide = table("flash", space, precision="fp16")
    assert wide.measure(lows) == wide.measure(highs)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_the_peak_is_that_of_a_walk_that_frees_what_nobody_reads_any_more(data):
    sizes = [data.draw(st.integers(1, 9))]
    operations = []
    for number in range(data.draw(st.integers(0, 6))):
        reads = tuple(data.draw(st.lists(st.integers(0, number), min_size=1, max_size=3)))
        operations.append(Operation(reads, data.draw(st.integers(0, 9))))
    alive, most = {0: sizes[0]}, 0
    for at, operation in enumerate(operations):
        alive[at + 1] = operation.elements
        needed = {read for later in operations[at:] for read in later.reads} | {at + 1}
        alive = {map_: size for map_, size in alive.items() if map_ in needed}
        most = max(most, sum(alive.values()))
    assert peak(sizes[0], operations) == most


# --- Decodes


def everything(space):
    layers = [list(itertools.product(*layer.allowed)) for layer in space.layers]
    return [space.arch(picks) for picks in itertools.product(*layers)]


def scores_of(space, seed):
    logits = torch.randn(1, *space.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return log_probs(space, 2 * logits).numpy()


MACRO = SPACES["nas_bench_macro"]


@pytest.mark.parametrize("names", [("macs",), ("macs", "params"), ()])
def test_the_best_within_memory_is_that_of_enumeration(names):
    archs = everything(MACRO)
    tables = [COSTS[name].table(MACRO, native_conditions(MACRO)) for name in names]
    memory = table("memory", MACRO)
    peaks, costs = (
        np.array([memory.measure(a) for a in archs]),
        np.array([[t.measure(a) for t in tables] for a in archs]),
    )
    hot = np.array([[picks for (picks,) in arch.picks] for arch in archs])
    rng, binding = np.random.default_rng(0), 0
    for seed in range(12):
        probs = scores_of(MACRO, seed)
        values = probs[0, np.arange(len(MACRO.layers)), 0, hot].sum(1)
        limit = float(rng.choice(np.unique(peaks)))
        limits = rng.uniform(costs.min(0), costs.max(0) * 1.1)
        bounds = [*(Bound(t, float(own)) for t, own in zip(tables, limits, strict=True)), Bound(memory, limit)]
        within = peaks <= limit
        fits = within & (costs <= limits).all(1)
        if not fits.any():
            with pytest.raises(BudgetError, match="together"):
                decode(probs, bounds)
            continue
        most = costs[within].max(0)
        aims = [n for n in range(len(names)) if limits[n] <= most[n]]
        floors = 0.99 * limits if aims else most
        spent = fits & (costs >= floors)[:, aims or [*range(len(names))][:1]].any(1)
        (found,) = decode(probs, bounds)
        assert memory.measure(found.arch) <= limit
        assert found.log_prob == pytest.approx(values[spent if spent.any() else fits].max(), abs=1e-6)
        binding += memory.measure(found.arch) < peaks.max()
        ranked = [one.log_prob for one in decode_ranked(probs[0], bounds, 5)]
        assert ranked == pytest.approx(np.sort(values[fits])[::-1][:5], abs=1e-6)
    assert binding > 3


@pytest.mark.parametrize("name", ["nas_bench_macro", "sgnas_micro"])
def test_sums_over_layers_are_ranked_within_memory(name):
    space, rng = SPACES[name], random.Random(0)
    archs = space.sample_several(rng, 60)
    memory = table("memory", space)
    limit = sorted(memory.measure(arch) for arch in archs)[20]
    found = fit_additive(archs, [rng.random() for _ in archs]).ranked([Bound(memory, limit)], 4)
    assert len(found) == 4
    assert all(memory.measure(arch) <= limit for arch in found)


def test_memory_alone_gives_the_largest_network_within_it():
    memory, macs = table("memory"), COSTS["macs"].table(MICRO, native_conditions(MICRO))
    limits = ["14KB", "20KB", 25 * 1024]
    for answer, limit in zip(sgnas_zoo.generate(memory=limits, space="sgnas_micro"), (14e3, 20e3, 25600), strict=True):
        largest = macs.fixed + sum(
            max(cost for cost, own in zip(costs, peaks, strict=True) if own <= limit)
            for costs, peaks in zip(macs.layers, memory.layers, strict=True)
        )
        assert memory.measure(answer.arch) == answer.costs["memory_bytes"] <= limit
        assert 0.99 * largest <= answer.macs <= largest
        assert answer.requested == {"memory_bytes": limit}


def test_all_budgets_combine():
    (found,) = sgnas_zoo.generate(memory="16KB", flash="300KB", flops=4e6)
    assert found.space == "sgnas_micro"
    assert found.costs["memory_bytes"] <= 16e3
    assert found.costs["flash_bytes"] <= 300e3
    assert 0.99 * 4e6 <= found.macs <= 4e6


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_precision_decides_what_a_byte_is_and_which_space_answers(precision):
    (found,) = sgnas_zoo.generate(memory="50KB", flops=4e6, precision=precision, space="sgnas_micro")
    has = table("memory", precision=precision).measure(found.arch)
    assert found.costs["memory_bytes"] == has <= 50e3
    assert found.record()["precision"] == precision


def test_a_space_whose_smallest_network_is_too_large_at_the_precision_is_not_chosen():
    least = table("memory", SPACES["sgnas_imagenet"]).minimum
    limit = f"{least * 2 / 1e6}MB"
    assert sgnas_zoo.generate(memory=limit, flops=300e6)[0].space == "sgnas_imagenet"
    assert sgnas_zoo.generate(memory=limit, flops=4e6, precision="float32")[0].space == "sgnas_micro"


# --- What people write


@pytest.mark.parametrize(
    ("written", "meant"),
    [("64KB", 64_000), ("64KiB", 65_536), ("64 kib", 65_536), ("1.5MB", 1.5e6), ("2MiB", 2**21), (65536, 65_536),
     ("65536", 65_536), ("65536B", 65_536), (1e5, 1e5)],
)  # fmt: skip
def test_sizes_have_units(written, meant):
    assert number_of_bytes("memory", written) == meant


@pytest.mark.parametrize(
    ("written", "said"),
    [("64", "did you mean 64KB?"), (64, "did you mean 64KB?"), ("64kg", "such as 64KB"), ("-3KB", "such as 64KB"),
     ("KB", "such as 64KB"), (True, "such as 64KB"), (None, "such as 64KB"), ("0KB", "such as 64KB"),
     (float("nan"), "such as 64KB"), (float("inf"), "such as 64KB"), ([], "such as 64KB"), ("1e400MB", "such as 64KB")],
)  # fmt: skip
def test_what_is_no_size_is_one_line(written, said):
    with pytest.raises(BudgetError, match=re.escape(said)) as refused:
        number_of_bytes("memory", written)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"memory": "2KB"}, "a smaller resolution"),  # less than the image
        ({"flash": "2KB"}, "Choose from 76.6KB to 367.7KB"),
        ({"memory": "64"}, "did you mean 64KB?"),
        ({"memory": "20KB", "precision": "int4"}, "int8"),
    ],
)
def test_budgets_that_cannot_be_met_name_the_way_on(asked, said):
    with pytest.raises(sgnas_zoo.errors.ZooError, match=re.escape(said)):
        sgnas_zoo.create_model(space="sgnas_micro", **asked)


def test_a_model_made_for_memory_says_so_in_its_record_and_card(tmp_path):
    model = sgnas_zoo.create_model(memory="20KB", flash="250KB", flops=4e6)
    assert model.zoo["requested"] == {"flops": 4e6, "memory_bytes": 20e3, "flash_bytes": 250e3}
    assert count_memory(model, 32) == model.zoo["memory_bytes"] <= 20e3
    assert count_flash(model) == model.zoo["flash_bytes"] <= 250e3
    save_model(model, tmp_path / "tiny", weights="untrained")
    card = (tmp_path / "tiny" / "README.md").read_text()
    assert f"{BUDGETS['memory'].title} | 20,000 | {model.zoo['memory_bytes']:,}" in card
    assert "int8" in card


def test_a_keyword_that_makes_a_model_larger_is_refused_where_it_breaks_memory():
    assert sgnas_zoo.create_model(memory="1MB", output_stride=32).zoo["memory_bytes"] <= 1e6
    with pytest.raises(
        BudgetError, match=r"With output_stride the model has [0-9,]+ memory at 224 px, more than 1,000,"
    ):
        sgnas_zoo.create_model(memory="1MB", output_stride=8)


def test_the_command_takes_and_prints_them(tmp_path):
    result = CliRunner().invoke(main, ["generate", "--memory", "16KB", "--flash", "300KB", "--flops", "4M"])
    assert result.exit_code == 0, result.output
    assert re.match(
        r"flops <= 4M, memory <= 16KB, flash <= 300KB: .*KB memory, .*KB flash, sgnas_micro ", result.output
    )
    result = CliRunner().invoke(main, ["generate", "--memory", "64", "--flops", "4M"])
    assert result.exit_code != 0
    assert "did you mean 64KB?" in result.stderr


def test_a_comparison_takes_a_range_of_sizes():
    assert [number_of_bytes("memory", text) for text in listed("memory", "14KB:20KB:2KB,1MiB")] == [
        14e3, 16e3, 18e3, 20e3, 2**20,
    ]  # fmt: skip
