"""Which supernet serves which space."""

from __future__ import annotations

from sgnas_zoo.spaces import QuantisedSpace, SearchSpace, ShuffleSpace
from sgnas_zoo.supernet.choice_blocks import ChoiceSupernet
from sgnas_zoo.supernet.quantised import QuantisedSupernet
from sgnas_zoo.supernet.unified import UnifiedSupernet

Supernet = UnifiedSupernet | ChoiceSupernet | QuantisedSupernet


def make_supernet(
    space: SearchSpace, num_classes: int | None = None, in_chans: int = 3, *, zero_init_last: bool = False
) -> Supernet:
    """The supernet of a space, with fresh weights: of whole blocks, of bits, or the unified one, as layers choose.

    Args:
        space: The space.
        num_classes: Classes; by default the space's.
        in_chans: Input channels.
        zero_init_last: Start the norms at the end of residual layers at 0, so that these begin as the identity.

    Raises:
        SpaceError: If neither can serve the space.
    """
    if isinstance(space, QuantisedSpace):
        return QuantisedSupernet(space, num_classes, in_chans, zero_init_last=zero_init_last)
    kind = ChoiceSupernet if space.slots == 1 or isinstance(space, ShuffleSpace) else UnifiedSupernet
    return kind(space, num_classes, in_chans, zero_init_last=zero_init_last)
