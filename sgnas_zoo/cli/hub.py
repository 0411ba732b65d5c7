"""Commands for folders of artifacts: ``sgnas-zoo push``, ``card``, ``convert`` and ``shim``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sgnas_zoo.cli.options import push_options
from sgnas_zoo.errors import printable
from sgnas_zoo.terminal import UserPath


@click.command()
@click.argument("path")
@click.argument("repo", metavar="USER/NAME")
@push_options
def push(path: str, repo: str, **hub: Any) -> None:
    """Publish a model, generator or supernet (the folder PATH), or a device profile (the file), as one commit."""
    from sgnas_zoo.hub.names import read_folder

    publish(read_folder(path), repo, **hub)


@click.command()
@click.argument("path")
@click.option("--repo", metavar="USER/NAME", help="Hub id that the card names.")
def card(path: str, repo: str | None) -> None:
    """Render the card of the artifact in the folder PATH anew."""
    from sgnas_zoo.hub.cards import write_card
    from sgnas_zoo.hub.kinds import check_folder
    from sgnas_zoo.hub.names import read_folder

    folder = read_folder(path)
    check_folder(folder)
    write_card(folder, repo)
    click.echo(f"Wrote {folder / 'README.md'}", err=True)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", type=UserPath(), required=True, help="Folder of the artifact.")
@click.option("--space", help="Search space the checkpoint was made in; found from its layers where possible.")
@click.option("--arch", help="Architecture of a network whose tensors have timm's names, as model.state_dict() has.")
@click.option("--form", help="Form of a network: final, lite or search; by default as its tensors say, or final.")
@click.option("--prior", type=click.Path(path_type=Path), help="Prior pool of a generator; by default beside FILE.")
@click.option("--force", is_flag=True, help="Replace the output folder.")
def convert(file: Path, output: Path, **asked: Any) -> None:
    """Convert a released checkpoint, or the state dict of a network, to a folder with safetensors."""
    from sgnas_zoo.hub.convert import convert as run

    click.echo(f"Wrote {run(file, output, **asked)}", err=True)


@click.command()
@click.argument("path")
def shim(path: str) -> None:
    """Let transformers load the model in PATH with trust_remote_code=True, without importing sgnas_zoo."""
    from sgnas_zoo.hub.names import read_folder
    from sgnas_zoo.hub.shim import SHIM, add_shim

    folder = read_folder(path)
    add_shim(folder)
    click.echo(f"Wrote {folder / SHIM} and named it in config.json; push the folder to publish it.", err=True)


def publish(folder: Path, repo: str, **hub: Any) -> None:
    """Push a folder, and say where it is now and how to load it.

    Args:
        folder: Folder of the artifact.
        repo: ``USER/NAME``.
        hub: As ``push_options``.

    Raises:
        ArtifactError: As ``sgnas_zoo.hub.push.push`` does.
    """
    from sgnas_zoo.hub.push import push as run

    done = run(folder, repo, **hub)
    what = "Pushed to" if done.changed else "Nothing has changed at"
    click.echo(f"{what} {printable(done.url)} (commit {done.commit[:12]}).", err=True)
    click.echo(f"Load it after `import sgnas_zoo` as {repo}@{hub['tag'] or done.commit[:12]}.", err=True)
