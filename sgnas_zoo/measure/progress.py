"""Progress of what takes a while, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tqdm import tqdm

Progress = Callable[[str, int, int], object]
"""Called with the name of a stage, how much of it is done, and how much there is."""


def silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def note(line: str) -> None:
    """Say a line on stderr; it stands apart from bars."""
    tqdm.write(line, file=sys.stderr)


@contextmanager
def bars() -> Iterator[Progress]:
    """A bar for each stage."""
    with ExitStack() as stack:
        shown: dict[str, tqdm[int]] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in shown:
                shown[stage] = stack.enter_context(tqdm(total=total, desc=stage, mininterval=0.5))
            shown[stage].update(done - shown[stage].n)
            if done == total:
                shown.pop(stage).close()  # a stage may come again

        yield progress
