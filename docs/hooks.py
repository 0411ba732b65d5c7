"""MkDocs hooks: pages that lie outside docs/ become pages of the site, and links to them stay valid in both places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
SHOWN = (".md", ".png", ".svg", ".json")
"""What the site has of the folders in hub_cards/; weights stay where they are."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages at the root and the cards."""
    cards = [path for path in sorted((ROOT / "hub_cards").rglob("*")) if path.suffix in SHOWN]
    for path in [*(ROOT / name for name in PAGES), *cards]:
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point ``../hub_cards/...`` and ``docs/...`` to where the site has them."""
    return re.sub(r"\]\((\.\./(?=hub_cards|[A-Z]+\.md)|docs/)", "](", markdown)
