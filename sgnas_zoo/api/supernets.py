"""What ``pretrained`` means: a tag of a space, as in timm, or somebody's own supernet in a folder or on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from sgnas_zoo.api.request import Pretrained, Request
from sgnas_zoo.api.spaces import choose_space
from sgnas_zoo.errors import ArchError, PretrainedError, unknown_name
from sgnas_zoo.hub.generators import published_generator
from sgnas_zoo.hub.names import read_name
from sgnas_zoo.hub.remote import Access
from sgnas_zoo.hub.supernets import TrainedSupernet, load_supernet, published_supernet
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.zoo import SupernetEntry, published, supernet_entries

UNTAGGED = "inherited"
"""What stands for a tag where a supernet was named by its folder or repo."""


def is_place(pretrained: Pretrained) -> bool:
    """Whether ``pretrained`` names a folder or a repo, in any spelling of ``read_name``, rather than a tag."""
    if isinstance(pretrained, bool):
        return False
    return read_name(pretrained, {entry.tag for entry in supernet_entries()}.__contains__) is not None


def find_supernet(request: Request, space: str | None) -> tuple[TrainedSupernet, ArchGenerator | None, str]:
    """The supernet that a request inherits from, the generator trained on it if the package names one, and their tag.

    Args:
        request: The request; its budgets or its architecture tell the space where nothing else does.
        space: Name of the space, if one was named or follows from what was given.

    Raises:
        PretrainedError: If the tag is not published yet, or there is none.
        UnknownNameError: If there is no such tag.
        ArtifactError: If a supernet cannot be loaded.
    """
    if is_place(request.pretrained):
        return load_supernet(request.pretrained, **request.access._asdict()), None, UNTAGGED  # type: ignore[arg-type]
    entry = _entry(space or _space(request), request.pretrained)
    if entry.supernet is None:
        raise PretrainedError(_unpublished(entry))
    trained = published_supernet(entry.supernet, _needed(entry.supernet, request.access))
    if entry.generator is None:
        return trained, None, entry.tag
    access = request.access._replace(revision=None)
    return trained, published_generator(entry.generator, _needed(entry.generator, access)), entry.tag


def supernet_of(model: nn.Module) -> TrainedSupernet | None:
    """The supernet that a network's weights were inherited from; None where its record names none.

    Args:
        model: Any model. What was trained further still names the supernet that it began with.

    Raises:
        ArtifactError: If it cannot be loaded.
    """
    record: dict[str, Any] = getattr(model, "zoo", None) or {}
    named = record.get("supernet") or {}
    if not isinstance(named.get("id"), str):
        return None
    place, packaged = named["id"], named["id"].removeprefix("sgnas_zoo/")
    if packaged != place and any(entry.supernet == packaged for entry in supernet_entries()):
        return published_supernet(packaged)
    return load_supernet(place, revision=named.get("revision"))


def _space(request: Request) -> str:
    """Name of the space that has weights under a tag and suits the rest of the request."""
    names = tagged_spaces(request.pretrained, request.family)
    if request.arch is not None:
        return next((name for name in names if _reads(name, request.arch)), names[0])
    return choose_space(request.budgets, names, form="search", **request.conditions)


def tagged_spaces(pretrained: Pretrained, family: str | None = None) -> list[str]:
    """Names of the spaces that have weights under a tag, in registry order.

    Raises:
        PretrainedError: If the family has none at all.
        UnknownNameError: If there is no such tag.
    """
    entries = [e for e in supernet_entries() if family in (None, SPACES[e.space].family)]
    if not entries:
        raise PretrainedError(f"No weights are published for {family} yet; {_ways_on([])}.")
    spaces = [e.space for e in entries if (e.default if pretrained is True else e.tag == pretrained)]
    if not spaces:
        raise unknown_name("tag, folder or Hub repo", pretrained, [e.tag for e in entries])
    return list(dict.fromkeys(spaces))


def _needed(place: str, access: Access) -> Access:
    """How to reach a published artifact: what is in the package is read, and cached, once for all."""
    return access if isinstance(published(place), str) else Access()


def _entry(space: str, pretrained: Pretrained) -> SupernetEntry:
    """The entry of a space under a tag.

    Raises:
        PretrainedError: If the space has none at all.
        UnknownNameError: If it has none under this tag; tags of this space are suggested.
    """
    entries = [e for e in supernet_entries() if e.space == space]
    found = next((e for e in entries if (e.default if pretrained is True else e.tag == pretrained)), None)
    if found is None and entries and pretrained is not True:
        raise unknown_name(f"tag of {space}", pretrained, [e.tag for e in entries])
    if found is None:
        raise PretrainedError(f"{space} has no weights; {_ways_on(entries)}.")
    return found


def _unpublished(entry: SupernetEntry) -> str:
    others = [e for e in supernet_entries() if e.space == entry.space]
    return (
        f"{entry.space} knows the tag {entry.tag} ({entry.dataset}), but it is not published yet; {_ways_on(others)}."
    )


def _ways_on(entries: Sequence[SupernetEntry]) -> str:
    ways = [
        "train a supernet with recipes/train_supernet.py and name its folder",
        "convert a released checkpoint with `sgnas-zoo convert` and push it with `sgnas-zoo push`",
    ]
    ways += [f"take what is there: pretrained={e.tag!r}" for e in entries if e.supernet]
    return ", or ".join(ways)


def _reads(space: str, arch: str) -> bool:
    """Whether a string is an architecture of a space."""
    try:
        SPACES[space].parse(arch)
    except ArchError:
        return False
    return True
