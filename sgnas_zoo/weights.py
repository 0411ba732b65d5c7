"""What ``pretrained`` means: a tag of a space, as in timm, or somebody's own supernet in a folder or on the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from sgnas_zoo.errors import ArchError, PretrainedError, unknown_name
from sgnas_zoo.hub.generators import published_generator
from sgnas_zoo.hub.names import read_name
from sgnas_zoo.hub.remote import Access
from sgnas_zoo.hub.supernets import TrainedSupernet, load_supernet, published_supernet
from sgnas_zoo.search.budgets import broadcast
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.selection import choose_space
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.zoo import SupernetEntry, published, supernet_entries

_token: ContextVar[str | None] = ContextVar("token", default=None)

Pretrained = bool | str | Path
"""True for the default tag of a space, a tag, a folder, or a Hub repo id with an optional ``@revision``."""


def is_place(pretrained: Pretrained) -> bool:
    """Whether ``pretrained`` names a folder or a repo, in any spelling of ``read_name``, rather than a tag."""
    if isinstance(pretrained, bool):
        return False
    return read_name(pretrained, {entry.tag for entry in supernet_entries()}.__contains__) is not None


@contextmanager
def logged_in(token: str | None) -> Iterator[None]:
    """Use a token for all that the ``with`` block reads: it passes timm by, which keeps every keyword with a model."""
    before = _token.set(token)
    try:
        yield
    finally:
        _token.reset(before)


def take_access(keywords: MutableMapping[str, Any]) -> Access:
    """How to reach the Hub, out of a call's keywords; ``cache_dir`` stays there, as timm knows it too.

    Raises:
        PretrainedError: If a token is among them, as with timm's own entry points.
    """
    refuse_token(keywords)
    named = {name: keywords.pop(name) for name in ("revision", "local_files_only") if name in keywords}
    return Access(
        token=_token.get(), cache_dir=keywords.get("cache_dir"), **{k: v for k, v in named.items() if v is not None}
    )


def refuse_token(keywords: Mapping[str, Any]) -> None:
    """Refuse a token that came through timm.

    Raises:
        PretrainedError: If there is one.
    """
    if keywords.get("token") is not None:
        raise PretrainedError(
            "timm keeps every keyword with a model, a token too: log in with `hf auth login` or HF_TOKEN, or call "
            "sgnas_zoo.create_model(token=...)."
        )


def tagged_spaces(pretrained: Pretrained, family: str | None = None) -> list[str]:
    """Names of the spaces that have weights under a tag, in registry order.

    Raises:
        PretrainedError: If the family has none at all.
        UnknownNameError: If there is no such tag.
    """
    entries = [e for e in supernet_entries() if family in (None, SPACES[e.space].family)]
    if not entries:
        raise PretrainedError(
            f"No supernet of {family} is published; train one with recipes/train_supernet.py and name its folder: "
            "pretrained='FOLDER'."
        )
    spaces = [e.space for e in entries if (e.default if pretrained is True else e.tag == pretrained)]
    if not spaces:
        raise unknown_name("tag, folder or Hub repo", pretrained, [e.tag for e in entries])
    return list(dict.fromkeys(spaces))


def find_supernet(
    pretrained: Pretrained,
    family: str,
    arch: str | None,
    space: str | None,
    budgets: Mapping[str, float],
    access: Access,
) -> tuple[TrainedSupernet, ArchGenerator | None]:
    """The supernet that a request inherits from, and the generator that was trained on it, if the package names one.

    Args:
        pretrained: Tag, folder or repo; True for the default tag.
        family: Family of the network.
        arch: Architecture string, if one was named: it helps to tell the space.
        space: Name of the space, if one was named.
        budgets: The budgets, if any were: likewise.
        access: How to reach a repo.

    Raises:
        PretrainedError: If the tag is not published yet, or the space has none.
        UnknownNameError: If there is no such tag.
        ArtifactError: If a supernet cannot be loaded.
    """
    if is_place(pretrained):
        return load_supernet(pretrained, **access._asdict()), None  # type: ignore[arg-type]  # a place is no bool
    names = tagged_spaces(pretrained, family)
    if space is None and arch is not None:
        space = next((name for name in names if _reads(name, arch)), names[0])
    chosen = choose_space(space, family, None, broadcast(budgets) if budgets else {}, names)
    entry = _entry(chosen, pretrained)
    if entry.supernet is None:
        raise PretrainedError(_unpublished(entry))
    trained = published_supernet(entry.supernet, _needed(entry.supernet, access))
    if entry.generator is None:
        return trained, None
    return trained, published_generator(entry.generator, _needed(entry.generator, access._replace(revision=None)))


def _needed(place: str, access: Access) -> Access:
    """How to reach a published artifact: what is in the package is read, and cached, once for all."""
    return access if isinstance(published(place), str) else Access()


def _entry(space: str, pretrained: Pretrained) -> SupernetEntry:
    """The entry of a space under a tag.

    Raises:
        PretrainedError: If it has none.
    """
    entries = [e for e in supernet_entries() if e.space == space]
    found = next((e for e in entries if (e.default if pretrained is True else e.tag == pretrained)), None)
    if found is None:
        raise PretrainedError(
            f"{space} has no weights{'' if pretrained is True else f' under the tag {pretrained}'}; "
            f"{_ways_on(entries)}."
        )
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
