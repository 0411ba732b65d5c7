"""Path samplers: which architectures a step trains.

Those here are pure functions of (space, seed, step): every process draws the same paths without talking, and so does a
resumed run. To add one, write a function of that form and register it in ``SAMPLERS``; one that learns from the
training, such as ``greedy.py``, is a class that takes a ``Sampling``, is called with steps, and has a ``state_dict``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from sgnas_zoo.costs import BUDGETS, COSTS, CostTable, native_conditions
from sgnas_zoo.errors import SpaceError
from sgnas_zoo.registry import Registry
from sgnas_zoo.spaces import Arch, SearchSpace

BINS, TRIES, SPANNING = 7, 500, 2000
"""Of ``flops_bins``."""


@dataclass(frozen=True)
class Sampling:
    """What a path sampler may need.

    Args:
        space: The space.
        seed: Seeds what is drawn.
        paths: Architectures of a step.
        steps: Steps of the whole training.
        loss: Gives the losses of architectures under the supernet as it is, the same on every process.
        fits: Whether an architecture may be trained; all may if left out.
    """

    space: SearchSpace
    seed: int = 0
    paths: int = 1
    steps: int = 1
    loss: Callable[[Sequence[Arch]], Sequence[float]] | None = None
    fits: Callable[[Arch], bool] | None = None


PathSampler = Callable[[int], list[Arch]]
"""``sampler(step)`` gives the architectures of a step; it is asked step by step."""


def uniform(space: SearchSpace, seed: int, step: int, paths: int) -> list[Arch]:
    """Draw every slot of every path uniformly (SPOS, 1904.00420)."""
    rng = step_rng(seed, step)
    return [space.sample(rng) for _ in range(paths)]


def flops_bins(space: SearchSpace, seed: int, step: int, paths: int) -> list[Arch]:
    """Draw one of seven bins of FLOPs, then uniform paths until one falls into it (SPOS, released sampler).

    Uniform paths alone crowd in the middle. The bins are of equal width over what 2,000 uniform paths span: for the
    space ``spos`` nearly the released ones, 10M each from 290M to 360M. After 500 tries the last path is taken. Where
    bits are chosen, which change no FLOPs, the bins are of BitOps.
    """
    rng, (table, least, width) = step_rng(seed, step), _bins(space)
    chosen = []
    for _ in range(paths):
        low = least + rng.randrange(BINS) * width
        for _ in range(TRIES):
            path = space.sample(rng)
            if low <= table.measure(path) <= low + width:
                break
        chosen.append(path)
    return chosen


def fair(space: SearchSpace, seed: int, step: int, paths: int) -> list[Arch]:
    """Give the paths of a step different choices: as many paths as there are choices train each once.

    Where slots add up to an expansion (SGNAS, 2103.07289; released sampler), the numbers of active slots of a layer
    come from a shuffled list, and each slot goes through a permutation of its kernels, one every time it is active.
    Unlike the released one, slot 0 is always active, as in every architecture of the space, and a single active slot is
    drawn too: budgets reach down to it. Elsewhere each slot goes through a permutation of its choices (FairNAS,
    1907.01845: strict fairness).
    """
    rng = step_rng(seed, step)
    of_layer = _fair_expansions if _has_expansions(space) else _fair_choices
    layers = [of_layer(space, layer.allowed, rng, paths) for layer in space.layers]
    return [Arch(space, picks) for picks in zip(*layers, strict=True)]


def sandwich(space: SearchSpace, seed: int, step: int, paths: int) -> list[Arch]:
    """The widest expansions with random kernels first, then fair paths (sandwich rule: 1903.05134, section 3).

    The first path is what the others can be distilled from.

    Raises:
        SpaceError: If the space has no skip to vary the expansion with.
    """
    if not _has_expansions(space):
        raise SpaceError(f"The sandwich sampler starts at the widest, which {space.name} does not have; use fair.")
    rng = random.Random(f"{seed}/{step}/widest")
    widest = Arch(space, tuple(tuple(_kernel(space, slot, rng) for slot in layer.allowed) for layer in space.layers))
    return [widest, *(fair(space, seed, step, paths - 1) if paths > 1 else ())]


def with_smallest_kernels(path: Arch) -> Arch:
    """The same expansions with the smallest kernel that each slot may have."""
    space = path.space
    picks = (
        tuple(pick if pick == space.skip else min(p for p in allowed if p != space.skip)
              for pick, allowed in zip(picks, layer.allowed, strict=True))
        for picks, layer in zip(path.picks, space.layers, strict=True)
    )  # fmt: skip
    return Arch(space, tuple(picks))


def _stateless(draw: Callable[[SearchSpace, int, int, int], list[Arch]], sampling: Sampling) -> PathSampler:
    """The sampler that a function of (space, seed, step, paths) makes.

    Raises:
        SpaceError: If it is to keep a limit: it knows none.
    """
    if sampling.fits is not None:
        raise SpaceError(f"The {draw.__name__} sampler keeps no limit; leave --flops out, or take --sampler greedy.")
    return lambda step: draw(sampling.space, sampling.seed, step, sampling.paths)


SAMPLERS: Registry[Callable[[Sampling], PathSampler]] = Registry("sampler")
for _sampler in (uniform, flops_bins, fair, sandwich):
    SAMPLERS.register(_sampler.__name__, partial(_stateless, _sampler))


def step_rng(seed: int, step: int) -> random.Random:
    """A generator of this step's own; text seeds are hashed the same on every machine."""
    return random.Random(f"{seed}/{step}")


@lru_cache(maxsize=8)
def _bins(space: SearchSpace) -> tuple[CostTable, float, float]:
    """Price list, begin of the first bin, and width of each."""
    cost = BUDGETS[space.budget].cost
    table, rng = COSTS[cost].table(space, native_conditions(space, form="search")), random.Random(0)
    costs = [table.measure(space.sample(rng)) for _ in range(SPANNING)]
    return table, min(costs), (max(costs) - min(costs)) / BINS


def _has_expansions(space: SearchSpace) -> bool:
    """Whether the active slots of a layer add up to its expansion."""
    return space.skip is not None and space.slots > 1


def _fair_choices(
    space: SearchSpace, allowed: tuple[tuple[int, ...], ...], rng: random.Random, paths: int
) -> list[tuple[int, ...]]:
    """One layer's choices for every path of a step: each slot takes its choices in turn."""
    turns = [rng.sample(slot, len(slot)) for slot in allowed]
    return [tuple(turn[path % len(turn)] for turn in turns) for path in range(paths)]


def _fair_expansions(
    space: SearchSpace, allowed: tuple[tuple[int, ...], ...], rng: random.Random, paths: int
) -> list[tuple[int, ...]]:
    """One layer's slots for every path of a step."""
    turns = [[pick for pick in slot if pick != space.skip] for slot in allowed]
    for turn in turns:
        rng.shuffle(turn)
    used = [0] * space.slots
    expansions: list[int] = []
    layers = []
    for _ in range(paths):
        if not expansions:
            expansions = rng.sample(range(1, space.slots + 1), space.slots)
        active = {0, *rng.sample(range(1, space.slots), expansions.pop() - 1)}
        picks = [space.skip or 0] * space.slots
        for slot in active:
            picks[slot] = turns[slot][used[slot] % len(turns[slot])]
            used[slot] += 1
        layers.append(tuple(picks))
    return layers


def _kernel(space: SearchSpace, allowed: tuple[int, ...], rng: random.Random) -> int:
    return rng.choice([pick for pick in allowed if pick != space.skip])
