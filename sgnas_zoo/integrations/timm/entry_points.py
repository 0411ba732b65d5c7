"""timm entry points: the families, which take a budget or an architecture, and every published network.

Importing this module registers them. ``import sgnas_zoo`` does so as soon as timm is imported. What builds the models
is imported when one is built: it imports timm, and may be what imported timm and thereby this module.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import generate_default_cfgs, register_model
from torch import nn

from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.zoo import ZooEntry, zoo_entries


def _cfg(**changes: Any) -> Any:
    return {
        "num_classes": 1000, "input_size": (3, 224, 224), "pool_size": (7, 7), "crop_pct": 0.875,
        "interpolation": "bicubic", "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD,
        "first_conv": "conv_stem", "classifier": "classifier", "license": "apache-2.0", **changes,
    }  # fmt: skip


def _ends(family: str) -> dict[str, str]:
    """Names of the first and the last layer: timm's ResNets have others than its EfficientNets."""
    kind = next(SPACES[name].kind for name in SPACES if SPACES[name].family == family)
    return {"first_conv": kind.first_conv, "classifier": kind.classifier}


def _tags(entry: ZooEntry) -> dict[str, Any]:
    """The tags of a named network; one without weights has that of what its paper trained it on."""
    origin = f"https://arxiv.org/abs/{entry.paper[6:]}"
    if not entry.weights:
        return {"in1k": _cfg(origin_url=origin)}
    return {tag: _trained(weights.place, origin) for tag, weights in entry.weights.items()}


def _trained(folder: Path, origin: str) -> Any:
    """The cfg of trained weights in the package: what their model was saved with, and where they are."""
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return _cfg(
        **saved["pretrained_cfg"], label_names=saved["label_names"], file=str(folder / "model.safetensors"),
        origin_url=origin,
    )  # fmt: skip


_NAMED = {name: zoo_entries()[name] for name in zoo_entries()}
default_cfgs = generate_default_cfgs(
    {f"{name}.{tag}": cfg for name, entry in _NAMED.items() for tag, cfg in _tags(entry).items()}
)


def _family(name: str) -> Callable[..., nn.Module]:
    """The entry point of a family."""

    def build(
        pretrained: bool | str | Path = False, *, resolved: Any = None, weights: str | None = None, **kwargs: Any
    ) -> nn.Module:
        from sgnas_zoo.api.create import make
        from sgnas_zoo.models.origin import warn_if_untrained

        model = make(name, pretrained, kwargs, resolved)
        warn_if_untrained(name, model, weights)
        return model

    build.__doc__ = (
        f"A network of the family {name}: by architecture string (``arch``), or made for a budget "
        f"({', '.join(f'``{budget}``' for budget in BUDGETS)}); the one it stands for where neither is given.\n\n"
        "``pretrained=True`` loads the weights that ``pretrained_cfg`` names, or inherits the default weights of its "
        "space; a tag, a folder or a Hub repo names the supernet to inherit from. ``weights`` is what a saved config "
        "says of its weights. All keywords of ``sgnas_zoo.create_model`` but ``token`` are taken."
    )
    return _named(build, name)


def _entry_point(entry: ZooEntry) -> Callable[..., nn.Module]:
    def build(pretrained: bool = False, *, weights: str | None = None, **kwargs: Any) -> nn.Module:
        from sgnas_zoo.api.named import make_named
        from sgnas_zoo.models.origin import warn_if_untrained

        model = make_named(entry, pretrained, kwargs)
        warn_if_untrained(entry.name, model, weights)
        return model

    tags = ", ".join(f'"{entry.name}.{tag}"' for tag in entry.weights) or "none"
    build.__doc__ = f"The network {entry.name} ({entry.paper}). Weights: {tags}."
    return _named(build, entry.name)


def _named(build: Callable[..., nn.Module], name: str) -> Callable[..., nn.Module]:
    build.__name__ = build.__qualname__ = name
    return build


def _register(build: Callable[..., nn.Module]) -> None:
    globals()[build.__name__] = register_model(build)


def register_family(family: str) -> None:
    """Make a family an entry point of timm's, unless it is one."""
    if family in globals():
        return
    if family not in zoo_entries():
        default_cfgs.update(generate_default_cfgs({f"{family}.untrained": _cfg(**_ends(family))}))
    _register(_family(family))


for _space in map(SPACES.__getitem__, SPACES):
    register_family(_space.family)
for _name, _entry in _NAMED.items():
    if _name not in globals():
        _register(_entry_point(_entry))
SPACES.on_register(lambda space: register_family(space.family))
