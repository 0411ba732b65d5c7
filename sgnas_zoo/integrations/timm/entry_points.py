"""timm entry points: the families, which take a budget or an architecture, and every published network.

Importing this module registers them. ``import sgnas_zoo`` does so as soon as timm is imported. What builds the models
is imported when one is built: it imports timm, and may be what imported timm and thereby this module.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import generate_default_cfgs, register_model
from torch import nn

from sgnas_zoo.costs import BUDGETS
from sgnas_zoo.errors import PretrainedError
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


def _published() -> list[tuple[str, ZooEntry]]:
    return [(name, zoo_entries()[name]) for name in zoo_entries()]


default_cfgs = generate_default_cfgs(
    {f"{name}.in1k": _cfg(origin_url=f"https://arxiv.org/abs/{entry.paper[6:]}") for name, entry in _published()}
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
        from sgnas_zoo.api.create import names_weights
        from sgnas_zoo.api.request import refuse_token
        from sgnas_zoo.models import builder
        from sgnas_zoo.models.origin import warn_if_untrained

        refuse_token(kwargs)
        if pretrained and not names_weights(entry.name, kwargs):
            raise PretrainedError(
                f"No weights are published for {entry.name} yet; train it with the recipes, convert a released "
                "checkpoint with `sgnas-zoo convert`, or load a saved folder with "
                "timm.create_model('local-dir:FOLDER', pretrained=True)."
            )
        model = builder.build_model(entry.name, entry.parsed(), entry.form, pretrained, **kwargs)
        model.zoo = {"space": entry.space, "arch": entry.arch, "form": entry.form}  # type: ignore[assignment]
        warn_if_untrained(entry.name, model, weights)
        return model

    build.__doc__ = f"The published network {entry.name} ({entry.paper})."
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
for _name, _entry in _published():
    if _name not in globals():
        _register(_entry_point(_entry))
SPACES.on_register(lambda space: register_family(space.family))
