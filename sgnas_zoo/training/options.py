"""Options of a recipe: the command line beats ``--config``, then ``configs/<space>.yaml``, then an option's default."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
import yaml  # type: ignore[import-untyped, unused-ignore]

from sgnas_zoo.files import write_file
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.stopping import stoppable
from sgnas_zoo.terminal import import_named, import_option, one_line
from sgnas_zoo.training.fields import Config, build, flat, options, plain

PLACES = ("dataset", "model", "pretrained", "generator", "supernet", "teacher")
"""Options that say where something lies: a record names what was there instead."""

UNPROVEN = "unproven"
"""Folder of settings that have never been run."""


class RecipeCommand(click.Command):
    """A command whose options also come from YAML, under its own name as top-level key; all mistakes show at once.

    It adds ``--config FILE`` and ``--import MODULE``. An error of usage or of the library is one line on stderr and
    exit code 2, as is a signal with an exit code of its own.

    Args:
        config: What it is told, a dataclass, see ``fields``.
        configs: Folder whose ``<space>.yaml``, if there, holds the defaults for the search space in ``--space``; what
            has never been run lies in its folder ``unproven``.
    """

    def __init__(self, *args: Any, config: type, configs: Path | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.config, self.configs = config, configs
        self.params = self._made()

    def _made(self) -> list[click.Parameter]:
        """The options there are now: modules under ``--import`` may bring budgets."""
        help_text = f"YAML with a section {self.section}: option names and values; the command line wins."
        file = click.Option(["--config"], type=click.Path(path_type=Path), expose_value=False, help=help_text)
        return [*options(self.config), file, import_option()]

    @property
    def section(self) -> str:
        """Top-level key of this recipe."""
        return (self.name or "").replace("-", "_")

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the options."""
        with one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the recipe."""
        advice = "go on with --resume auto." if "resume" in ctx.params else "start it again."
        with stoppable(advice), one_line():
            return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Look for all mistakes in YAML and command line, then parse."""
        import_named(args)  # before a space is asked for
        self.params = self._made()
        parser = self.make_parser(ctx)
        parser.ignore_unknown_options = True
        given, rest, _ = parser.parse_args(args=list(args))
        asks_for_help = any(param.is_eager and param.name in given for param in self.get_params(ctx))
        if not ctx.resilient_parsing and not asks_for_help:
            mistakes = [self._unknown("option", word, self._spellings(ctx)) for word in rest if word.startswith("-")]
            origins = self._read_configs(ctx, given, mistakes)
            mistakes += self._misfits(ctx, given, origins)
            if mistakes:
                raise click.UsageError("; ".join(mistake.rstrip(".") for mistake in mistakes) + ".", ctx)
        return super().parse_args(ctx, args)

    def space(self, given: Mapping[str, Any], chosen: Mapping[str, Any]) -> Any:
        """Name of the space whose YAML holds the defaults: on the command line, in ``--config``, or the default."""
        return given.get("space") or chosen.get("space") or self._default("space")

    def _read_configs(self, ctx: click.Context, given: Mapping[str, Any], mistakes: list[str]) -> dict[str, Path]:
        """Set the default map; say which file each name in it comes from."""
        config = Path(given["config"]) if given.get("config") else None
        chosen = _section(config, self.section, True, mistakes) if config else {}
        file = self._built_in(self.space(given, chosen))
        built_in = _section(file, self.section, False, mistakes) if file else {}
        accepted = self._accepted(built_in, file, mistakes) | self._accepted(chosen, config, mistakes)
        ctx.default_map = {name: value for name, value in accepted.items() if value is not None}
        named = {name: Path(file.name) for name in built_in} if file else {}
        return named | (dict.fromkeys(chosen, config) if config else {})

    def _built_in(self, space: Any) -> Path | None:
        """The YAML of a space, or that of its family."""
        if not self.configs or not isinstance(space, str):
            return None
        names = [Path(space).name, *([SPACES[space].family] if space in SPACES else [])]
        files = [folder / f"{name}.yaml" for name in names for folder in (self.configs, self.configs / UNPROVEN)]
        return next((file for file in files if file.is_file()), None)

    def _accepted(self, section: Mapping[str, Any], file: Path | None, mistakes: list[str]) -> dict[str, Any]:
        """The known names, values spelt as on the command line, so that 60.5 is not a whole number here either.

        No value (``null``) is the option's own default, whatever the YAML of the space says: ``settings.yaml`` of a run
        gives its settings again.
        """
        options = {param.name: param for param in self.params if param.name and param.expose_value}
        accepted: dict[str, Any] = {}
        for name, value in section.items():
            if name not in options:
                mistakes.append(f"{file}: {self._unknown('key', name, options)}")
            elif value is None:
                accepted[name] = None
            elif isinstance(value, dict) or isinstance(value, list) != _takes_list(options[name]):
                mistakes.append(f"{file}: {name} takes {'a list' if _takes_list(options[name]) else 'one value'}")
            else:
                accepted[name] = [*map(str, value)] if isinstance(value, list) else str(value)
        return accepted

    def _misfits(self, ctx: click.Context, given: Mapping[str, Any], origins: Mapping[str, Path]) -> list[str]:
        """What is wrong with single values, whichever place they come from."""
        found = []
        for param in self.get_params(ctx):
            if param.is_eager or not param.expose_value:
                continue
            try:
                value, _ = param.consume_value(ctx, given)
                param.process_value(ctx, value)
            except click.UsageError as error:
                where = f" (in {origins[param.name]})" if param.name in origins and param.name not in given else ""
                found.append(error.format_message().rstrip(".") + where)
        return found

    def _default(self, name: str) -> Any:
        return next((param.default for param in self.params if param.name == name), None)

    def _spellings(self, ctx: click.Context) -> list[str]:
        return [spelling for param in self.get_params(ctx) for spelling in param.opts]

    def _unknown(self, kind: str, word: object, known: Iterable[str]) -> str:
        near = get_close_matches(str(word).split("=")[0], list(known), n=3, cutoff=0.6)
        return f"unknown {kind} {word}, " + (f"did you mean {' or '.join(near)}?" if near else "see --help")


