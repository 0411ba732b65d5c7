"""Imports run one way: a part of the package imports those of lower layers, and itself."""

import ast
from pathlib import Path

import pytest

import sgnas_zoo

ROOT = Path(sgnas_zoo.__file__).parent
LAYERS = (
    {
        "errors",
        "registry",
        "units",
        "plain_json",
        "plain_torch",
        "locks",
        "folders",
        "files",
        "stopping",
        "terminal",
        "extras",
    },
    {"spaces"},
    {"costs"},
    {"models"},
    {"supernet", "search", "export"},
    {"measure", "zoo"},
    {"hub"},
    {"api"},
    {"integrations", "training"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
"""Parts of the package, from below. Those of one layer know nothing of each other; the lowest is small helpers."""
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}


def part_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[:2] == ("spaces", "kinds") and parts[-1] == "networks":
        return "supernet"  # the half of a kind of block that needs torch
    return parts[0]


def imported(tree, package):
    """Modules that a module of ``package`` (dotted) imports, inside functions too: as names without "sgnas_zoo."."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: -(node.level - 1) or None]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "sgnas_zoo" else [module]
        else:
            continue
        yield from (name.removeprefix("sgnas_zoo.") for name in names if name.startswith("sgnas_zoo."))


def offences(part, tree, package):
    for module in imported(tree, package):
        target = module.split(".")[0]
        if target == part or target == "__version__" or LAYER[part] == LAYER[target] == 0:
            continue
        if LAYER[target] >= LAYER[part]:
            yield f"{package}: {part} imports {target}"


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        if path != ROOT / "__init__.py":
            package = ".".join(("sgnas_zoo", *path.relative_to(ROOT).parent.parts))
            yield path, package, ast.parse(path.read_text(encoding="utf-8"))


def test_every_part_has_a_layer():
    found = {path.relative_to(ROOT).with_suffix("").parts[0] for path, _, _ in modules()}
    assert found == set(LAYER)


def test_imports_point_one_way():
    assert not [offence for path, package, tree in modules() for offence in offences(part_of(path), tree, package)]


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("search", "from sgnas_zoo.hub import artifacts"),
        ("search", "import sgnas_zoo.api.create"),
        ("search", "from sgnas_zoo import cli"),
        ("search", "from ..zoo import x"),
        ("search", "def f():\n    from sgnas_zoo.export.formats import y"),
        ("files", "from sgnas_zoo.spaces import SPACES"),
    ],
)
def test_an_import_the_other_way_is_noticed(part, source):
    assert [*offences(part, ast.parse(source), f"sgnas_zoo.{part}")]
