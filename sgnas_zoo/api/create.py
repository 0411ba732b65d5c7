"""The front door: ``create_model``, ``generate`` and ``list_models``. It only orchestrates."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from timm.models import resolve_pretrained_cfg
from torch import nn

from sgnas_zoo.api.answer import Generated, answer
from sgnas_zoo.api.checks import check_budgets
from sgnas_zoo.api.profiles import ProfileLike
from sgnas_zoo.api.request import Pretrained, Request, for_timm, logged_in, own, parse, parse_many, reach, whole
from sgnas_zoo.api.resolve import Resolved, resolve
from sgnas_zoo.costs import BUDGETS, COSTS, DEFAULT_PRECISION, Precision, takes_budgets
from sgnas_zoo.errors import BudgetError, UnknownNameError, check_name, unknown_name
from sgnas_zoo.hub.loading import is_ours, load_model, warn_of_new_head
from sgnas_zoo.hub.names import read_name
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.models.record import forget_request, remember
from sgnas_zoo.search.budgets import Amount
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.spaces import Arch, FormName, families
from sgnas_zoo.zoo import zoo_entries


@takes_budgets(several=True)
def generate(
    *,
    profile: ProfileLike | None = None,
    measure: bool = True,
    force: bool = False,
    space: str | None = None,
    form: FormName | None = None,
    generator: ArchGenerator | str | Path | None = None,
    resolution: int | None = None,
    num_classes: int | None = None,
    in_chans: int = 3,
    precision: Precision = DEFAULT_PRECISION,
    **budgets: Amount | None,
) -> list[Generated]:
    """Answer budgets with architectures: N budgets, N results, one pass of the generator.

    A budget is an upper bound and is never exceeded; it is missed by at most 1 % where the space has an architecture
    that near. Of several bounds at once all hold, and at least one is met that closely. A bound that no architecture
    reaches always holds; where none binds, the largest architecture comes back, and a warning says so. The generator's
    most probable architecture within the bounds is found exactly. Memory is a bound that is kept and not spent: asked
    for alone, the largest network within it comes back.

    Args:
        {budgets}
        profile: Device profile that predicts latency: loaded, or its file, folder or Hub repo id. By default this
            device's own with its default runtime, from the user's cache; it is measured there once, within minutes.
        measure: Measure every network made for a latency on this machine, and ask for another one where it takes longer
            than the budget, or is quicker than predicted by more than the profile's error. False for a device that is
            not here.
        force: Use a profile whose validated error is above 10 % (median).
        space: Name of the search space; by default, of those with an embedded generator, the one that keeps all bounds
            and spends most of the one that binds.
        form: "final", "lite" (as EfficientNet-Lite: ReLU6, and no squeeze-and-excitation) or "search". By default that
            of the profile; of this device's own profiles, for a latency, the stand-alone form whose network has the
            most MACs in that time, one form for all budgets; else "final".
        generator: A loaded generator, its folder, or its Hub repo id; by default the embedded one of the space.
        resolution: Input side in pixels; by default the space's.
        num_classes: Classes; by default the space's.
        in_chans: Input channels.
        precision: Number format that memory and flash are counted at: "int8", "fp16" or "float32".

    Raises:
        BudgetError: If a budget cannot be read or met, or lies between two spaces; names the feasible range.
        ArtifactError: If the profile is damaged, for another space, form, resolution or device, or its error is above
            10 %.
        ZooError: If there is no such space or generator.
    """
    asked = {
        "profile": profile, "measure": measure, "force": force, "space": space, "form": form,
        "generator": generator, "resolution": resolution, "num_classes": num_classes, "in_chans": in_chans,
        "precision": precision, **budgets,
    }  # fmt: skip
    return answer(resolve(parse_many(asked)))


@takes_budgets(several=False)
def create_model(
    model_name: str | Path | None = None,
    *,
    pretrained: Pretrained = False,
    space: str | None = None,
    generator: ArchGenerator | str | Path | None = None,
    resolution: int | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Create a timm model from a budget, an architecture or a name.

    Args:
        model_name: "sgnas" or "greedynas" with a budget or ``arch=``, a published network ("sgnas_a"), any name of
            timm, or a saved model: ``FOLDER``, ``local-dir:FOLDER``, ``USER/NAME[@REVISION]`` or
            ``hf-hub:USER/NAME[@REVISION]``. Left out, the budget decides.
        pretrained: Load weights. A network made for a budget inherits those of a supernet, in the form it has there:
            True takes the default tag of its space, a string names a tag, a folder, or a Hub repo id with an optional
            ``@revision``. Fails with the next step where there are none; never returns random weights.
        {budgets}
        space: Search space, as in ``generate``.
        generator: Generator, as in ``generate``.
        resolution: Input side in pixels that the FLOPs are stated for; by default the space's.
        kwargs: ``form``, ``profile``, ``measure``, ``force`` and ``precision``, as in ``generate``; ``revision``,
            ``token``, ``cache_dir`` and ``local_files_only`` say how to reach the Hub. Everything else goes to
            ``timm.create_model`` (``num_classes``, ``drop_path_rate``, ...).

    Returns:
        For MBConv families a ``timm.models.EfficientNet``, for those of bits a ``timm.models.ResNet``; ``model.zoo``
        is the record of one of ours: what was asked for, what it has, and the commit that each part was read at.

    Raises:
        ZooError: For budgets that cannot be met, unknown names and missing weights.
        TypeError: For keywords that timm does not know.
    """
    asked = {"space": space, "generator": generator, "resolution": resolution, **kwargs}
    check_name("model_name", model_name, Path)
    check_name("pretrained", pretrained, Path, bool)
    with logged_in(asked.pop("token", None)):
        return _create(model_name, pretrained, {name: whole(v) for name, v in asked.items() if v is not None})


