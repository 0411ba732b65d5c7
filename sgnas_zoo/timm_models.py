"""timm entry points: the families, which take a budget or an architecture, and every published network.

Importing this module registers them. ``import sgnas_zoo`` does so as soon as timm is imported. What builds the models
is imported when one is built: it imports timm, and may be what imported timm and thereby this module.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import PretrainedCfg, generate_default_cfgs, register_model, resolve_pretrained_cfg
from torch import nn

from sgnas_zoo.errors import PretrainedError
from sgnas_zoo.spaces import SPACES, FormName, families
from sgnas_zoo.zoo import ZooEntry, default_arch, supernet_entries, zoo_entries

if TYPE_CHECKING:
    from sgnas_zoo.search.generator import ArchGenerator


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


default_cfgs = generate_default_cfgs(
    {f"{family}.untrained": _cfg(**_ends(family)) for family in families() if family not in zoo_entries()}
    | {
        f"{name}.in1k": _cfg(origin_url=f"https://arxiv.org/abs/{zoo_entries()[name].paper[6:]}")
        for name in zoo_entries()
    }
)


def _family(name: str) -> Callable[..., nn.Module]:
    """The entry point of a family."""

    def build(
        pretrained: bool | str | Path = False,
        *,
        arch: str | None = None,
        space: str | None = None,
        form: FormName = "final",
        flops: float | None = None,
        params: float | None = None,
        latency: str | None = None,
        bitops: float | None = None,
        generator: ArchGenerator | str | Path | None = None,
        **kwargs: Any,
    ) -> nn.Module:
        from sgnas_zoo import factory
        from sgnas_zoo.errors import check_name

        check_name("pretrained", pretrained, Path, bool)
        budgets = {"flops": flops, "params": params, "latency": latency, "bitops": bitops}
        published = any(SPACES[entry.space].family == name for entry in supernet_entries())
        if pretrained and (pretrained is not True or (published and not _names_weights(name, kwargs))):
            return factory.build_inherited(name, pretrained, arch, space, budgets, generator, **kwargs)
        _check_pretrained(name, bool(pretrained), kwargs)
        return factory.build_family(name, bool(pretrained), arch, space, form, budgets, generator, **kwargs)

    build.__doc__ = (
        f"A network of the family {name}: by architecture string, or made for a budget; {default_arch(name)} where "
        "neither is given.\n\n``pretrained=True`` loads the weights that ``pretrained_cfg`` names, or inherits "
        "the default weights of its space; a tag, a folder or a Hub repo names the supernet to inherit from."
    )
    return _named(build, name)


def _entry_point(entry: ZooEntry) -> Callable[..., nn.Module]:
    def build(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        from sgnas_zoo.models import builder
        from sgnas_zoo.weights import refuse_token

        refuse_token(kwargs)
        _check_pretrained(entry.name, pretrained, kwargs)
        return builder.build_model(entry.name, entry.parsed(), entry.form, pretrained, **kwargs)

    build.__doc__ = f"The published network {entry.name} ({entry.paper})."
    return _named(build, entry.name)


def _named(build: Callable[..., nn.Module], name: str) -> Callable[..., nn.Module]:
    build.__name__ = build.__qualname__ = name
    return build


def _check_pretrained(name: str, pretrained: bool, kwargs: dict[str, Any]) -> None:
    """Refuse ``pretrained=True`` where no weights are named: timm would say less about what to do."""
    if pretrained and not _names_weights(name, kwargs):
        raise PretrainedError(
            f"No weights are published for {name} yet; train it with the recipes, convert a released checkpoint with "
            "`sgnas-zoo convert`, or load a saved folder with timm.create_model('local-dir:FOLDER', pretrained=True)."
        )


def _names_weights(name: str, kwargs: dict[str, Any]) -> bool:
    """Whether the pretrained config of a model says where its weights are."""
    cfg: PretrainedCfg = resolve_pretrained_cfg(
        name, kwargs.get("pretrained_cfg"), kwargs.get("pretrained_cfg_overlay")
    )
    return bool(cfg.has_weights or cfg.state_dict)


for _name in dict.fromkeys([*families(), *zoo_entries()]):
    if _name not in globals():
        globals()[_name] = register_model(_family(_name) if _name in families() else _entry_point(zoo_entries()[_name]))
