"""Every error the library raises on purpose. Each is one line that ends in the next step."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import PurePath

_HOSTILE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (ESC and line breaks among them), marks that turn the direction of text, halves of characters."""
_QUERY = re.compile(r"""(?i)\b([a-z][a-z0-9+.-]*://[^\s?#'"<>]+)[?#][^\s'"<>]*""")


def printable(text: object) -> str:
    """``text`` as it may be shown, logged or put on a card: whatever an artifact or a server says goes through here.

    Characters that a terminal obeys are written as escapes, and addresses lose their query: it may hold a signature.
    """
    line = _HOSTILE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), str(text))
    return _QUERY.sub(r"\1", line)


class ZooError(Exception):
    """Base of all errors of this library; the command line prints it without a traceback. Its text is ``printable``."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(printable(each) if isinstance(each, str) else each for each in arguments))


class SpaceError(ZooError, ValueError):
    """Rows or choices that make no search space, or a resolution the space cannot take."""


class ArchError(ZooError, ValueError):
    """An architecture that is not in its search space."""


class BudgetError(ZooError, ValueError):
    """A budget that cannot be read, or that no architecture of the space can meet."""


class SettingError(ZooError, ValueError):
    """A setting of a search or a comparison that it cannot take."""


class UnknownNameError(ZooError, LookupError):
    """A model, space, cost or tag that does not exist."""


class PretrainedError(ZooError, RuntimeError):
    """Weights were asked for and there are none: random weights are never returned instead."""


class ArtifactError(ZooError, RuntimeError):
    """A file or folder that is missing, damaged, foreign or in the way."""


class ModelError(ZooError, ValueError):
    """A model that cannot be taken apart, exported or measured as asked."""


class DataError(ZooError, RuntimeError):
    """A dataset that is missing, closed, unlabelled or does not fit the model."""


class CheckpointError(ZooError, RuntimeError):
    """A checkpoint that cannot be written, read, or continued with these settings."""


class TrainingError(ZooError, RuntimeError):
    """A training that cannot go on: its loss is not finite."""


class DataWarning(UserWarning):
    """Something of a dataset is left out; the command line prints it as one line."""


class UntrainedWarning(UserWarning):
    """A saved model's weights are a fresh initialisation."""


class NewHeadWarning(UserWarning):
    """A classifier has no weights, as they are for other classes."""


def shown(value: object, most: int = 80) -> str:
    """How a value that somebody gave reads in a message: printable, on one line, and not long."""
    try:
        line = printable(" ".join(repr(value).split()))
    except Exception:  # a repr may raise whatever it likes
        line = f"a {type(value).__name__}"
    return line if len(line) <= most else f"{line[:most]}..."


MANY = 40
"""More names than this are not listed in a message."""


def check_name(argument: str, value: object, *also: type) -> None:
    """Refuse what is not a name, folder or repo id, before a file system or a table of names is asked about it.

    Args:
        argument: Name of the argument, for the message.
        value: Text, None, or an instance of one of the types in ``also``.
        also: Further types that it may have.

    Raises:
        UnknownNameError: If it is neither, is too long for a file system, or holds a NUL.
    """
    if value is None or (isinstance(value, also) and not isinstance(value, PurePath)):
        return
    if not isinstance(value, (str, *also)):
        raise UnknownNameError(f"{argument}={shown(value)} is not a name; give it as text.")
    text = str(value)
    if "\0" in text or len(text) > 3000 or any(len(part.encode(errors="replace")) > 250 for part in text.split("/")):
        raise UnknownNameError(f"{argument}={shown(text)} is not a name, folder or repo; check it.")


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Make the error for a name that is not registered, with near matches or all names."""
    names = sorted(set(known))
    near = get_close_matches(name[:100], names, n=3, cutoff=0.5) if isinstance(name, str) else []
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(names) or 'none yet'}."
    if not near and len(names) > MANY:
        hint = "see `sgnas-zoo list`."
    return UnknownNameError(f"Unknown {kind} {shown(name)}: {hint}")