def _create(model_name: str | Path | None, pretrained: Pretrained, asked: Mapping[str, Any]) -> nn.Module:
    """``create_model``, logged in."""
    name = None if model_name is None else str(model_name)
    family = None if name is None else name.partition(".")[0]
    made = family in families() and any(word in asked for word in (*BUDGETS, "arch"))  # then the name is not a folder's
    if model_name is not None and not made and read_name(model_name, is_model) is not None:
        return _load(model_name, pretrained, asked)
    if name is not None:
        _check_name(name, pretrained)
        if family not in families():
            return _fixed(name, pretrained, asked)
    resolved = resolve(_request(asked, family, pretrained))
    model: nn.Module = timm.create_model(
        name or resolved.space.family, bool(pretrained), resolved=resolved, **for_timm(asked)
    )
    forget_request(model)
    return model


def make(family: str, pretrained: Pretrained, asked: Mapping[str, Any], resolved: Resolved | None = None) -> nn.Module:
    """Build what a family's timm entry point was asked for.

    Args:
        family: Name of the family.
        pretrained: As in ``create_model``.
        asked: All other keywords.
        resolved: The request, where our own door has resolved it.

    Raises:
        ZooError: As ``create_model`` does.
    """
    resolved = resolved or resolve(_request(asked, family, pretrained))
    result = None if resolved.arch else answer(resolved)[0]
    arch = result.arch if result else resolved.arch
    assert arch is not None
    record = {"space": resolved.space.name, "arch": str(arch), **(result.record() if result else {})}
    kwargs, form = for_timm(asked), resolved.conditions.form
    if resolved.trained is None:
        stated = "resolution" in resolved.request.conditions
        resolution = resolved.conditions.resolution if stated else None
        model = build_model(family, arch, form, bool(pretrained), resolution=resolution, **kwargs)
    else:
        record |= _inherited_record(resolved, arch)
        model = build_model(family, arch, form, True, **_inheriting(resolved, arch, kwargs))
        model.pretrained_cfg.pop("state_dict")  # type: ignore[operator, union-attr]
    remember(model, arch, form)
    model.zoo = {**record, **check_budgets(model, resolved, kwargs)}  # type: ignore[assignment]
    return model


def _request(asked: Mapping[str, Any], family: str | None, pretrained: Pretrained) -> Request:
    """A request for one model; nothing is inherited where ``pretrained_cfg`` says where weights are."""
    loads = pretrained is True and family is not None and names_weights(family, asked)
    return parse(asked, family, False if loads else pretrained)


def names_weights(name: str, asked: Mapping[str, Any]) -> bool:
    """Whether the pretrained config of a model, or the one among its keywords, says where its weights are."""
    cfg = resolve_pretrained_cfg(name, asked.get("pretrained_cfg"), asked.get("pretrained_cfg_overlay"))
    return bool(cfg.has_weights or cfg.state_dict)


