"""Kinds of blocks: what a space's choices add up to, and the networks that are built of them.

To add one: a folder ``kinds/<name>/``. Its ``__init__.py`` is pure Python: a frozen dataclass with the members of
``BlockKind``. Its ``networks.py`` imports torch: the members of ``Networks``. Then write a space with
``kind=YourKind()`` and register it in ``spaces/__init__.py``; nothing else has to know, and the contract tests run over
it. ``macro`` is the shortest example.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sgnas_zoo.spaces.blocks import Block
from sgnas_zoo.spaces.rows import FormName, Layer

if TYPE_CHECKING:
    from torch import nn

    from sgnas_zoo.spaces.arch import Arch
    from sgnas_zoo.spaces.space import SearchSpace

V = TypeVar("V")


class BlockKind(Protocol[V]):
    """A kind of block, itself a frozen value. ``V`` is what a layer's choices add up to: hashable and ordered."""

    def __hash__(self) -> int: ...

    @property
    def empty(self) -> V:
        """What a layer is before any choice is added."""
        ...

    @property
    def budget(self) -> str:
        """The budget that its choices are about, and that generators of its spaces answer."""
        ...

    @property
    def first_conv(self) -> str:
        """timm's name of the first convolution of its networks."""
        ...

    @property
    def classifier(self) -> str:
        """timm's name of their classifier."""
        ...

    @property
    def legend(self) -> str:
        """What the picture of an architecture shows, for its card."""
        ...

    @property
    def untimed(self) -> str:
        """Why a block's time on this machine says nothing; empty where it does."""
        ...

    def plus(self, so_far: V, adds: V) -> V:
        """What a layer is with one more choice."""
        ...

    def has_lite(self, space: SearchSpace) -> bool:
        """Whether a space has the form "lite": networks with other activations and without squeeze-and-excitation.

        It has none where choices bring that: several architectures would be one network.
        """
        ...

    def problems(self, space: SearchSpace) -> list[str]:
        """What is wrong with a space, beyond what every space has to be."""
        ...

    def layers(self, space: SearchSpace) -> tuple[Layer, ...]:
        """The searched layers in running order, with what their slots may take."""
        ...

    def block(self, space: SearchSpace, layer: Layer, variant: V, form: FormName) -> Block | None:
        """The block that a layer becomes; None if it vanishes."""
        ...

    def before(self, space: SearchSpace, form: FormName, in_chans: int) -> tuple[Block, ...]:
        """What precedes the searched layers."""
        ...

    def after(self, space: SearchSpace, num_classes: int) -> Block:
        """What follows them; ``num_classes=0`` leaves the classifier out, as in timm."""
        ...

    def deployed(self, variant: V) -> str:
        """Key of a block in a latency profile: all that its time depends on, besides its layer."""
        ...

    def cells(self, adds: V) -> tuple[int, ...]:
        """Numbers that a picture shows for a choice."""
        ...

    def marked(self, variant: V) -> bool:
        """Whether a picture marks a layer with a dot."""
        ...

    def networks(self) -> Networks:
        """The half that needs torch, imported when this is called."""
        ...


class Networks(Protocol):
    """How the networks of a kind are built, taken apart and trained together."""

    def build(self, arch: Arch, form: FormName, **kwargs: Any) -> nn.Module:
        """A network in timm's conventions.

        Args:
            arch: The architecture.
            form: "final", "lite" or "search".
            kwargs: As timm passes them to a model class: ``num_classes``, ``in_chans``, ``act_layer``, ...
        """
        ...

    def feature_cfg(self, space: SearchSpace) -> Mapping[str, Any]:
        """timm's settings of ``features_only=True``."""
        ...

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """The searched layers of a network that ``build`` made, in running order; those that vanished are left out."""
        ...

    def supernet(self, space: SearchSpace, num_classes: int, in_chans: int, *, zero_init_last: bool) -> nn.Module:
        """The supernet of a space, a ``sgnas_zoo.supernet.Supernet`` with fresh weights.

        Args:
            space: The space.
            num_classes: Classes.
            in_chans: Input channels.
            zero_init_last: Start the norms at the end of residual layers at 0, so that these begin as the identity.

        Raises:
            SpaceError: If there is none for the space.
        """
        ...
