"""A page to play with: ``sgnas-zoo demo``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from sgnas_zoo.cli.options import check_installed
from sgnas_zoo.errors import printable

PACKAGES = ("gradio", "accelerate", "datasets")
"""What it needs beside what the library does."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 for everybody.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port; by default the first free one from 7860.")
@click.option("--profile", "profiles", multiple=True, help="Device profile (file, folder or Hub repo) to predict "
              "latencies by, beside those in the user's cache; repeat for several.")  # fmt: skip
@click.option("--push-to-hub", metavar="USER/NAME", help="Publish the page as a Space instead of serving it.")
@click.option("--requirement", help="What pip installs in the Space, such as 'sgnas-zoo[demo] @ git+https://...'; "
              "by default this version from the package index.")  # fmt: skip
@click.option("--private", is_flag=True, default=None, help="Create the Space as private, if it does not exist.")
def demo(host: str, port: int | None, profiles: Sequence[str], push_to_hub: str | None, requirement: str | None,
         private: bool | None) -> None:  # fmt: skip
    """Serve a page to play with: budgets by slider, the network that keeps them, names for your pictures."""
    if (private or requirement) and not push_to_hub:
        raise click.UsageError("--private and --requirement go with --push-to-hub USER/NAME.")
    check_installed("The page", PACKAGES, "demo")
    if push_to_hub:
        _push(push_to_hub, profiles, private=private, requirement=requirement)
        return
    from sgnas_zoo.demo.app import serve
    from sgnas_zoo.demo.profiles import load_profiles

    serve(host, port, load_profiles(profiles), say=lambda line: click.echo(line, err=True))


def _push(repo: str, profiles: Sequence[str], **how: Any) -> None:
    """Publish the page, and say where it is."""
    from sgnas_zoo.hub.remote import repo_id

    repo_id(repo)  # before anything is loaded
    from sgnas_zoo.demo.profiles import load_profiles
    from sgnas_zoo.demo.space import push_space

    done = push_space(repo, profiles=load_profiles(profiles), **how)
    what = "Pushed to" if done.changed else "Nothing has changed at"
    click.echo(f"{what} {printable(done.url)} (commit {done.commit[:12]}).", err=True)
