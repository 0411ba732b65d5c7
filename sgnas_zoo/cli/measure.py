"""Commands that time networks: ``sgnas-zoo profile`` and ``benchmark``."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sgnas_zoo.cli.networks import load_named, say_untrained
from sgnas_zoo.cli.tables import table
from sgnas_zoo.terminal import UserPath

if TYPE_CHECKING:
    from sgnas_zoo.costs.profile import Profile
    from sgnas_zoo.measure.side_by_side import Row

POSITIVE = click.IntRange(min=1)


def setup_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how to measure."""
    for option in (
        click.option(
            "--precision",
            "dtype",
            default="float32",
            show_default=True,
            help="Number format: float32, bfloat16, float16; or int8, with onnxruntime.",
        ),
        click.option("--batch-size", type=POSITIVE, default=1, show_default=True, help="Batch size."),
        click.option("--threads", type=POSITIVE, help="Threads per operation; by default as many as torch uses here."),
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
    ):
        command = option(command)
    return command


@click.command()
@click.option("--output", type=UserPath(), help="File to write; by default the user's cache.")
@click.option("--space", default="sgnas_imagenet", show_default=True, help="Search space.")
@click.option("--form", default="final", show_default=True, help="final, lite, or search: as weights are inherited.")
@click.option("--resolution", type=POSITIVE, help="Input side in pixels; by default the space's.")
@click.option("--num-classes", type=click.IntRange(min=0), help="Classes; by default the space's.")
@click.option("--runtime", default="torch", show_default=True, help="torch, torch_compile or onnxruntime.")
@setup_options
@click.option("--from-csv", type=click.Path(path_type=Path), help="Import a table of block times measured elsewhere.")
@click.option("--force", is_flag=True, help="Replace the output file; without --output, measure again for the cache.")
@click.option("--list", "list_", is_flag=True, help="Show the profiles in the cache instead.")
def profile(output: Path | None, space: str, form: str, resolution: int | None, num_classes: int | None, runtime: str,
            device: str, threads: int | None, batch_size: int, dtype: str, from_csv: Path | None, force: bool,
            list_: bool) -> None:  # fmt: skip
    """Measure the latency profile of a device: what every block of a space takes, and how well that predicts."""
    from sgnas_zoo.costs import native_conditions
    from sgnas_zoo.costs.profile import Setup
    from sgnas_zoo.files import check_file, check_writable
    from sgnas_zoo.measure import cache
    from sgnas_zoo.measure.progress import bars
    from sgnas_zoo.spaces import SPACES

    if list_:
        for path, found in cache.cached_profiles():
            click.echo(f"{path.name}: {_described(found)}")
        return
    changes = {"form": form, "resolution": resolution, "num_classes": num_classes}
    conditions = native_conditions(SPACES[space], **{k: v for k, v in changes.items() if v is not None})
    SPACES[space].check_resolution(conditions.resolution)
    if output is not None:
        check_file(output, force=force, ours=cache.is_profile)
        check_writable(output.absolute().parent)
    if from_csv is not None:
        if output is None:
            raise click.UsageError("--from-csv needs --output FILE, and --device and --runtime as the table's names.")
        elsewhere = Setup(device, device, runtime, threads or 1, dtype, "channels_last", batch_size)
        made = _from_csv(from_csv, space=SPACES[space].name, conditions=conditions, setup=elsewhere)
    else:
        setup = cache.this_setup(device, runtime, threads, dtype, batch_size)
        with bars() as progress:
            if output is None:
                made = cache.cached_profile(SPACES[space], conditions, setup, progress, anew=force)
            else:
                made = cache.new_profile(SPACES[space], conditions, setup, progress)
    if output is not None:
        cache.keep(made, output, force=force)
        click.echo(f"Wrote {output}. Use it with --latency 20ms --profile {output}.", err=True)
    if made.is_poor:
        click.echo("That error is above 10 %: measure again on an idle machine with --force; `generate` and others "
                   "use this profile only with --force.", err=True)  # fmt: skip
    click.echo(_described(made))


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--runtime", default="torch", show_default=True, help="Runtimes, joined with commas.")
@setup_options
@click.option("--resolution", type=POSITIVE, help="Input side in pixels; by default each model's own.")
@click.option("--rounds", type=POSITIVE, default=30, show_default=True, help="Times per model and runtime.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def benchmark(models: Sequence[str], runtime: str, device: str, threads: int | None, batch_size: int, dtype: str,
              resolution: int | None, rounds: int, as_json: bool) -> None:  # fmt: skip
    """Time models side by side in one interleaved run: folders, Hub repos, names of this zoo or of timm, files.

    A file that was exported runs as it is, in its own runtime; --runtime and --precision are about the others.
    """
    from sgnas_zoo.api.exported import ExportedModel, is_exported
    from sgnas_zoo.measure.cache import this_setup
    from sgnas_zoo.measure.progress import bars
    from sgnas_zoo.measure.side_by_side import side_by_side

    setups = [this_setup(device, name, threads, dtype, batch_size) for name in dict.fromkeys(runtime.split(","))]
    files = {name: ExportedModel(name, setups[0].threads) for name in models if is_exported(name)}
    loaded = {name: load_named(name) for name in models if name not in files}
    with bars() as progress:
        rows = side_by_side(loaded, setups, files=files, resolution=resolution, rounds=rounds, progress=progress)
    say_untrained({**loaded, **files})
    if as_json:
        click.echo(json.dumps([row.record() for row in rows], indent=2))
        return
    click.echo(table("model|runtime|>px|>M MACs|>M params|>ms|>IQR", map(_cells, rows)))
    on = setups[0]
    click.echo(f"{on.device}, {on.threads} threads, batches of {on.batch_size}, {on.dtype}; deploy forms, one "
               f"interleaved run, medians of {rows[0].timing.n}.", err=True)  # fmt: skip


def _cells(row: Row) -> list[Any]:
    """A row of the table of times."""
    runtime = row.setup.runtime + (", int8" if row.setup.dtype == "int8" else "")
    counts = ("-" if count is None else f"{count / 1e6:.2f}" for count in (row.macs, row.params))
    times = str(row.timing).removesuffix(" ms"), f"{row.timing.iqr_ms:.2f}"
    return [row.model, runtime, row.resolution, *counts, *times]


def _from_csv(path: Path, **known: Any) -> Profile:
    """Read a table of block times; the date is today's."""
    from sgnas_zoo.costs.profile_file import read_csv
    from sgnas_zoo.spaces import SPACES

    try:
        table = path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"Cannot read {path}; name a CSV file.") from error
    made = read_csv(table, str(path), versions=(), cores=1, date=f"{datetime.date.today()}", **known)
    made.table(SPACES[made.space], made.conditions)  # says which block it lacks, if it does
    return made


def _described(profile: Profile) -> str:
    """A profile in one line: what it is of, and how well it predicts."""
    held = profile.validation
    error = "error not known"
    if held:
        error = (
            f"error {held.median_error:.1%} (median), {held.p90_error:.1%} (90th percentile), rank correlation "
            f"{held.spearman:.3f} on {held.nets} networks"
        )
    return f"{profile.space}, {profile.rule}, {profile.date}: {error}"
