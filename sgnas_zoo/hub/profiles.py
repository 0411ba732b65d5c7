"""Device profiles as artifacts: one file, ``profile.json``, by itself, in a folder, or in a Hub repo at one commit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.costs.profile_file import read_profile
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import MAX_CONFIG_BYTES
from sgnas_zoo.hub.artifacts import PROFILE, Artifact
from sgnas_zoo.hub.names import read_place
from sgnas_zoo.hub.remote import Access


def load_profile(place: str | Path, access: Access = Access()) -> Profile:  # noqa: B008  # immutable
    """Load a profile.

    Args:
        place: Its file, a folder that holds ``profile.json``, or a Hub repo id with an optional ``@revision``, in any
            spelling of ``read_name``.
        access: How to reach a repo; nothing of it concerns a file or folder.

    Raises:
        ArtifactError: If there is none, or it is damaged.
    """
    try:
        found, source = read_place(place), ""
    except ArtifactError as error:
        raise ArtifactError(
            f"Profile {str(place)[:200]!r} does not exist; name a file, a folder or USER/NAME, or make one with "
            "`sgnas-zoo profile --output FILE`."
        ) from error
    path = found.folder or Path(PROFILE)
    if found.folder is None or not path.is_file():
        artifact = Artifact(place, access)
        path = artifact.file(PROFILE)
        source = f"{artifact.id.partition('@')[0]}@{artifact.commit}" if artifact.commit else ""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ArtifactError(f"{path} is too large for a profile; fetch it again or profile anew.")
        return replace(read_profile(path.read_bytes(), str(place)), source=source)
    except OSError as error:
        raise ArtifactError(f"There is no {PROFILE} in {place}; make one with `sgnas-zoo profile --output`.") from error
