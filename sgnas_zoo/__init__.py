"""Networks for a budget: state FLOPs, parameters or milliseconds, get a timm model.

Names are imported when they are first used, so that ``sgnas-zoo --help`` never loads torch. The timm entry points
("sgnas", "sgnas_a", ...) are registered as soon as timm is imported, before or after this package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sgnas_zoo.integrations.timm import import_hook

if TYPE_CHECKING:
    from sgnas_zoo.api.answer import Generated
    from sgnas_zoo.api.create import create_model, generate, list_models
    from sgnas_zoo.hub.convert import convert
    from sgnas_zoo.hub.generators import load_generator
    from sgnas_zoo.hub.models import save_model
    from sgnas_zoo.hub.profiles import load_profile
    from sgnas_zoo.hub.supernets import load_supernet
    from sgnas_zoo.models.deploy import deploy
    from sgnas_zoo.spaces import SPACES, Arch, SearchSpace
    from sgnas_zoo.training.fronts.plan import generate_front
    from sgnas_zoo.training.searching.plans import compare_strategies, search_supernet

__version__ = "0.1.0"
__all__ = [
    "SPACES", "Arch", "Generated", "SearchSpace", "compare_strategies", "convert", "create_model", "deploy", "generate",
    "generate_front", "list_models", "load_generator", "load_profile", "load_supernet", "save_model", "search_supernet",
]  # fmt: skip

_MODULES = {
    "sgnas_zoo.api.answer": ("Generated",),
    "sgnas_zoo.api.create": ("create_model", "generate", "list_models"),
    "sgnas_zoo.hub.convert": ("convert",),
    "sgnas_zoo.hub.generators": ("load_generator",),
    "sgnas_zoo.hub.models": ("save_model",),
    "sgnas_zoo.hub.profiles": ("load_profile",),
    "sgnas_zoo.hub.supernets": ("load_supernet",),
    "sgnas_zoo.models.deploy": ("deploy",),
    "sgnas_zoo.spaces": ("SPACES", "Arch", "SearchSpace"),
    "sgnas_zoo.training.fronts.plan": ("generate_front",),
    "sgnas_zoo.training.searching.plans": ("compare_strategies", "search_supernet"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

import_hook.install()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