def _inheriting(resolved: Resolved, arch: Arch, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords by which timm gives a network its inherited weights, with other channels or classes if need be."""
    trained = resolved.trained
    assert trained is not None
    known, wanted = trained.supernet.num_classes, resolved.conditions.num_classes
    overlay = trained.pretrained_cfg() | {"state_dict": trained.inherit(arch).state_dict(), "tag": resolved.tag}
    if (trained.resolution, known) != (resolved.space.resolution, resolved.space.num_classes):
        macs = {side: _macs(resolved, arch, side) for side in (resolved.conditions.resolution, trained.resolution)}
        warnings.warn(trained.caveat(macs), stacklevel=3)
    warn_of_new_head(known, wanted)
    overlay |= kwargs.get("pretrained_cfg_overlay") or {}
    return {**kwargs, "num_classes": wanted, "pretrained_cfg_overlay": overlay}


def _inherited_record(resolved: Resolved, arch: Arch) -> dict[str, Any]:
    """Where inherited weights come from; and what the network costs at their side, where budgets are for another."""
    trained, conditions = resolved.trained, resolved.conditions
    assert trained is not None
    record = {"weights": "inherited", **trained.origin()}
    if trained.resolution != conditions.resolution:
        record["macs_trained_at"] = _macs(resolved, arch, trained.resolution)
    return record


def _macs(resolved: Resolved, arch: Arch, side: int) -> int:
    """MACs of a network at another side in pixels."""
    table = COSTS["macs"].table(resolved.space, replace(resolved.conditions, resolution=side))
    return int(table.measure(arch))


def _fixed(name: str, pretrained: Pretrained, asked: Mapping[str, Any]) -> nn.Module:
    """A network of a name, which no budget changes."""
    _refuse_request(name, asked, allowed=("resolution",))
    model: nn.Module = timm.create_model(name, bool(pretrained), **asked)
    if is_ours(name.partition(".")[0]):
        forget_request(model)
    return model


def _load(name: str | Path, pretrained: Pretrained, asked: Mapping[str, Any]) -> nn.Module:
    """A saved model, in a folder or a repo."""
    _check_bool(str(name), pretrained)
    _refuse_request(str(name), asked, allowed=("revision", "local_files_only"))
    return load_model(name, pretrained=bool(pretrained), access=reach(asked), **for_timm(asked))


def _refuse_request(name: str, asked: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Refuse what makes a network for a fixed one.

    Raises:
        BudgetError: Naming what to leave out.
    """
    beside = [word for word in own() if asked.get(word) is not None and word not in allowed]
    if beside:
        raise BudgetError(
            f"{name} is one fixed network; leave out {' and '.join(beside)}, or name 'sgnas' to have one made."
        )


def list_models() -> list[str]:
    """Names that ``create_model`` builds: families that take a budget, then published networks."""
    return [*dict.fromkeys([*families(), *zoo_entries()])]


def is_model(name: str) -> bool:
    """Whether a name is one that timm knows, ours among them; a tag may follow."""
    return bool(timm.is_model(name.partition(".")[0]))


def _check_name(name: str, pretrained: Pretrained) -> None:
    """Refuse a registry name or tag that timm does not know, with near matches.

    Raises:
        UnknownNameError: If there is none of that name, or ``pretrained`` names weights beside a fixed network.
    """
    base, _, tag = name.partition(".")
    if base not in families():
        _check_bool(name, pretrained)
    if not timm.is_model(base):
        raise unknown_name("model", base, [*list_models(), *timm.list_models()])
    tags = timm.models.get_arch_pretrained_cfgs(base)
    if tag and name not in tags:
        raise unknown_name(f"tag of {base}", tag, [known.partition(".")[2] for known in tags])


def _check_bool(name: str, pretrained: Pretrained) -> None:
    """Refuse weights of another name for a fixed network.

    Raises:
        UnknownNameError: If ``pretrained`` is not a bool.
    """
    if not isinstance(pretrained, bool):
        base = name.partition(".")[0]
        raise UnknownNameError(
            f"{name} is one fixed network and takes pretrained=True, or {base}.TAG as its name; only a network that "
            "is made for a budget inherits from a supernet."
        )
