"""The notebooks of the documentation run, and their pages show the cells and what those print."""

import re

import jupytext
import pytest
from places import ROOT
from test_docs import load

from sgnas_zoo import extras

RENDER = load(ROOT / "docs" / "render_notebooks.py")
NAMES = ("budget", "images", "truth")


def read(name):
    """A notebook and its page."""
    return jupytext.read(RENDER.FOLDER / f"{name}.py"), (RENDER.FOLDER / f"{name}.md").read_text(encoding="utf-8")


def shown(notebook, page):
    """What a page shows below each cell of its notebook, white space aside.

    Raises:
        ValueError: If it lacks a cell, or shows them in another order.
    """
    places, at = [], 0
    for cell in notebook.cells:
        text = cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```"
        start = page.index(text, at)
        at = start + len(text)
        places.append((start, at))
    ends = [*(start for start, _ in places[1:]), len(page)]
    return [page[: places[0][0]].split(), *(page[at:end].split() for (_, at), end in zip(places, ends, strict=True))]


def strays(notebook, page):
    """What a page shows that is neither a cell nor printed by one: code, or text below text."""
    before, *below = shown(notebook, page)
    pairs = list(zip(notebook.cells, below, strict=True))
    code = [text for cell, text in pairs if cell.cell_type == "code" and "```python" in text]
    return [*filter(None, [before]), *code, *(text for cell, text in pairs if cell.cell_type == "markdown" and text)]


def untrue(notebook, page, fresh):
    """Cells whose output is another one on a page than on a fresh one; of those that vary, whether there is any."""
    found = []
    for cell, kept, made in zip(notebook.cells, shown(notebook, page)[1:], shown(notebook, fresh)[1:], strict=True):
        varies = RENDER.VARIES in cell.metadata.get("tags", ())
        if bool(kept) != bool(made) or (kept != made and not varies):
            found.append(f"{cell.source}\nprints\n{' '.join(made)}")
    return found


def test_every_notebook_has_a_page_that_is_in_the_navigation():
    assert {path.stem for path in RENDER.FOLDER.glob("*.py")} == {*NAMES}
    assert {path.stem for path in RENDER.FOLDER.glob("*.md")} == {*NAMES}
    listed = re.findall(r": notebooks/(\w+)\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert listed == [*NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_the_cells_of_its_notebook_and_its_pictures(name):
    notebook, page = read(name)
    assert sum(cell.cell_type == "code" for cell in notebook.cells) >= 7
    assert not strays(notebook, page)
    pictures = [*(RENDER.FOLDER / f"{name}_files").iterdir()]
    assert len(pictures) >= 2
    assert {f"{name}_files/{path.name}" for path in pictures} == {*re.findall(r"!\[.*?\]\((.*?)\)", page)}
    assert all(path.stat().st_size < 100_000 for path in pictures)
    assert str(ROOT) not in page
    assert "site-packages" not in page


def test_a_page_that_has_drifted_from_its_notebook_is_found():
    notebook, page = read("budget")
    for cell in notebook.cells:
        source, cell.source = cell.source, f"{cell.source} "
        with pytest.raises(ValueError, match="substring not found"):
            shown(notebook, page)
        cell.source = source
    assert strays(notebook, f"More.\n\n{page}")
    assert strays(notebook, f"{page}\nMore.\n")
    assert strays(notebook, page.replace("## The front", "```python\nnothing\n```\n\n## The front"))
    assert not untrue(notebook, page, page)
    assert len(untrue(notebook, page, page.replace("1.997", "1.998"))) == 1


@pytest.mark.parametrize("name", NAMES)
def test_without_matplotlib_a_notebook_says_in_one_line_what_to_install(monkeypatch, name):
    monkeypatch.setattr(extras, "find_spec", lambda package: None if package == "matplotlib" else object())
    first = next(cell for cell in read(name)[0].cells if cell.cell_type == "code")
    with pytest.raises(SystemExit) as end:
        exec(first.source, {})
    extra = "recipes,onnx" if name == "images" else "recipes"
    assert end.value.code == (
        f"This notebook needs matplotlib; install what is missing with: pip install 'sgnas-zoo[{extra}]'"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_prints_what_its_page_shows(monkeypatch, tmp_path, name):
    for variable in ("TMPDIR", "IPYTHONDIR", "XDG_CACHE_HOME", "HF_DATASETS_CACHE", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    for variable, value in {
        "PYTHONPATH": ROOT,
        "OMP_NUM_THREADS": 1,
        "HF_HUB_OFFLINE": 1,
        "ACCELERATE_USE_CPU": 1,
    }.items():
        monkeypatch.setenv(variable, str(value))
    monkeypatch.delenv("IMAGES", raising=False)
    before = sorted(RENDER.FOLDER.rglob("*"))
    done = RENDER.execute(RENDER.FOLDER / f"{name}.py")
    fresh, pictures = RENDER.render(done, name)
    notebook, page = read(name)
    assert not untrue(notebook, page, fresh)
    assert {*pictures} == {f"{name}_files/{path.name}" for path in (RENDER.FOLDER / f"{name}_files").iterdir()}
    assert sorted(RENDER.FOLDER.rglob("*")) == before
