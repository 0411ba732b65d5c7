"""What surrounds the package says the same as the package does."""

import re

from places import ROOT


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_continuous_integration_does_what_ci_run_does():
    workflow = read(".github/workflows/ci.yml")
    commands = re.findall(r"- run: (.*)", workflow)
    assert commands == [".ci/run", ".ci/run --fast"]
    oldest = re.search(r'requires-python = ">=(3\.\d+)"', read("pyproject.toml"))[1]
    assert re.search(r"python: \[(.*)\]", workflow)[1].split(", ")[0] == f'"{oldest}"'


def test_hooks_run_the_commands_of_ci_run():
    entries = re.findall(r"entry: (.*)", read(".pre-commit-config.yaml"))
    assert [entry.replace(" --force-exclude", "") for entry in entries] == ["ruff check", "ruff format", "mypy"]
    lines = read(".ci/run").splitlines()
    assert {"ruff check .", "ruff format --check .", "mypy"} <= set(lines)
    assert any(line.startswith("pip install '.[docs]' && mkdocs build --strict") for line in lines)


def test_the_changelog_is_grouped():
    kinds = re.findall(r"^### (.*)$", read("CHANGELOG.md"), re.MULTILINE)
    assert kinds == ["Added", "Changed", "Fixed"]


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r": ([\w-]+\.md)$", read("mkdocs.yml"), re.MULTILINE))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert len(pages) > 12
    assert listed == pages | {"CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
