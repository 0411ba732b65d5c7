"""How the slots of a layer add up: many ways to fill them, few different blocks.

Six SGNAS slots can be filled in 3,072 ways, but only 83 blocks come out, since a block is a bag of kernels. Costs are
stated per block; the best or the expected filling is found slot by slot, merging equal bags on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sgnas_zoo.spaces.rows import Choice

if TYPE_CHECKING:
    from sgnas_zoo.spaces.kinds import BlockKind

Variant = Any
"""What a layer's choices add up to: a value of the space's kind of block, hashable and ordered."""


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
def merge(kind: BlockKind[Any], choices: tuple[Choice, ...], allowed: tuple[tuple[int, ...], ...]) -> Merge:
    """Work out what the slots of a layer can add up to; ``allowed[slot]`` lists choice indices."""
    states, steps = [kind.empty], []
    for slot in allowed:
        made = {
            (source, pick): kind.plus(state, choices[pick].adds) for source, state in enumerate(states) for pick in slot
        }
        after = sorted(set(made.values()))
        index = {state: i for i, state in enumerate(after)}
        step = [Transition(source, pick, index[state]) for (source, pick), state in made.items()]
        steps.append(tuple(sorted(step, key=lambda transition: transition.target)))
        states = after
    return Merge(tuple(states), tuple(steps))


def total(kind: BlockKind[Any], choices: Sequence[Choice]) -> Variant:
    """The variant that these choices make."""
    variant = kind.empty
    for choice in choices:
        variant = kind.plus(variant, choice.adds)
    return variant
