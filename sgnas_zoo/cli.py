"""The command line: ``sgnas-zoo list``, ``generate``, ``push`` and others. Data on stdout, messages on stderr."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from sgnas_zoo import __version__
from sgnas_zoo.errors import ZooError, unknown_name

if TYPE_CHECKING:
    pass

DEFAULT_TAG = "default"
"""What ``--pretrained`` alone stands for."""
SUFFIXES = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}


class BadInput(click.ClickException):
    """One line on stderr."""

    exit_code = 2


class ZooGroup(click.Group):
    """Turns errors of the library and of usage into one line on stderr and exit code 2."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the group's own options."""
        with one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with one_line():
            return super().invoke(ctx)


@contextmanager
def one_line() -> Iterator[None]:
    """Raise what was bad input as ``BadInput``; a bare call still shows the help."""
    try:
        yield
    except getattr(click.exceptions, "NoArgsIsHelpError", ()):
        raise
    except click.UsageError as error:
        raise BadInput(error.format_message()) from error
    except ZooError as error:
        raise BadInput(str(error)) from error


class Count(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions of click
    """A budget in plain counts, written 350M, 1.2G or 350e6."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read ``value``, or fail with the spelling that would do."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)([KMG]?)", str(value).strip(), re.IGNORECASE)
        number = float(match[1]) * SUFFIXES[match[2].upper()] if match else 0.0
        if not 0 < number < float("inf"):
            self.fail(f"{value!r} is no budget; write a positive count such as 350M.", param, ctx)
        if number < 10_000 and match and not match[2]:
            self.fail(f"{value} is no network's budget; did you mean {value}M?", param, ctx)
        return number


@click.group(cls=ZooGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sgnas-zoo")
def main() -> None:
    """State a budget, get a timm model."""


def push_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of whatever publishes."""
    for option in (
        click.option("--tag", help="Tag for the commit, such as v1."),
        click.option("--create-pr", is_flag=True, help="Open a pull request instead of committing."),
        click.option("--revision", help="Branch to commit to; by default main."),
        click.option("--private", is_flag=True, default=None, help="Make the repo private, if it has to be made."),
    ):
        command = option(command)
    return command


@main.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List published networks and search spaces."""
    from sgnas_zoo.spaces import SPACES
    from sgnas_zoo.zoo import zoo_entries

    models = [_entry(name) for name in zoo_entries()]
    spaces = [_space(name) for name in SPACES]
    if as_json:
        click.echo(json.dumps({"models": models, "spaces": spaces}, indent=2))
        return
    click.echo(f"{'model':14}{'space':16}{'M MACs':>8}{'M params':>10}{'top-1, published':>18}")
    for model in models:
        click.echo(
            f"{model['name']:14}{model['space']:16}{model['macs'] / 1e6:8.1f}{model['params'] / 1e6:10.2f}"
            f"{model['published']['top1']:18.1f}"
        )
    click.echo(f"\n{'space':16}{'layers':>7}{'slots':>7}{'choices':>9}{'M MACs':>16}{'px':>5}  {'generator':11}weights")
    for space in spaces:
        span = f"{space['macs'][0] / 1e6:.1f} - {space['macs'][1] / 1e6:.1f}"
        click.echo(
            f"{space['name']:16}{space['layers']:7}{space['slots']:7}{space['choices']:9}{span:>16}"
            f"{space['resolution']:5}  {'embedded' if space['generator'] else 'none yet':11}"
            f"{', '.join(space['weights']) or 'none yet'}"
        )


@main.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(name: str, as_json: bool) -> None:
    """Show a published network or a search space."""
    from sgnas_zoo.spaces import SPACES
    from sgnas_zoo.zoo import zoo_entries

    base, _, tag = name.partition(".")
    if base in zoo_entries() and tag in ("", "in1k"):
        details = _entry(base)
    elif name in SPACES:
        details = _space(name)
    elif base in zoo_entries():
        raise unknown_name(f"tag of {base}", tag, ["in1k"])
    else:
        raise unknown_name("model or space", name, [*zoo_entries(), *SPACES])
    if as_json:
        click.echo(json.dumps(details, indent=2))
        return
    for key, value in details.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        text = ", ".join(map(str, text)) if isinstance(text, list) else text
        click.echo(f"{key:12}{text:,}" if isinstance(text, int) and not isinstance(text, bool) else f"{key:12}{text}")


@main.command()
@click.option("--flops", type=Count(), multiple=True, help="Most FLOPs (MACs), such as 350M; repeat for several.")
@click.option("--params", type=Count(), multiple=True, help="Most parameters, such as 6M; bounds combine.")
@click.option("--space", help="Search space; by default the first whose range holds the budget.")
@click.option("--generator", help="Folder or Hub repo of a generator; by default the embedded one.")
@click.option("--resolution", type=click.IntRange(min=1), help="Input side in pixels; by default the space's.")
@click.option("--num-classes", type=click.IntRange(min=0), help="Classes; by default the space's.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the model as a folder that timm loads.")
@click.option(
    "--pretrained",
    is_flag=False,
    flag_value=DEFAULT_TAG,
    metavar="[TAG|FOLDER|REPO]",
    help="Give it the weights that a supernet holds for it; alone, those of the space's default tag.",
)
@click.option("--push-to-hub", metavar="USER/NAME", help="Publish the model on the Hub; the next options say how.")
@push_options
@click.option("--force", is_flag=True, help="Replace the output folder.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the initial weights.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def generate(flops: tuple[float, ...], params: tuple[float, ...], output: Path | None, pretrained: str | None,
             push_to_hub: str | None, private: bool | None, revision: str | None, create_pr: bool, tag: str | None,
             force: bool, seed: int, as_json: bool, **options: Any) -> None:  # fmt: skip
    """Generate architectures for budgets; with --output or --push-to-hub, make the model."""
    hub = {"private": private, "revision": revision, "create_pr": create_pr, "tag": tag}
    if not flops and not params:
        raise click.UsageError("State a budget: --flops 350M, --params 5M, or both.")
    if (output or push_to_hub) and max(len(flops), len(params)) > 1:
        raise click.UsageError("--output and --push-to-hub take one budget; call once per budget, or leave them out.")
    if pretrained and not (output or push_to_hub):
        raise click.UsageError("--pretrained is about the model; add --output FOLDER or --push-to-hub USER/NAME.")
    if any(hub.values()) and not push_to_hub:
        raise click.UsageError("--private, --revision, --create-pr and --tag go with --push-to-hub USER/NAME.")
    from sgnas_zoo import factory
    from sgnas_zoo.hub.files import check_free
    from sgnas_zoo.hub.remote import split_revision

    if push_to_hub and split_revision(push_to_hub)[1]:
        raise click.UsageError("--push-to-hub takes USER/NAME; say --revision for a branch, --tag for a tag.")
    if output is not None:
        check_free(output, force)
    if output is None and push_to_hub is None:
        results = factory.generate(flops=flops or None, params=params or None, **options)
        records = [result.record() for result in results]
    else:
        budgets = {"flops": flops[0] if flops else None, "params": params[0] if params else None}
        with TemporaryDirectory() as temporary:
            folder = output or Path(temporary) / str(push_to_hub).partition("/")[2]
            records = [_write(folder, force, pretrained, seed, **budgets, **options)]
            if output:
                _say_how_to_load(output)
            if push_to_hub:
                _push(folder, push_to_hub, **hub)
    if as_json:
        click.echo(json.dumps(records, indent=2))
    else:
        for record in records:
            click.echo(_line(record))


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("repo", metavar="USER/NAME")
@push_options
def push(path: Path, repo: str, **hub: Any) -> None:
    """Publish a model, a generator or a supernet: the folder PATH as one commit."""
    _push(path, repo, **hub)


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--repo", metavar="USER/NAME", help="Hub id that the card names.")
def card(path: Path, repo: str | None) -> None:
    """Render the card of the artifact in the folder PATH anew."""
    from sgnas_zoo.hub.cards import write_card
    from sgnas_zoo.hub.kinds import check_folder
    from sgnas_zoo.hub.remote import split_revision

    if repo and split_revision(repo)[1]:
        raise click.UsageError("--repo takes USER/NAME, without a revision.")
    check_folder(path)
    write_card(path, repo)
    click.echo(f"Wrote {path / 'README.md'}", err=True)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the artifact.")
@click.option("--space", help="Search space the checkpoint was made in; found from its layers where possible.")
@click.option("--prior", type=click.Path(path_type=Path), help="Prior pool of a generator; by default beside FILE.")
@click.option("--force", is_flag=True, help="Replace the output folder.")
def convert(file: Path, output: Path, space: str | None, prior: Path | None, force: bool) -> None:
    """Convert a released checkpoint to safetensors."""
    from sgnas_zoo.hub.convert import convert as run

    click.echo(f"Wrote {run(file, output, space=space, prior=prior, force=force)}", err=True)


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
def shim(path: Path) -> None:
    """Let transformers load the model in PATH with trust_remote_code=True, without importing sgnas_zoo."""
    from sgnas_zoo.hub.shim import SHIM, add_shim

    add_shim(path)
    click.echo(f"Wrote {path / SHIM} and named it in config.json; push the folder to publish it.", err=True)


def _write(folder: Path, force: bool, pretrained: str | None, seed: int, **options: Any) -> dict[str, Any]:
    """Make a model and write it; return its record."""
    import torch

    from sgnas_zoo.factory import create_model
    from sgnas_zoo.hub.models import save_model

    torch.manual_seed(seed)
    weights: Any = True if pretrained == DEFAULT_TAG else pretrained or False
    with warnings.catch_warnings(record=True) as caveats:
        warnings.simplefilter("always")
        model = create_model(pretrained=weights, **{name: v for name, v in options.items() if v is not None})
    save_model(model, folder, weights=None if pretrained else "untrained", force=force)
    for caveat in caveats:
        click.echo(str(caveat.message), err=True)
    click.echo("The weights are inherited." if pretrained else f"The weights are untrained (seed {seed}).", err=True)
    record: dict[str, Any] = model.sgnas  # type: ignore[assignment]
    return record


def _say_how_to_load(output: Path) -> None:
    click.echo(
        f"Wrote {output}. Load it after `import sgnas_zoo` with "
        f"timm.create_model('local-dir:{output}', pretrained=True).", err=True,
    )  # fmt: skip


def _push(folder: Path, repo: str, **hub: Any) -> None:
    from sgnas_zoo.hub.push import push

    done = push(folder, repo, **hub)
    what = "Pushed to" if done.changed else "Nothing has changed at"
    click.echo(f"{what} {done.url} (commit {done.commit[:12]}).", err=True)
    click.echo(f"Load it after `import sgnas_zoo` as {repo}@{hub['tag'] or done.commit[:12]}.", err=True)


def _line(record: dict[str, Any]) -> str:
    asked = ", ".join(f"{name} <= {limit / 1e6:g}M" for name, limit in record["requested"].items())
    counted = f"{record['macs'] / 1e6:.2f}M MACs, {record['params'] / 1e6:.3f}M params"
    return f"{asked}: {counted}, {record['space']} {record['arch']}"


def _entry(name: str) -> dict[str, Any]:
    from sgnas_zoo.zoo import zoo_entries

    entry = zoo_entries()[name]
    return {
        "name": name, "space": entry.space, "paper": entry.paper, "macs": entry.costs["macs"],
        "params": entry.costs["params"], "published": dict(entry.published), "arch": entry.arch,
    }  # fmt: skip


def _space(name: str) -> dict[str, Any]:
    from sgnas_zoo.costs import COSTS, native_conditions
    from sgnas_zoo.spaces import SPACES
    from sgnas_zoo.zoo import embedded_generator, supernet_entries

    space = SPACES[name]
    layers, slots, choices = space.shape
    tables = {cost: COSTS[cost].table(space, native_conditions(space)) for cost in ("macs", "params")}
    return {
        "name": name, "layers": layers, "slots": slots, "choices": choices, "resolution": space.resolution,
        "num_classes": space.num_classes, **{c: [t.minimum, t.maximum] for c, t in tables.items()},
        "generator": embedded_generator(name) is not None,
        "weights": [entry.tag for entry in supernet_entries() if entry.space == name and entry.supernet],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
