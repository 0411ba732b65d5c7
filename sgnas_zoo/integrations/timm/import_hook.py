"""Register our timm entry points once timm is imported, without importing it.

timm knows no plug-ins, and importing it here would load torch for every ``sgnas-zoo --help``.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

ENTRY_POINTS = "sgnas_zoo.integrations.timm.entry_points"


class _Loader(importlib.abc.Loader):
    """Runs timm's own loader, then imports the entry points."""

    def __init__(self, loader: importlib.abc.Loader, finder: _Finder) -> None:
        self.loader, self.finder = loader, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if self.finder in sys.meta_path:
            sys.meta_path.remove(self.finder)
        spec = module.__spec__
        if spec is not None:
            spec.loader = self.loader  # whoever asks the module later finds its real loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        importlib.import_module(ENTRY_POINTS)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds timm until it is imported: libraries also look for it just to see whether it is there."""

    def __init__(self) -> None:
        self.asking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "timm" or self.asking:
            return None
        self.asking = True  # the other finders are asked below, and this one among them
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self.asking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec


def install() -> None:
    """Register now if timm is loaded, else when it is."""
    if "timm" in sys.modules:
        importlib.import_module(ENTRY_POINTS)
    else:
        sys.meta_path.insert(0, _Finder())
