"""``Arch``: the discrete decision, a frozen value that belongs to one search space."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sgnas_zoo.errors import ArchError

if TYPE_CHECKING:
    from sgnas_zoo.spaces.space import SearchSpace

Picks = tuple[int, ...]
"""One choice index per slot of a layer."""


@dataclass(frozen=True)
class Arch:
    """One architecture: a choice index per layer and slot.

    ``str(arch)`` joins one token per layer with ``-``: the labels of its slots, trailing skips left out
    (``5737-733-...``; a skip before an active slot is spelled out, so that the string loses nothing). Where every
    layer is one character they stand together (``21012020...``).

    Args:
        space: The space it belongs to.
        picks: ``picks[layer][slot]`` is an index into ``space.choices``.

    Raises:
        ArchError: If it is not in the space.
    """

    space: SearchSpace = field(hash=False, repr=False)
    picks: tuple[Picks, ...]

    def __post_init__(self) -> None:
        space = self.space
        if len(self.picks) != len(space.layers):
            raise ArchError(_layer_count(space, len(self.picks)))
        for number, (layer, picks) in enumerate(zip(space.layers, self.picks, strict=True), start=1):
            if len(picks) != space.slots:
                raise ArchError(f"Layer {number} decides {len(picks)} slots; {space.name} has {space.slots} per layer.")
            for slot, (allowed, pick) in enumerate(zip(layer.allowed, picks, strict=True)):
                if pick not in allowed:
                    raise ArchError(_not_allowed(space, number, slot, pick))

    def __str__(self) -> str:
        return self.space.separator.join(self._token(picks) for picks in self.picks)

    def to_json(self) -> str:
        """Write it with the name of its space; ``sgnas_zoo.spaces.arch_from_json`` reads it back."""
        return json.dumps({"space": self.space.name, "arch": str(self)})

    def _token(self, picks: Picks) -> str:
        space = self.space
        active = max((slot for slot, pick in enumerate(picks) if pick != space.skip), default=0)
        return "".join(space.choices[pick].label for pick in picks[: active + 1])


def parse_layers(space: SearchSpace, text: str) -> tuple[Picks, ...]:
    """Read the tokens of an architecture string into choice indices, skips filled in at the end of a layer.

    Raises:
        ArchError: If the number of layers or a token does not fit the space.
    """
    tokens = _tokens(space, text.strip()) if isinstance(text, str) else []
    if len(tokens) != len(space.layers):
        raise ArchError(_layer_count(space, len(tokens)))
    index = {choice.label: i for i, choice in enumerate(space.choices)}
    layers = []
    for number, token in enumerate(tokens, start=1):
        labels = list(token) if space.slots > 1 else [token]
        unknown = [label for label in labels if label not in index]
        if not token or unknown:
            what = f"has {unknown[0]!r}" if token else "is empty"
            raise ArchError(f"Layer {number} {what}; {space.name} takes {', '.join(index)} there.")
        if len(labels) > space.slots or (len(labels) < space.slots and space.skip is None):
            raise ArchError(f"Layer {number} {token!r} decides {len(labels)} slots; {space.name} has {space.slots}.")
        picks = [index[label] for label in labels]
        layers.append(tuple(picks + [space.skip or 0] * (space.slots - len(picks))))
    return tuple(layers)


def _tokens(space: SearchSpace, text: str) -> list[str]:
    return text.split("-") if space.separator or "-" in text else list(text)


def _layer_count(space: SearchSpace, count: int) -> str:
    first = (tuple(slot[0] for slot in layer.allowed) for layer in space.layers)
    picks = first if space.skip is None else (own[:1] + (space.skip,) * (space.slots - 1) for own in first)
    example = Arch(space, tuple(picks))
    return f"An architecture of {space.name} has {len(space.layers)} layers, this one {count}; for example '{example}'."


def _not_allowed(space: SearchSpace, number: int, slot: int, pick: int) -> str:
    allowed = [space.choices[i].label for i in space.layers[number - 1].allowed[slot]]
    what = repr(space.choices[pick].label) if 0 <= pick < len(space.choices) else f"choice {pick}"
    return f"Layer {number} of {space.name} cannot take {what} in slot {slot}; choose from {', '.join(allowed)}."
