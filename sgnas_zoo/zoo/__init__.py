"""Named networks and supernets: one JSON file each in ``entries/`` and ``supernets/``.

To add a supernet: write ``supernets/<space>.<tag>.json`` as ``SupernetEntry`` says. To add a network: write
``entries/<name>.json`` as ``ZooEntry`` says, with what was published or which weights there are. It then is a timm
model by that name; a test builds it, recomputes its costs and compares.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sgnas_zoo.registry import Registry
from sgnas_zoo.spaces import SPACES, Arch, FormName, SearchSpace

ENTRIES = Path(__file__).parent / "entries"
ARTIFACTS = Path(__file__).parents[1] / "artifacts"


@dataclass(frozen=True)
class Weights:
    """Trained weights of a named network.

    Args:
        dataset: What they were trained on.
        folder: Folder of the package's artifacts that holds the model.
    """

    dataset: str
    folder: str

    @property
    def place(self) -> Path:
        """Where that folder is."""
        return ARTIFACTS / self.folder


@dataclass(frozen=True)
class ZooEntry:
    """A network with a name: a published architecture, or one that was made for a budget and trained.

    Args:
        name: timm name.
        space: Name of its search space.
        form: "final", "lite" or "search".
        arch: Architecture string.
        paper: arXiv id of the paper it comes from.
        costs: ``resolution``, ``num_classes``, and the ``macs`` and ``params`` it has there.
        published: ``flops`` (as the paper counts), ``params``, ``top1`` and its ``source``: not measured here.
        weights: Its weights by tag, the default first; none where only the architecture was published.
    """

    name: str
    space: str
    form: FormName
    arch: str
    paper: str
    costs: MappingProxyType[str, int]
    published: MappingProxyType[str, Any] | None = None
    weights: MappingProxyType[str, Weights] = field(default_factory=lambda: MappingProxyType({}))

    def parsed(self) -> Arch:
        """Its architecture as a value."""
        return SPACES[self.space].parse(self.arch)


@cache
def zoo_entries() -> Registry[ZooEntry]:
    """All named networks: the published ones, then those that were trained, each by name."""
    entries: Registry[ZooEntry] = Registry("model")
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(ENTRIES.glob("*.json"))]
    for fields in sorted(found, key=lambda fields: "weights" in fields):
        if "weights" in fields:
            fields["weights"] = {tag: Weights(**told) for tag, told in fields["weights"].items()}
        fields |= {key: MappingProxyType(fields[key]) for key in ("published", "costs", "weights") if key in fields}
        entries.register(fields["name"], ZooEntry(**fields))
    return entries


@dataclass(frozen=True)
class SupernetEntry:
    """A trained supernet that a space knows under a tag, as timm knows weights under tags.

    Args:
        space: Name of its search space.
        tag: What ``pretrained=`` calls it.
        dataset: What it was trained on.
        default: Whether ``pretrained=True`` means it.
        supernet: A folder of the package's artifacts, or a Hub repo id with ``@revision``; None before it is published.
        generator: The generator that was trained on it, likewise.
    """

    space: str
    tag: str
    dataset: str
    default: bool
    supernet: str | None
    generator: str | None


@cache
def supernet_entries() -> tuple[SupernetEntry, ...]:
    """All supernets with a tag, in the order of their spaces; those that are published and default come first."""
    entries = []
    for path in (ENTRIES.parent / "supernets").glob("*.json"):
        space, _, tag = path.stem.partition(".")
        entries.append(SupernetEntry(SPACES[space].name, tag, **json.loads(path.read_text(encoding="utf-8"))))
    order = {name: number for number, name in enumerate(SPACES)}
    return tuple(sorted(entries, key=lambda e: (order[e.space], not e.supernet, not e.default, e.tag)))


def default_arch(family: str, space: SearchSpace | None = None) -> Arch:
    """The architecture that a family stands for: the published one of its own name, or its first published one.

    Where none is published, as of the bits of a network or in another space of the family, it is that of the last
    choices.

    Args:
        family: Name of the family.
        space: Its space, if one is named.
    """
    entries = zoo_entries()
    name = next((name for name in (family, f"{family}_a") if name in entries), None)
    if name is not None and (space is None or entries[name].space == space.name):
        return entries[name].parsed()
    space = space or next(SPACES[name] for name in SPACES if SPACES[name].family == family)
    return space.arch([[slot[-1] for slot in layer.allowed] for layer in space.layers])


def embedded_generator(space: str) -> Path | None:
    """Folder of the generator that comes with the package for a space: its default, or else its supernet's."""
    default = ARTIFACTS / f"{space}_generator"
    if default.is_dir():
        return default
    inside = (e.generator for e in supernet_entries() if e.space == space and e.generator and "/" not in e.generator)
    return next((ARTIFACTS / name for name in inside), None)


def published(place: str) -> Path | str:
    """Where a published artifact is: its folder in the package, or its repo id."""
    return place if "/" in place else ARTIFACTS / place
