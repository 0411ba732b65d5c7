"""Where things lie that tests read."""

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
RECIPES = ROOT / "recipes"
DATA = TESTS / "data"
REFERENCE = DATA / "reference"
"""Vectors of the released codes, see its README."""
SHARED = ROOT.parent / "shared"
"""What lies beside the repository on some machines only."""
