"""Execute the notebooks of the documentation and write the pages that show them, with their outputs and pictures.

    python docs/render_notebooks.py [NAME...]

A notebook is `docs/notebooks/NAME.py`, in jupytext's percent format. Its page is `docs/notebooks/NAME.md`; its pictures
lie in `docs/notebooks/NAME_files`. Without a name, all notebooks are rendered.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import jupytext
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

FOLDER = Path(__file__).parent / "notebooks"
VARIES = "varies"
"""Tag of cells whose output is another one on every machine."""


def execute(source: Path) -> Any:
    """Run a notebook in a kernel of its own, in the folder of its source; gives it with its outputs."""
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # else a random one
    place = {"metadata": {"path": str(source.parent)}}
    client = NotebookClient(notebook, timeout=1200, kernel_name="python3", resources=place, coalesce_streams=True)
    return client.execute()


def render(notebook: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """The page of a notebook, without bars and warnings (stderr), and its pictures by their path beside it."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    resources = {"unique_key": name, "output_files_dir": f"{name}_files"}
    page, made = MarkdownExporter().from_notebook_node(notebook, resources)
    return page.strip() + "\n", made["outputs"]


def write(name: str) -> None:
    """Replace the page and the pictures of a notebook."""
    page, pictures = render(execute(FOLDER / f"{name}.py"), name)
    shutil.rmtree(FOLDER / f"{name}_files", ignore_errors=True)
    for path, content in {**pictures, f"{name}.md": page.encode()}.items():
        (FOLDER / path).parent.mkdir(exist_ok=True)
        (FOLDER / path).write_bytes(content)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.py")):
        write(chosen)
