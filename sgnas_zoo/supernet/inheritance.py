"""What a stand-alone network takes from a supernet: an exact slice of its weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sgnas_zoo.errors import ArchError
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.models.record import remember
from sgnas_zoo.spaces import Arch
from sgnas_zoo.supernet.supernet import Supernet


def inherit_model(supernet: Supernet, arch: Arch, **kwargs: Any) -> nn.Module:
    """Build the search form of an architecture and give it its slice of the supernet.

    It is on the supernet's device. In evaluation mode it computes what the supernet computes along that path. Its batch
    norm statistics are the supernet's: call ``calibrate_bn`` before you use it.

    Args:
        supernet: The supernet.
        arch: An architecture of its space.
        kwargs: For timm (``drop_rate``, ...); classes and channels are the supernet's.

    Raises:
        ArchError: If the architecture is of another space.
    """
    state = inherited_state(supernet, arch)
    kwargs = {"num_classes": supernet.num_classes, "in_chans": supernet.in_chans, **kwargs}
    model = build_model(arch.space.family, arch, "search", **kwargs)
    remember(model, arch, "search")
    model.load_state_dict(state)
    return model.to(next(supernet.parameters()).device).train(supernet.training)


def inherited_state(supernet: Supernet, arch: Arch) -> dict[str, Tensor]:
    """The state dict of the timm model of ``arch`` in its search form, copied from the supernet.

    Raises:
        ArchError: If the architecture is of another space.
    """
    if arch.space != supernet.space:
        raise ArchError(
            f"This architecture is of {arch.space.name}, the supernet of {supernet.space.name}; take one of its own."
        )
    return {name: tensor.detach().clone() for name, tensor in supernet.state_of(arch).items()}
