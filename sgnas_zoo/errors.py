"""Every error the library raises on purpose. Each is one line that ends in the next step."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ZooError(Exception):
    """Base of all errors of this library; the command line prints it without a traceback."""


class SpaceError(ZooError, ValueError):
    """Rows or choices that make no search space, or a resolution the space cannot take."""


class ArchError(ZooError, ValueError):
    """An architecture that is not in its search space."""


class BudgetError(ZooError, ValueError):
    """A budget that cannot be read, or that no architecture of the space can meet."""


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


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Make the error for a name that is not registered, with near matches or all names."""
    names = sorted(set(known))
    near = get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(names) or 'none yet'}."
    return UnknownNameError(f"Unknown {kind} {str(name)!r}: {hint}")
