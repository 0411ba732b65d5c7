"""What ``profile`` means: a loaded one, its file, folder or repo, or that of this device from the user's cache."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sgnas_zoo.costs import Conditions
from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.hub.profiles import load_profile
from sgnas_zoo.hub.remote import Access
from sgnas_zoo.measure.cache import cached_profile, this_setup
from sgnas_zoo.measure.device import device_name
from sgnas_zoo.measure.load import note_load
from sgnas_zoo.measure.network import measure
from sgnas_zoo.measure.progress import bars
from sgnas_zoo.measure.runtimes import RUNTIMES
from sgnas_zoo.measure.timing import Timing
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.spaces import Arch, SearchSpace

ProfileLike = Profile | str | Path


def find_profile(profile: ProfileLike | None, access: Access = Access()) -> Profile | None:  # noqa: B008  # immutable
    """The profile that was given, loaded; None stays None.

    A revision in ``access`` speaks of weights; a profile's repo names its own: ``USER/NAME@REVISION``.

    Raises:
        ArtifactError: If it cannot be loaded.
    """
    if profile is None or isinstance(profile, Profile):
        return profile
    return load_profile(profile, access._replace(revision=None))


@plain_torch()
def own_profile(space: SearchSpace, conditions: Conditions) -> Profile:
    """The profile of this device with its default runtime: from the user's cache, or measured now and kept there."""
    enough = replace(conditions, num_classes=max(conditions.num_classes, space.num_classes))
    with bars() as progress:
        return cached_profile(space, enough, this_setup(), progress)


def check_error(profile: Profile, force: bool) -> None:
    """Refuse a profile that is known to predict poorly, unless it is forced; warn where nobody knows how well it does.

    Raises:
        ArtifactError: If its median error is above 10 %.
    """
    if not force:
        profile.refuse_poor()
    if profile.validation is None:
        warnings.warn(
            f"The error of the profile of {profile.setup.device} is not known, as it was not compared with whole "
            "networks: measure on the device what you get.", stacklevel=5,
        )  # fmt: skip


def check_here(profile: Profile) -> None:
    """Refuse to measure as a profile was measured, where that is not possible on this machine.

    Raises:
        ArtifactError: If the profile is of another device.
        ModelError: If its runtime is missing.
    """
    setup = profile.setup
    here = device_name(setup.device_type) if setup.device_type in ("cpu", "cuda") else "another kind of device"
    if here != setup.device:
        raise ArtifactError(
            f"The profile is of {setup.device}, and this is {here}: leave measuring out (--no-measure, measure=False)."
        )
    RUNTIMES[setup.runtime].check(setup)


def stopwatch(conditions: Conditions, profile: Profile) -> Callable[[Arch], Timing]:
    """What measures networks as their profile was measured; it first says what else this machine does.

    Raises:
        ArtifactError: If the profile is of another device.
        ModelError: If its runtime is missing.
    """
    check_here(profile)
    note_load(profile.setup)
    return lambda arch: measure(arch, conditions, profile.setup)
