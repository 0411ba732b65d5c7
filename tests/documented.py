"""The code blocks of README and docs; run as a script, it runs those of one page and prints what became of them.

    python documented.py PAGE [REASON]

Python blocks of a page share one namespace, in order; one whose first line is ``# NAME.py`` is written to that file and
imported. Commands are called in this process. All happens in the working directory. Blocks that are "not run" for this
reason are run, too.
"""

from __future__ import annotations

import argparse
import contextlib
import doctest
import importlib
import importlib.util
import io
import json
import os
import re
import shlex
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import click
from click.testing import CliRunner

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")))
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the number of its first line, its text, why it is not run, and what it prints."""

    language: str
    line: int
    text: str
    not_run: str | None = None
    prints: str | None = None

    @property
    def runs(self):
        return self.not_run is None and self.language in ("python", "console")

    @property
    def commands(self):
        """Commands of a console block, each as its words, with what is shown below it or None."""
        found = []
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append((shlex.split(command, comments=True), shown.rstrip("\n") or None))
        return found


def blocks(text):
    """The fenced blocks of a page, in order."""
    found, lines, at = [], text.splitlines(), 0
    while at < len(lines):
        if not (fence := re.fullmatch(r"```(\w*)", lines[at])):
            at += 1
            continue
        end = lines.index("```", at + 1)
        reason = NOT_RUN.fullmatch(lines[at - 1]) if at else None
        after = end + 1
        while after < len(lines) and not lines[after].strip():
            after += 1
        prints = None
        if fence[1] == "python" and after < len(lines) and lines[after] == "```text":
            prints = "\n".join(lines[after + 1 : lines.index("```", after + 1)])
        content = "\n".join(lines[at + 1 : end]) + "\n"
        found.append(Block(fence[1], at + 2, content, reason and reason[1], prints))
        at = end + 1
    return found


def inline_commands(text):
    """Commands between backticks in the text of a page."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    starts = r"sgnas-zoo|accelerate launch|torchrun|python recipes/\w+\.py"
    return [shlex.split(command.replace("\\|", "|")) for command in re.findall(rf"`((?:{starts}) [^`]+)`", outside)]


def same(shown, printed):
    """Whether a page shows what is printed: white space may differ, and ``...`` is anything."""
    return doctest.OutputChecker().check_output(f"{shown}\n", f"{printed.strip()}\n", SAME)


# --- Reading commands without running them


def load_recipe(name):
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", ROOT / "recipes" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def program(words):
    """The click command that a command line calls, and its arguments; None for what is not ours.

    Raises:
        ValueError: If a launcher or ``pip`` is told what it does not know.
    """
    from sgnas_zoo.cli.main import main

    if words[0] == "sgnas-zoo":
        if words[1] not in main.commands:
            raise ValueError(f"no command {words[1]}")
        return main.commands[words[1]], words[2:]
    if words[:2] == ["accelerate", "launch"]:
        from accelerate.commands.launch import launch_command_parser

        words = ["python", *launched(launch_command_parser(), words[2:])]
    if words[0] == "torchrun":
        from torch.distributed.run import get_args_parser

        words = ["python", *launched(get_args_parser(), words[1:])]
    if words[0] == "python" and words[1].startswith("recipes/"):
        return load_recipe(Path(words[1]).stem), words[2:]
    if words[:2] == ["pip", "install"]:
        extras = (
            (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
        )
        asked = {extra for word in words for extra in re.findall(r"\[(.*)\]", word)}
        if unknown := {name for extra in asked for name in extra.split(",")} - {
            *re.findall(r"^([\w-]+) = ", extras, re.M)
        }:
            raise ValueError(f"no extras {unknown}")
    return None


def launched(parser: argparse.ArgumentParser, words):
    """The script that a launcher starts, and its arguments."""
    known = io.StringIO()
    try:
        with contextlib.redirect_stderr(known):
            found = parser.parse_args(words)
    except SystemExit:
        raise ValueError(known.getvalue()) from None
    return [found.training_script, *found.training_script_args]


def wrong(words, whole=True):
    """What is wrong with a command line: an option that is not there, a value or an option that is missing; or None.

    Args:
        words: The command line.
        whole: Whether all that is required has to be there.
    """
    try:
        found = None if words[1] == "--help" else program(words)
        if found is None:
            return None
        command, args = found
        context = click.Context(command)
        values, _, _ = command.make_parser(context).parse_args(list(args))
        for param in command.get_params(context):
            value = values.get(param.name)
            absent = value is None or value == () or type(value).__name__ == "Sentinel"
            if absent and param.required and whole:
                return f"{param.name} is missing"
            if not absent and isinstance(param.type, click.Choice | click.IntRange | click.FloatRange):
                param.type_cast_value(context, value)
    except (ValueError, click.UsageError) as error:
        return getattr(error, "message", str(error))
    return None


# --- Running a page


def call(words):
    """Call a command in this process; gives exit code and what it printed."""
    command, args = program(words)
    if words[0] == "sgnas-zoo":
        from sgnas_zoo.cli.main import main

        command, args = main, words[1:]
    else:
        from accelerate.state import AcceleratorState, GradientState, PartialState

        for state in (AcceleratorState, PartialState):
            state._reset_state(*([True] if state is AcceleratorState else []))
        GradientState._reset_state()
    result = CliRunner().invoke(command, args)
    if result.exception and not isinstance(result.exception, SystemExit):
        return 1, "".join(traceback.format_exception(result.exception))
    return result.exit_code, result.output


def run_python(block, names):
    """Run a block of Python; gives whether it went well and what it printed."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            if file := re.match(r"# (\w+)\.py\n", block.text):
                Path(f"{file[1]}.py").write_text(block.text)
                importlib.import_module(file[1])
            else:
                exec(compile(block.text, f"line {block.line}", "exec"), names)
    except Exception:
        return False, said.getvalue() + traceback.format_exc()
    return True, said.getvalue()


def run_page(text, reason=None):
    """Run what a page shows; gives the number of blocks that ran, and the lines that say what went wrong.

    Args:
        text: The page.
        reason: Blocks that are not run for this reason are run, too.
    """
    count, mistakes, names = 0, [], {"__name__": "page"}
    sys.path.insert(0, os.getcwd())
    for block in blocks(text):
        if not (block.runs or (reason and block.not_run == reason)):
            continue
        count += 1
        if block.language == "python":
            well, said = run_python(block, names)
            if not well:
                mistakes.append(f"line {block.line} fails: {said}")
            elif block.prints is not None and not same(block.prints, said):
                mistakes.append(f"line {block.line} prints:\n{said}")
            continue
        for words, shown in block.commands:
            code, said = call(words)
            if code:
                mistakes.append(f"line {block.line}: {shlex.join(words)} fails: {said}")
            elif shown is not None and not same(shown, said):
                mistakes.append(f"line {block.line}: {shlex.join(words)} prints:\n{said}")
    return count, mistakes


if __name__ == "__main__":
    ran, wrongs = run_page(Path(sys.argv[1]).read_text(encoding="utf-8"), *sys.argv[2:])
    print(json.dumps({"ran": ran, "mistakes": wrongs}))
