"""A search space as data: rows of layers, slots to decide in each, choices at every slot."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from sgnas_zoo.errors import ArchError, SpaceError, unknown_name
from sgnas_zoo.spaces.arch import Arch, Picks, parse_layers
from sgnas_zoo.spaces.blocks import Block
from sgnas_zoo.spaces.kinds import BlockKind
from sgnas_zoo.spaces.rows import Choice, Form, FormName, Layer, Row
from sgnas_zoo.spaces.variants import Merge, Variant, merge, total

MAX_COMBINATIONS = 100_000
"""Most ways to fill the slots of one layer: a bound that keeps their enumeration small."""


SKIP = "skip"
"""What a layer that vanishes is deployed as: it takes no time."""


@dataclass(frozen=True)
class SearchSpace:
    """The set of architectures that rows, slots and choices span.

    Args:
        name: Registry name.
        family: The timm entry point that builds its architectures ("sgnas", "greedynas").
        kind: The kind of its blocks; it also says what precedes and follows the searched layers.
        rows: The stages.
        choices: The candidates; what they add is of the kind.
        final: The form of stand-alone networks. The lite form follows from it, see ``Form.lite``: where final has ReLU6
            and no squeeze-and-excitation already, both are the same.
        search: The form inside the supernet; ``final`` if left out.
        slots: Positions to decide per layer.
        stem_chs: Width of the stem.
        stem_stride: Stride of the stem, 1 or 2.
        first_chs: Width after the fixed first block.
        head_chs: Width of the head convolution.
        resolution: Native input size in pixels.
        num_classes: Native number of classes.

    Raises:
        SpaceError: If these do not make a space that timm can build.
    """

    name: str
    family: str
    kind: BlockKind[Any]
    rows: tuple[Row, ...]
    choices: tuple[Choice, ...]
    final: Form
    search: Form | None = None
    slots: int = 1
    stem_chs: int = 32
    stem_stride: int = 2
    first_chs: int = 16
    head_chs: int = 1280
    resolution: int = 224
    num_classes: int = 1000

    def __post_init__(self) -> None:
        problems = [*_problems(self)]
        if problems:
            raise SpaceError(f"Search space {self.name!r}: {'; '.join(problems)}. Correct these and build it again.")

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The searched layers in running order."""
        return self.kind.layers(self)

    @property
    def size(self) -> int:
        """Number of its architectures."""
        return math.prod(len(slot) for layer in self.layers for slot in layer.allowed)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(layers, slots, choices): the shape of a generator's logits for one budget."""
        return len(self.layers), self.slots, len(self.choices)

    @cached_property
    def skip(self) -> int | None:
        """Index of the choice that adds nothing, if there is one."""
        return next((i for i, choice in enumerate(self.choices) if choice.adds == self.kind.empty), None)

    @property
    def budget(self) -> str:
        """The budget that its choices are mostly about, and that its generators answer."""
        return self.kind.budget

    @property
    def separator(self) -> str:
        """What stands between the layers of an architecture string; nothing where each is one character."""
        return "" if self.slots == 1 and all(len(choice.label) == 1 for choice in self.choices) else "-"

    @property
    def reduction(self) -> int:
        """Pixels of the input along one side of a pixel of the last map."""
        before = math.prod(part.stride for part in self.before("final"))
        return before * math.prod(layer.stride for layer in self.layers)

    def check_resolution(self, resolution: int) -> None:
        """Refuse an input that shrinks below one pixel.

        Raises:
            SpaceError: If it does.
        """
        if resolution < self.reduction:
            raise SpaceError(
                f"{self.name} shrinks its input to 1/{self.reduction}, and {resolution} pixels are fewer than that; "
                f"give at least {self.reduction}."
            )

    def form(self, name: FormName) -> Form:
        """The form called "search", "final" or "lite".

        Raises:
            UnknownNameError: If there is no form of that name.
            SpaceError: If the space has no lite form: its blocks know none, or a choice brings squeeze-and-excitation.
        """
        if name not in get_args(FormName):
            raise unknown_name("form", name, get_args(FormName))
        if name not in self.forms:
            raise SpaceError(
                f"{self.name} has no lite form, as its blocks or its choices fix activation or squeeze-and-excitation: "
                "say form='final' (--form final), or take a space that has one, such as sgnas_imagenet."
            )
        return {"search": self.search or self.final, "final": self.final, "lite": self.final.lite}[name]

    @property
    def forms(self) -> tuple[FormName, ...]:
        """Names of its forms."""
        return ("search", "final", "lite") if self.kind.has_lite(self) else ("search", "final")

    @property
    def standalone_forms(self) -> tuple[FormName, ...]:
        """Names of the forms of stand-alone networks that take other times: "final", and "lite" where that does less.

        It does where it drops squeeze-and-excitation, or an activation that is dearer than ReLU.
        """
        final = self.final
        dearer = final.se or not {final.stem_act, final.block_act} <= {"relu", "relu6"}
        return ("final", "lite") if dearer and "lite" in self.forms else ("final",)

    def merge(self, layer: int) -> Merge:
        """The variants of a layer, and how its slots lead to them."""
        return merge(self.kind, self.choices, self.layers[layer].allowed)

    def variant(self, picks: Picks) -> Variant:
        """What the choices at a layer's slots add up to; ``picks`` holds a choice index per slot."""
        variant = self._variants.get(picks)
        if variant is None:
            variant = self._variants[picks] = total(self.kind, [self.choices[pick] for pick in picks])
        return variant

    @cached_property
    def _variants(self) -> dict[Picks, Variant]:
        """Variants that were asked for: there are few, and every cost of every architecture asks for them."""
        return {}

    def block(self, layer: int, variant: Variant, form: FormName) -> Block | None:
        """The block that a layer becomes under ``variant``; None if it vanishes."""
        return self.kind.block(self, self.layers[layer], variant, form)

    def blocks(self, arch: Arch, form: FormName) -> list[list[Any]]:
        """The blocks of an architecture, a list per stage; layers that vanish are left out."""
        self._own(arch)
        stages: list[list[Any]] = [[] for _ in self.rows]
        for layer, picks in zip(self.layers, arch.picks, strict=True):
            block = self.kind.block(self, layer, self.variant(picks), form)
            if block is not None:
                stages[layer.stage].append(block)
        return stages

    def deployed(self, layer: int, variant: Variant) -> str:
        """Key of a layer under ``variant`` in a latency profile; ``SKIP`` if it vanishes."""
        vanishes = self.block(layer, variant, "final") is None
        return SKIP if vanishes else self.kind.deployed(variant)

    def before(self, form: FormName, in_chans: int = 3) -> tuple[Block, ...]:
        """What precedes the searched layers.

        Raises:
            SpaceError: If the space has no such form.
        """
        self.form(form)
        return self.kind.before(self, form, in_chans)

    def after(self, num_classes: int) -> Block:
        """What follows the searched layers; ``num_classes=0`` leaves the classifier out, as in timm."""
        return self.kind.after(self, num_classes)

    def arch(self, picks: Sequence[Sequence[int]]) -> Arch:
        """Make an architecture from choice indices per layer and slot.

        Raises:
            ArchError: If a layer or slot is missing, or a choice is not allowed there.
        """
        return Arch(self, tuple(tuple(int(pick) for pick in layer) for layer in picks))

    def parse(self, text: str) -> Arch:
        """Read an architecture string, one token per layer, joined as ``separator`` says.

        Raises:
            ArchError: If it has another number of layers, or a token that the layer cannot take.
        """
        return Arch(self, parse_layers(self, text))

    def sample(self, rng: random.Random) -> Arch:
        """Draw every slot uniformly from what it may take."""
        return Arch(self, tuple(tuple(rng.choice(slot) for slot in layer.allowed) for layer in self.layers))

    def sample_several(self, rng: random.Random, count: int) -> list[Arch]:
        """Draw ``count`` different architectures uniformly; all of them where the space has no more."""
        found: dict[Arch, None] = {}
        while len(found) < min(count, self.size):
            found[self.sample(rng)] = None
        return [*found]

    def mutate(self, arch: Arch, rng: random.Random, prob: float = 0.1) -> Arch:
        """Redraw each slot with probability ``prob``; a slot may draw what it had (SPOS, released search)."""
        self._own(arch)
        return Arch(
            self,
            tuple(
                tuple(
                    rng.choice(slot) if rng.random() < prob else pick
                    for slot, pick in zip(layer.allowed, picks, strict=True)
                )
                for layer, picks in zip(self.layers, arch.picks, strict=True)
            ),
        )

    def crossover(self, first: Arch, second: Arch, rng: random.Random) -> Arch:
        """Take each layer from either parent with equal odds (SPOS, released search)."""
        self._own(first, second)
        return Arch(self, tuple(rng.choice(pair) for pair in zip(first.picks, second.picks, strict=True)))

    def _own(self, *archs: Arch) -> None:
        """Refuse architectures of other spaces."""
        for arch in archs:
            if arch.space != self:
                raise ArchError(f"This architecture is of {arch.space.name}, not {self.name}; make one of {self.name}.")


