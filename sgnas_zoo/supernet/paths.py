"""What a supernet may be asked to run."""

from __future__ import annotations

from torch import Tensor

from sgnas_zoo.errors import ArchError
from sgnas_zoo.spaces import Arch, SearchSpace


def check_path(space: SearchSpace, path: Arch | Tensor) -> None:
    """Refuse an architecture, or probabilities (layers, slots, choices), of another space than a supernet's.

    Raises:
        ArchError: If they are of another one.
    """
    if isinstance(path, Arch) and path.space != space:
        raise ArchError(f"This path is of {path.space.name}, the supernet of {space.name}; sample its own.")
    if not isinstance(path, Arch) and path.shape != space.shape:
        raise ArchError(f"Probabilities of {space.name} have the shape {space.shape}, not {tuple(path.shape)}.")
