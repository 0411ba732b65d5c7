"""A made-up profile whose times follow from what blocks are: nothing in it was measured."""

from dataclasses import replace

from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.costs.profile import BlockTime, Profile, Setup, Validation
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.spaces.space import SKIP

SETUP = Setup("A board", "board", "elsewhere", threads=1)


def made_up(space="sgnas_imagenet", *, form="final", ms_per_mac=5e-8, setup=SETUP, **changes):
    """A profile that takes a fixed time for every MAC of a deployed block, and half a microsecond a row or bit."""
    space = SPACES[space]
    conditions = native_conditions(space, form=form)
    table = COSTS["macs"].table(space, conditions)
    slowest = {}
    for layer, costs in enumerate(table.layers):
        for cost, variant in zip(costs, space.merge(layer).variants, strict=True):
            key = layer, space.deployed(layer, variant)
            if key[1] != SKIP:
                largest = max(space.kind.cells(variant), default=0)
                slowest[key] = max(slowest.get(key, 0), cost * ms_per_mac + largest * 5e-4)
    blocks = tuple(BlockTime(*key, time, 0.1 * time, 20) for key, time in sorted(slowest.items()))
    made = Profile(
        space.name, conditions, setup, (("elsewhere", "1.0"),), 1, "2026-01-01", table.fixed * ms_per_mac, 1.0, blocks,
        Validation(24, 0.03, 0.08, 0.98),
    )  # fmt: skip
    return replace(made, **changes)


def csv_of(profile):
    """A profile as a table, as somebody else's tool writes it."""
    rows = [f"{b.layer},{b.choice},{b.median_ms}" for b in profile.blocks]
    return "\n".join(["layer,choice,median_ms", *rows, f"fixed,,{profile.fixed_ms}"])
