"""Networks made from a state dict: its tensors say the channels and classes, and have to fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.models.record import remember
from sgnas_zoo.spaces import Arch, FormName

State = Mapping[str, Tensor]


def network_of(state: State, arch: Arch, form: FormName) -> nn.Module:
    """The network of a state dict with timm's names, as ``model.state_dict()`` of one of ours has them.

    Raises:
        ArtifactError: If the tensors are of another architecture or form.
    """
    with complete():
        first, head = state[f"{arch.space.kind.first_conv}.weight"], state.get(f"{arch.space.kind.classifier}.weight")
        return filled(state, arch, form, int(first.shape[1]), 0 if head is None else int(head.shape[0]))


def filled(state: State, arch: Arch, form: FormName, in_chans: int, num_classes: int) -> nn.Module:
    """Build a network, and give it tensors.

    Raises:
        ArtifactError: If they do not fit.
    """
    model = build_model(arch.space.family, arch, form, num_classes=num_classes, in_chans=in_chans)
    fill(model, state, f"{arch} of {arch.space.name} in the {form} form; check architecture, form and file.")
    remember(model, arch, form)
    return model


def fill(module: nn.Module, state: State, what: str) -> None:
    """Load weights that must fit exactly.

    Raises:
        ArtifactError: If they do not fit what it is; it ends with that.
    """
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ArtifactError(f"The tensors do not fit {what}") from error


@contextmanager
def complete() -> Iterator[None]:
    """Tell of a tensor that is missing, or has too few dimensions, in one line.

    Raises:
        ArtifactError: If one is.
    """
    try:
        yield
    except (KeyError, IndexError) as error:
        raise ArtifactError(f"The network lacks {error}; check the file.") from error