def _problems(space: SearchSpace) -> list[str]:
    labels = [choice.label for choice in space.choices]
    widths = [space.stem_chs, space.first_chs, space.head_chs, *(row.out_chs for row in space.rows)]
    checks = [
        (not space.rows or any(row.repeats < 1 for row in space.rows), "every row repeats at least once"),
        (any(width < 8 or width % 8 for width in widths), "channels are positive multiples of 8, as timm rounds them"),
        (any(row.stride not in (1, 2) for row in space.rows) or space.stem_stride not in (1, 2), "strides are 1 or 2"),
        (len(set(labels)) < len(labels) or len(labels) < 2, "at least two choices with different labels"),
        (
            any(not re.fullmatch(r"[^-\s]+", label) for label in labels),
            "labels are not empty and hold no '-' or space",
        ),
        (space.slots > 1 and any(len(label) > 1 for label in labels), "labels of several slots are one character"),
        (space.slots < 1, "at least one slot"),
        (len(space.choices) ** min(space.slots, 17) > MAX_COMBINATIONS, "at most 100,000 ways to fill a layer"),
        (space.resolution < 1 or space.num_classes < 0, "resolution and classes are counts"),
    ]
    own = type(space.kind.empty)
    if any(not isinstance(choice.adds, own) for choice in space.choices):
        return [f"choices of {type(space.kind).__name__} add {own.__name__}(...)"]
    return [*(text for failed, text in checks if failed), *space.kind.problems(space)]
