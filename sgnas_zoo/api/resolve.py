"""What answers a request: space, generator, profile, supernet and conditions. Nothing else loads any of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sgnas_zoo.api.forms import choose_form, inherited_form
from sgnas_zoo.api.profiles import check_error, find_profile, own_profile
from sgnas_zoo.api.request import Request
from sgnas_zoo.api.spaces import choose_space
from sgnas_zoo.api.supernets import find_supernet, is_place, tagged_spaces
from sgnas_zoo.costs import BUDGETS, COSTS, Conditions, native_conditions
from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.errors import BudgetError, PretrainedError, UnknownNameError
from sgnas_zoo.hub.generators import default_generator, load_generator, spaces_with_generator
from sgnas_zoo.hub.remote import Access
from sgnas_zoo.hub.supernets import TrainedSupernet
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.spaces import SPACES, Arch, FormName, SearchSpace
from sgnas_zoo.zoo import default_arch


@dataclass(frozen=True)
class Resolved:
    """A request with all that answers it.

    Args:
        request: The request.
        space: The search space.
        conditions: What costs are stated for.
        arch: The architecture, where one was named or the family stands for one; None where budgets decide.
        generator: The generator, where budgets decide.
        profile: The device profile, where a latency is asked for.
        trained: The supernet to inherit from, if any.
        tag: Tag of its weights.
    """

    request: Request
    space: SearchSpace
    conditions: Conditions
    arch: Arch | None = None
    generator: ArchGenerator | None = None
    profile: Profile | None = None
    trained: TrainedSupernet | None = None
    tag: str = ""


def resolve(request: Request) -> Resolved:
    """Load what a request names, choose what it leaves open, and refuse what does not go together.

    Raises:
        BudgetError: If an architecture that was named exceeds a budget, or no space is between two ranges.
        PretrainedError: If there is nothing to inherit from, or another form is asked for than weights have.
        UnknownNameError: If there is no such space or tag, or two parts are of different spaces.
        ArtifactError: If a part cannot be loaded, or a profile is known to predict poorly and is not forced.
    """
    if request.pretrained and request.family and request.arch is None and not request.budgets:
        if not is_place(request.pretrained):
            tagged_spaces(request.pretrained, request.family)  # refuses a family that has none
        raise PretrainedError(f"No weights are published for {request.family} itself; say flops=350e6, or which arch=.")
    profile = find_profile(request.profile, request.access)
    generator = None
    if isinstance(request.generator, ArchGenerator) or (request.generator is not None and request.arch is None):
        generator = find_generator(request.generator, "", request.access)
    named = None if request.space is None else SPACES[request.space].name
    given = named or (profile.space if profile else None) or (generator.space.name if generator else None)
    trained, its_generator, tag = find_supernet(request, given) if request.pretrained else (None, None, "")
    space = trained.supernet.space if trained else SPACES[given or _space(request)]
    _check(request, space, named, generator, trained)
    form = inherited_form(space, request.form) if trained else _form(request, profile)
    classes = {"num_classes": trained.supernet.num_classes} if trained else {}
    conditions = native_conditions(space, form=form, **{**classes, **request.conditions})
    arch = None
    if request.arch is not None:
        arch = space.parse(request.arch)
    elif not request.budgets:
        arch = default_arch(space.family, SPACES[named] if named else None)
    elif generator is None:
        generator = its_generator or default_generator(space.name)
    if "latency" not in request.budgets:
        profile = None
    elif profile is None and arch is None and trained is None and request.form is None:
        assert generator is not None
        conditions, profile = choose_form(space, conditions, request.budgets, generator)
    elif profile is None:
        profile = own_profile(space, conditions)
    if profile is not None:
        check_error(profile, request.force)
    if arch is not None:
        _check_arch(request, arch, conditions, profile)
        generator = None
    return Resolved(request, space, conditions, arch, generator, profile, trained, tag)


def find_generator(
    generator: ArchGenerator | str | Path | None,
    space: str,
    access: Access = Access(),  # noqa: B008  # immutable
) -> ArchGenerator:
    """The generator that was given, loaded where it is a folder or a repo, or the embedded one of a space.

    A revision in ``access`` speaks of weights; a generator's repo names its own: ``USER/NAME@REVISION``.
    """
    if isinstance(generator, ArchGenerator):
        return generator
    if generator is None:
        return default_generator(space)
    return load_generator(generator, **access._replace(revision=None)._asdict())


def _space(request: Request) -> str:
    """Name of the space, where nothing that was given is of one."""
    family = request.family
    if request.arch is not None or not request.budgets:
        if family is None:
            raise BudgetError("Say what you need: create_model(flops=350e6), or name a model: see list_models().")
        return default_arch(family).space.name
    among = [name for name in spaces_with_generator() if family in (None, SPACES[name].family)]
    among = among or [default_arch(family or "").space.name]
    return choose_space(request.budgets, among, form=request.form or "final", **request.conditions)


def _form(request: Request, profile: Profile | None) -> FormName:
    """The form of a network with fresh weights, as far as somebody decided it."""
    if request.form is not None:
        return request.form
    return profile.conditions.form if profile else "final"


def _check(
    request: Request, space: SearchSpace, named: str | None, generator: ArchGenerator | None,
    trained: TrainedSupernet | None,
) -> None:  # fmt: skip
    """Refuse parts of different spaces.

    Raises:
        UnknownNameError: Naming both.
    """
    wanted = named or space.name
    if trained is not None and wanted != space.name:
        raise UnknownNameError(f"This supernet is of {space.name}, not {wanted}; leave space out or change it.")
    if generator is not None and generator.space.name != wanted:
        raise UnknownNameError(
            f"This generator is for {generator.space.name}, not {wanted}; leave space out or change it."
        )
    if request.family not in (None, space.family):
        raise UnknownNameError(f"Space {space.name} belongs to {space.family}, not {request.family}; name that model.")


def _check_arch(request: Request, arch: Arch, conditions: Conditions, profile: Profile | None) -> None:
    """Refuse an architecture that exceeds a budget.

    Raises:
        BudgetError: Naming its cost.
    """
    for name, (limit, *_) in request.budgets.items():
        priced = profile if BUDGETS[name].profiled else COSTS[BUDGETS[name].cost]
        assert priced is not None
        cost = priced.table(arch.space, conditions).measure(arch)
        if cost > limit:
            raise BudgetError(f"This arch has {cost:,.0f} {name}, more than {limit:,.0f}; leave out arch or {name}.")
