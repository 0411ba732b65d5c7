"""Device profiles by which the page predicts latencies: those it is given, and those in the user's cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.demo.answers import offers, resolved
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.hub.profiles import load_profile
from sgnas_zoo.measure.cache import cached_profiles


def load_profiles(places: Sequence[str]) -> list[Profile]:
    """Profiles by their file, folder or Hub repo.

    Raises:
        ArtifactError: If one cannot be loaded, predicts poorly, or is of no network that the page shows.
    """
    found = []
    for place in places:
        profile = load_profile(place)
        profile.refuse_poor("or leave it out")
        _check(profile, place)
        found.append(profile)
    return found


def profiles_in(folder: str | Path) -> list[Profile]:
    """The profiles in the JSON files of a folder; an empty list if the folder does not exist."""
    return load_profiles([str(path) for path in sorted(Path(folder).glob("*.json"))])


def local_profiles() -> list[Profile]:
    """The profiles that this user's cache holds."""
    return [profile for _, profile in cached_profiles()]


def _check(profile: Profile, place: str) -> None:
    """Refuse a profile of networks that the page does not show.

    Raises:
        ArtifactError: Naming the command that makes another one.
    """
    for offer in offers().values():
        base = resolved(offer)
        try:
            profile.table(base.space, base.conditions)
        except ArtifactError:
            continue
        return
    raise ArtifactError(
        f"The profile {place} is of other networks than the page shows; make one with "
        f"`sgnas-zoo profile --space {profile.space} --form search --output FILE`."
    )