def recipe(
    config: type[Config], command: type[RecipeCommand] = RecipeCommand
) -> Callable[[Callable[[Config], None]], RecipeCommand]:
    """Make the ``main`` of a recipe its command, named as its file; beside that, ``configs`` holds settings of spaces.

    Args:
        config: What it is told, as the command line and YAML say it: a dataclass, see ``fields``.
        command: Kind of the command.
    """

    def make(main: Callable[[Config], None]) -> RecipeCommand:
        def callback(**values: Any) -> None:
            main(build(config, values))

        file = Path(main.__code__.co_filename)
        return command(file.stem, callback=callback, config=config, help=main.__doc__, configs=file.parent / "configs")

    return make


def resolved(ctx: click.Context) -> dict[str, Any]:
    """The settings of a run as plain JSON, in the order of the recipe's options."""
    names = [param.name for param in ctx.command.get_params(ctx) if param.name in ctx.params]
    return {str(name): plain(ctx.params[str(name)]) for name in names}


def save_settings(folder: Path, settings: Mapping[str, Any], recipe: str | None = None) -> Path:
    """Write ``settings.yaml``; with the recipe's name as its section, so that ``--config`` reads it. Main process only.

    Raises:
        ArtifactError: If it cannot be written.
    """
    content = {recipe: dict(settings)} if recipe else dict(settings)
    target = folder / "settings.yaml"
    write_file(target, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return target


def training_record(recipe: str, config: Any) -> dict[str, Any]:
    """What an artifact's record says of how it was trained: what a resumed run must repeat, without ``PLACES``.

    Args:
        recipe: Name of the recipe.
        config: Its configuration.
    """
    settings = flat(config, repeated=True)
    return {"recipe": recipe, **{name: value for name, value in settings.items() if name not in PLACES}}


def _section(file: Path, name: str, required: bool, mistakes: list[str]) -> dict[str, Any]:
    """The recipe's part of a YAML file; what is wrong with the file goes to ``mistakes``."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        mistakes.append(f"{file}: {error.strerror}, name a YAML file")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        mistakes.append(f"{file} is not valid YAML" + (f", see line {line + 1}" if line is not None else ""))
    else:
        if not isinstance(content, dict):
            mistakes.append(f"{file} does not hold a mapping, write `{name}:` and below it `option: value`")
        elif name not in content and required:
            mistakes.append(f"{file} has no section {name}, it has {', '.join(map(str, content)) or 'none'}")
        elif not isinstance(section := content.get(name) or {}, dict):
            mistakes.append(f"{file}: {name} is not a mapping, write `option: value` below it")
        else:
            return dict(section)
    return {}


def _takes_list(option: click.Parameter) -> bool:
    return option.nargs != 1 or option.multiple
