"""Published architectures: one JSON file each in ``entries/``.

To add one: write ``entries/<name>.json`` with space, form, arch, what was published and the costs it has here. It then
is a timm model by that name; a test builds it, recomputes its costs and compares.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sgnas_zoo.registry import Registry
from sgnas_zoo.spaces import SPACES, Arch, FormName

ENTRIES = Path(__file__).parent / "entries"
ARTIFACTS = Path(__file__).parents[1] / "artifacts"


@dataclass(frozen=True)
class ZooEntry:
    """A published architecture.

    Args:
        name: timm name.
        space: Name of its search space.
        form: "final" or "search".
        arch: Architecture string.
        paper: arXiv id of the paper it comes from.
        published: ``flops`` (as the paper counts), ``params``, ``top1`` and its ``source``: not measured here.
        costs: ``resolution``, ``num_classes``, and the ``macs`` and ``params`` it has there.
    """

    name: str
    space: str
    form: FormName
    arch: str
    paper: str
    published: MappingProxyType[str, Any]
    costs: MappingProxyType[str, int]

    def parsed(self) -> Arch:
        """Its architecture as a value."""
        return SPACES[self.space].parse(self.arch)


@cache
def zoo_entries() -> Registry[ZooEntry]:
    """All published architectures, by name."""
    entries: Registry[ZooEntry] = Registry("model")
    for path in sorted(ENTRIES.glob("*.json")):
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields["published"], fields["costs"] = (MappingProxyType(fields[key]) for key in ("published", "costs"))
        entries.register(path.stem, ZooEntry(**fields))
    return entries


def embedded_generator(space: str) -> Path | None:
    """Folder of the generator that comes with the package for a space: its default, or else its supernet's."""
    return _folder(f"{space}_generator") or embedded_supernet_generator(space)


def embedded_supernet(space: str) -> Path | None:
    """Folder of the trained supernet that comes with the package for a space, if there is one."""
    return _folder(f"{space}_supernet")


def embedded_supernet_generator(space: str) -> Path | None:
    """Folder of the generator that was trained on the embedded supernet of a space, if there is one."""
    return _folder(f"{space}_supernet_generator")


def _folder(name: str) -> Path | None:
    return ARTIFACTS / name if (ARTIFACTS / name).is_dir() else None
