"""How the slots of a layer add up: many ways to fill them, few different blocks.

Six SGNAS slots can be filled in 3,072 ways, but only 83 blocks come out, since a block is a bag of kernels. Costs are
stated per block; the best or the expected filling is found slot by slot, merging equal bags on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple


@dataclass(frozen=True)
class Choice:
    """A candidate at a slot.

    Args:
        label: How an architecture string spells it; one character where a layer has several slots.
        kernels: The depthwise kernels it switches on, one per expansion group; none for a skip.
        se: Whether it brings squeeze-and-excitation.
        scale: Factor of the width inside a shuffle block; 0 where another slot decides it, or in other blocks.
        bits: Bits of weights and of activations, where it quantises a convolution.
    """

    label: str
    kernels: tuple[int, ...] = ()
    se: bool = False
    scale: float = 0.0
    bits: tuple[int, ...] = ()

    @property
    def skips(self) -> bool:
        """Whether it adds nothing."""
        return not self.kernels and not self.scale and not self.bits


class Variant(NamedTuple):
    """What a layer's choices add up to: depthwise kernels in rising order, SE or not, factor of the width, bits."""

    kernels: tuple[int, ...] = ()
    se: bool = False
    scale: float = 0.0
    bits: tuple[int, ...] = ()

    def plus(self, choice: Choice) -> Variant:
        """This variant with one more choice."""
        kernels, scale = tuple(sorted(self.kernels + choice.kernels)), self.scale + choice.scale
        return Variant(kernels, self.se or choice.se, scale, self.bits + choice.bits)


class Transition(NamedTuple):
    """Picking ``choice`` at a slot leads from state ``source`` before it to state ``target`` after it."""

    source: int
    choice: int
    target: int


@dataclass(frozen=True, eq=False)
class Merge:
    """The variants of a layer, and the way to them through its slots. Equal layers share one object.

    Args:
        variants: The distinct outcomes, in a fixed order.
        steps: Per slot its transitions, sorted by target; the states after the last slot are the variants.
    """

    variants: tuple[Variant, ...]
    steps: tuple[tuple[Transition, ...], ...]

    @cached_property
    def position(self) -> dict[Variant, int]:
        """Index of every variant."""
        return {variant: i for i, variant in enumerate(self.variants)}

    def picks(self, variant: Variant) -> tuple[int, ...]:
        """One way to fill the slots that makes ``variant``: a choice index per slot."""
        state, picks = self.position[variant], list[int]()
        for step in reversed(self.steps):
            last = next(transition for transition in step if transition.target == state)
            state = last.source
            picks.append(last.choice)
        return tuple(reversed(picks))


@lru_cache(maxsize=256)
def merge(choices: tuple[Choice, ...], allowed: tuple[tuple[int, ...], ...]) -> Merge:
    """Work out what the slots of a layer can add up to; ``allowed[slot]`` lists choice indices."""
    states, steps = [Variant()], []
    for slot in allowed:
        after = sorted({state.plus(choices[pick]) for state in states for pick in slot})
        index = {state: i for i, state in enumerate(after)}
        step = [
            Transition(source, pick, index[state.plus(choices[pick])])
            for source, state in enumerate(states)
            for pick in slot
        ]
        steps.append(tuple(sorted(step, key=lambda transition: transition.target)))
        states = after
    return Merge(tuple(states), tuple(steps))


def add_up(choices: Sequence[Choice]) -> Variant:
    """The variant that these choices make."""
    variant = Variant()
    for choice in choices:
        variant = variant.plus(choice)
    return variant
