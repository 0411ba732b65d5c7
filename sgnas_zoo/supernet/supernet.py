"""What every supernet is: one set of weights, of which a path is a stand-alone network."""

from __future__ import annotations

import random
from abc import abstractmethod

from torch import Tensor, nn

from sgnas_zoo.errors import ArchError
from sgnas_zoo.spaces import Arch, SearchSpace


class Supernet(nn.Module):
    """Base of the supernets of all kinds. No active architecture is kept on the module: it is an argument of a pass.

    Args:
        space: The space.
        num_classes: Classes; by default the space's.
        in_chans: Input channels.
    """

    grows = False
    """Whether larger kernels can start as copies of the smallest ones, see ``grow_kernels``."""

    classifier: nn.Module

    def __init__(self, space: SearchSpace, num_classes: int | None = None, in_chans: int = 3) -> None:
        super().__init__()
        self.space, self.in_chans = space, in_chans
        self.num_classes = space.num_classes if num_classes is None else num_classes

    @abstractmethod
    def forward(self, x: Tensor, path: Arch | Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_chans, H, W).

        Args:
            x: Images.
            path: An architecture: only its part runs. Or probabilities (layers, slots, choices): every choice runs,
                weighted.

        Raises:
            ArchError: If the path is of another space.
        """

    @abstractmethod
    def state_of(self, arch: Arch) -> dict[str, Tensor]:
        """The state dict of the stand-alone network of a path in its search form, in timm's names; no copies."""

    def examples(self) -> dict[str, Arch]:
        """Architectures to follow during training, by name: three random ones."""
        return {f"random_{i}": self.space.sample(random.Random(i)) for i in range(3)}

    def grow_kernels(self) -> None:
        """Give the larger kernels the values of the smallest: no path changes until they are trained."""
        raise NotImplementedError(f"{type(self).__name__} has no kernels that grow into each other.")

    def check_path(self, path: Arch | Tensor) -> None:
        """Refuse an architecture, or probabilities (layers, slots, choices), of another space.

        Raises:
            ArchError: If they are of another one.
        """
        space = self.space
        if isinstance(path, Arch) and path.space != space:
            raise ArchError(f"This path is of {path.space.name}, the supernet of {space.name}; sample its own.")
        if not isinstance(path, Arch) and path.shape != space.shape:
            raise ArchError(f"Probabilities of {space.name} have the shape {space.shape}, not {tuple(path.shape)}.")


def make_supernet(
    space: SearchSpace, num_classes: int | None = None, in_chans: int = 3, *, zero_init_last: bool = False
) -> Supernet:
    """The supernet of a space, with fresh weights.

    Args:
        space: The space; its kind of block says which supernet that is.
        num_classes: Classes; by default the space's.
        in_chans: Input channels.
        zero_init_last: Start the norms at the end of residual layers at 0, so that these begin as the identity.

    Raises:
        SpaceError: If there is none for the space.
    """
    classes = space.num_classes if num_classes is None else num_classes
    made = space.kind.networks().supernet(space, classes, in_chans, zero_init_last=zero_init_last)
    assert isinstance(made, Supernet)
    return made
