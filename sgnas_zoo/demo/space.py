"""The page as a Space of the Hub: a few lines that start it, what they need, and a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import sgnas_zoo
from sgnas_zoo.costs.profile import Profile
from sgnas_zoo.costs.profile_file import write_profile
from sgnas_zoo.demo.answers import offers
from sgnas_zoo.demo.networks import MOST_MEGABYTES, MOST_MEGAPIXELS
from sgnas_zoo.demo.pictures import TEMPLATES
from sgnas_zoo.errors import SettingError, printable, shown
from sgnas_zoo.hub.pages import APP, push_page
from sgnas_zoo.hub.push import Pushed

MARK = "from sgnas_zoo.demo.app import serve"
"""The line by which an earlier page is known."""
PROFILES = "profiles"
"""Folder of the device profiles that a Space shows."""


def push_space(
    repo: str,
    *,
    requirement: str | None = None,
    profiles: Sequence[Profile] = (),
    private: bool | None = None,
    token: str | None = None,
) -> Pushed:
    """Publish the page as a Space, in one commit.

    Args:
        repo: ``USER/NAME``.
        requirement: What pip installs there; by default this version from the package index.
        profiles: Device profiles that it predicts latencies by.
        private: Visibility of a Space that is made; by default the account's.
        token: Hub token; the stored one if left out.

    Raises:
        ArtifactError: If the Space holds something else, or the Hub refuses.
        SettingError: If the requirement is not one line.
    """
    return push_page(space_files(profiles, requirement), repo, MARK, private=private, token=token)


def space_files(profiles: Sequence[Profile] = (), requirement: str | None = None) -> Mapping[str, bytes]:
    """The files of the Space by path; arguments as for ``push_space``."""
    requirement = requirement or f"sgnas-zoo[demo]=={sgnas_zoo.__version__}"
    if printable(requirement) != requirement or requirement.startswith("-"):
        raise SettingError(
            f"{shown(requirement)} is not a requirement of pip; name one, such as an address, in a line."
        )
    files = {APP: _render("app.py.txt"), "requirements.txt": f"{requirement}\n",
             "README.md": _render("README.md")}  # fmt: skip
    files |= {f"{PROFILES}/{number}.json": write_profile(profile) for number, profile in enumerate(profiles, 1)}
    return {path: text.encode() for path, text in files.items()}


def _render(name: str) -> str:
    environment = Environment(  # neither Python nor Markdown is HTML
        loader=FileSystemLoader(TEMPLATES / "space"), undefined=StrictUndefined, keep_trailing_newline=True,
        trim_blocks=True,
    )  # fmt: skip
    return environment.get_template(name).render(
        version=sgnas_zoo.__version__,
        gradio=version("gradio"),
        mark=MARK,
        profiles=PROFILES,
        offers=list(offers().values()),
        megabytes=MOST_MEGABYTES,
        megapixels=MOST_MEGAPIXELS,
    )
