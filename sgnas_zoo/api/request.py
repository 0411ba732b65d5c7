"""What somebody asked for: parsed and checked here, once; nothing is loaded yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

from sgnas_zoo.api.profiles import ProfileLike
from sgnas_zoo.costs import BUDGETS, DEFAULT_PRECISION, Precision
from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.errors import PretrainedError, UnknownNameError, check_name
from sgnas_zoo.hub.remote import Access
from sgnas_zoo.search.budgets import asked_of, broadcast, single
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.spaces import FormName

Pretrained = bool | str | Path
"""True for the default tag of a space, a tag, a folder, or a Hub repo id with an optional ``@revision``."""

CONDITIONS = ("resolution", "num_classes", "in_chans", "precision")
"""Conditions of costs that a request may state."""

_token: ContextVar[str | None] = ContextVar("token", default=None)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request for one network or for N.

    Args:
        budgets: N upper bounds of each budget that was given; latencies in milliseconds.
        family: Family of timm's entry points that it came through, or that was named.
        arch: Architecture string, if one was named; it then has to keep the budgets.
        space: Name of the search space.
        form: "final", "lite" or "search"; None leaves it to profile, supernet and latency.
        generator: A generator, its folder or its Hub repo id.
        profile: A device profile, its file, folder or Hub repo id.
        measure: Measure what was made for a latency.
        force: Use a profile whose validated error is above 10 %.
        pretrained: The supernet to inherit from; False for none.
        conditions: Those of ``CONDITIONS`` that were given.
        access: How to reach the Hub.
    """

    budgets: Mapping[str, Sequence[float]] = field(default_factory=dict)
    family: str | None = None
    arch: str | None = None
    space: str | None = None
    form: FormName | None = None
    generator: ArchGenerator | str | Path | None = None
    profile: ProfileLike | None = None
    measure: bool = True
    force: bool = False
    pretrained: Pretrained = False
    conditions: Mapping[str, int | str] = field(default_factory=dict)
    access: Access = field(default_factory=Access)

    @property
    def precision(self) -> Precision:
        """Number format that bytes are counted at."""
        return self.conditions.get("precision", DEFAULT_PRECISION)  # type: ignore[return-value]


OWN = (
    "arch",
    "space",
    "form",
    "generator",
    "profile",
    "measure",
    "force",
    "resolution",
    "precision",
    "revision",
    "local_files_only",
    "token",
)
"""Keywords that are ours, beside budgets; all others of a model's are timm's."""


def parse(asked: Mapping[str, Any], family: str | None = None, pretrained: Pretrained = False) -> Request:
    """Check what was asked for one model.

    Args:
        asked: Keywords as they were given: budgets, those in ``OWN``, and timm's, of which ``num_classes``,
            ``in_chans`` and ``cache_dir`` matter here.
        family: Name of the family, where it is known.
        pretrained: The supernet to inherit from.

    Raises:
        BudgetError: If a budget cannot be read, or there are several of one kind.
        UnknownNameError: If what should be a name is none.
        PretrainedError: If a token is among the keywords.
    """
    budgets = single(asked_of(asked))
    return _parsed(asked, {name: [limit] for name, limit in budgets.items()}, family, pretrained)


def parse_many(asked: Mapping[str, Any]) -> Request:
    """Check what was asked for N architectures: budgets are numbers or lists, and there is at least one.

    Raises:
        BudgetError: If a budget cannot be read, or lists differ in length.
        UnknownNameError: If what should be a name is none.
        TypeError: If a keyword is none of ours.
    """
    if foreign := [name for name in asked if name not in (*own(), *CONDITIONS)]:
        raise TypeError(f"generate() got an unexpected keyword argument {foreign[0]!r}")
    return _parsed(asked, broadcast(asked_of(asked)), None, False)


def _parsed(
    asked: Mapping[str, Any], budgets: Mapping[str, Sequence[float]], family: str | None, pretrained: Pretrained
) -> Request:
    given = {name: value for name, value in asked.items() if value is not None}
    check_name("pretrained", pretrained, Path, bool)
    check_name("generator", given.get("generator"), Path, ArchGenerator)
    check_name("profile", given.get("profile"), Path, Profile)
    check_name("space", given.get("space"))
    check_name("precision", given.get("precision"))
    if not isinstance(given.get("arch"), str):  # an architecture may be long
        check_name("arch", given.get("arch"))
    refuse_token(given)
    words = ("arch", "space", "form", "generator", "profile", "measure", "force")
    named = {name: given[name] for name in words if name in given}
    conditions = {name: whole(given[name]) for name in CONDITIONS if name in given}
    access = reach(given)
    return Request(budgets=budgets, family=family, pretrained=pretrained, conditions=conditions, access=access, **named)


def own() -> tuple[str, ...]:
    """Keywords that are ours."""
    return (*BUDGETS, *OWN)


def for_timm(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords that are timm's, with whole numbers of numpy as Python's."""
    return {name: whole(value) for name, value in asked.items() if name not in own()}


def whole(value: Any) -> Any:
    """A whole number of numpy as Python's; anything else as it is."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


@contextmanager
def logged_in(token: object) -> Iterator[None]:
    """Use a token for all that the ``with`` block asks for: it passes timm by, which keeps every keyword with a model.

    Raises:
        UnknownNameError: If it is not a token.
    """
    if not isinstance(token, str | bool | None):
        raise UnknownNameError("A token is text; log in with `hf auth login` instead.")
    before = _token.set(token)  # type: ignore[arg-type]
    try:
        yield
    finally:
        _token.reset(before)


def reach(asked: Mapping[str, Any]) -> Access:
    """How to reach the Hub, by a call's keywords and the token in use.

    Raises:
        UnknownNameError: If the revision is not a name.
    """
    named = {name: asked[name] for name in ("revision", "cache_dir", "local_files_only") if asked.get(name) is not None}
    check_name("revision", named.get("revision"))
    return Access(token=_token.get(), **named)


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
