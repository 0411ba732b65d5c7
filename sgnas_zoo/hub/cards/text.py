"""Values of a config as a card may show them: configs are other people's, and a card is read as YAML and Markdown.

Nothing is escaped: of each value only characters stay that mean nothing in the place where it goes, and everything else
becomes a dash. So there is no markup to get wrong, whoever renders the card.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from sgnas_zoo.errors import ArtifactError

TITLE_MARKS = " ._-"
PROSE_MARKS = TITLE_MARKS + ",;:'()%+=/"
CODE_MARKS = PROSE_MARKS + "@"
"""What may stand beside letters and digits in a heading or in metadata, in a sentence, and between backticks."""
TOKEN = re.compile("hf_[A-Za-z0-9]{20,}")
"""What a Hub token looks like; none ever reaches a card."""
HUB_ID = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
PLAIN_NAME = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")
MOST_ROWS = 200
"""Longer lists do not belong on a card."""

REGENERATE = "regenerate it with the command or recipe that created it"
"""What to do about a damaged config."""


def clean(value: str, marks: str, most: int) -> str:
    """Text of one line that is neither markup nor a link, and holds no token.

    Args:
        value: Anything.
        marks: Characters that stay, beside letters and digits of any script; a space is one of them.
        most: Longer text is cut.
    """
    letters = unicodedata.normalize("NFKC", value)
    kept = "".join(c if c.isalnum() or c in marks else " " if c.isspace() else "-" for c in letters)
    line = re.sub("-{3,}", "-", " ".join(kept.split()))
    line = TOKEN.sub("hf_***", line)  # before it is cut: half a token is none of anybody's business either
    line = re.sub(r"(?i)www\.", "www-", re.sub(":/{2,}", ":", line))  # many renderers link bare addresses
    return line if len(line) <= most else line[:most].rstrip() + "..."


def title(value: str) -> str:
    """A name as a heading, or as text in metadata."""
    return clean(value, TITLE_MARKS, 100) or "unnamed"


def prose(value: str, most: int = 1000) -> str:
    """A sentence of somebody's; templates never begin a line with it."""
    return clean(value, PROSE_MARKS, most)


def code(value: object, most: int = 200) -> str:
    """A value between backticks: text as it is, anything else as JSON, paths without their folders."""
    text = last_part(value) if isinstance(value, str) else json.dumps(value)
    return f"`{clean(text, CODE_MARKS, most) or '-'}`"


def last_part(text: str) -> str:
    """A path's last part, as folders say something of a machine only; other text as it is."""
    is_path = re.match(r"[/~\\]|\.{1,2}[/\\]|[A-Za-z]:[/\\]", text)
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1] if is_path else text


def hub_id(value: str | None) -> str | None:
    """``USER/NAME`` if it is that, without a revision behind it; None otherwise."""
    name = (value or "").partition("@")[0]
    return name if HUB_ID.fullmatch(name) and not TOKEN.search(name) else None


def dataset_id(value: str | None) -> str | None:
    """A dataset's id on the Hub or its plain name; None if it is neither."""
    name = value if value and PLAIN_NAME.fullmatch(value) and not TOKEN.search(value) else None
    return name or (hub_id(value) if "@" not in (value or "") else None)


def license_id(value: str | None) -> str:
    """A license's id as the Hub spells it; "other" for whatever is none."""
    name = "apache-2.0" if value is None else value.lower()
    return name if LICENSE.fullmatch(name) else "other"


class Fields:
    """A JSON object of which nothing is known: each field is asked for with its type, and may be absent.

    Args:
        values: The object.
        where: What errors call it.

    Raises:
        ArtifactError: If it is not an object; as its methods do for a field of another type.
    """

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, dict):
            raise ArtifactError(f"{where} is not a JSON object; {REGENERATE}.")
        self.values: dict[str, Any] = values
        self.where = where

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def text(self, name: str) -> str | None:
        """A field of text."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def number(self, name: str, least: float = 0, most: float = 1e15) -> float | None:
        """A field that is a number within bounds."""
        value = self.values.get(name)
        return None if value is None else self._number(name, value, least, most)

    def numbers(self, name: str) -> list[float]:
        """A field that is a list of numbers; empty where it is absent."""
        return [self._number(name, value, 0, 1e15) for value in self._list(name)]

    def texts(self, name: str) -> list[str]:
        """A field that is a list of texts; empty where it is absent."""
        found = self._list(name)
        if not all(isinstance(value, str) for value in found):
            raise self.wrong(name, "list of texts")
        return found

    def part(self, name: str) -> Fields:
        """A field that is an object; an empty one where it is absent."""
        value = self.values.get(name)
        return Fields({} if value is None else value, f"{name} in {self.where}")

    def parts(self, name: str) -> list[Fields]:
        """A field that is a list of objects."""
        return [Fields(value, f"{name} in {self.where}") for value in self._list(name)]

    def shown(self, *without: str) -> Iterator[str]:
        """Each field and its value, between backticks."""
        for name, value in list(self.values.items())[:MOST_ROWS]:
            if name not in without:
                text = last_part(value) if isinstance(value, str) else json.dumps(value)
                yield code(f"{title(name)}: {text}")

    def wrong(self, name: str, wanted: str) -> ArtifactError:
        """The error for a field that is not what it has to be."""
        return ArtifactError(f"{self.where} is not valid: {title(name)} must be a {wanted}; {REGENERATE}.")

    def _number(self, name: str, value: object, least: float, most: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "number")
        if not (math.isfinite(value) if isinstance(value, float) else True) or not least <= value <= most:
            raise self.wrong(name, f"number between {least:g} and {most:g}")
        return value

    def _list(self, name: str) -> list[Any]:
        value = self.values.get(name)
        if value is not None and (not isinstance(value, list) or len(value) > MOST_ROWS):
            raise self.wrong(name, f"list of at most {MOST_ROWS}")
        return value or []
