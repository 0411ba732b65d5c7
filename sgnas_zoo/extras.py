"""Extras of the package: what is missing of one, and the line that installs it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec


def missing(what: str, packages: Sequence[str], extra: str) -> str | None:
    """Say what is missing of an extra.

    Args:
        what: What needs the packages: "A front".
        packages: Names of modules.
        extra: The extra that brings them, or several with commas.

    Returns:
        One line that names them and ends in the line that installs them; None where all are there.
    """
    absent = [name for name in packages if find_spec(name) is None]
    if not absent:
        return None
    return f"{what} needs {' and '.join(absent)}; install what is missing with: pip install 'sgnas-zoo[{extra}]'"
