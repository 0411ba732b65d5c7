"""Pytest plugin that points timm's own model tests at models from other packages.

timm's tests call ``list_models`` while they are being collected, so load this with ``-p``, which comes before that.
``TIMM_EXT_IMPORT`` names the packages that register models and ``TIMM_EXT_FILTER`` the models to keep, as wildcards;
both are separated by commas.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import timm
import timm.models


def _only_matching(list_names: Callable[..., list[str]], patterns: list[str]) -> Callable[..., list[str]]:
    @functools.wraps(list_names)
    def matching(*args: Any, **kwargs: Any) -> list[str]:
        # The checks of intermediate features ask by timm's module names, where no model from outside is found.
        kwargs.pop("module", None)
        names = list_names(*args, **kwargs)
        return [name for name in names if any(fnmatchcase(name.partition(".")[0], pattern) for pattern in patterns)]

    return matching


def pytest_configure() -> None:
    for package in os.environ["TIMM_EXT_IMPORT"].split(","):
        importlib.import_module(package)
    patterns = os.environ["TIMM_EXT_FILTER"].split(",")
    for function in ("list_models", "list_pretrained"):
        replacement = _only_matching(getattr(timm, function), patterns)
        setattr(timm, function, replacement)
        setattr(timm.models, function, replacement)
