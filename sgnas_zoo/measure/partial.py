"""Rounds of timing that are kept while a profile is measured, so that an interruption costs no more than a round."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from sgnas_zoo.costs.profile import Positive
from sgnas_zoo.files import write_file
from sgnas_zoo.measure.progress import note
from sgnas_zoo.measure.timing import Round
from sgnas_zoo.plain_json import checked, parse_json

KIND = "partial profile"


class _File(Struct):
    """What the file holds: a list for each round, with a time in milliseconds or null for each call."""

    artifact: str
    rounds: Annotated[list[list[Positive | None]], Meta(max_length=1000)]


class Partial:
    """A log of rounds in a file of the cache, which is written whole after every round.

    Args:
        path: The file. One that is there is gone on with; one that is damaged, or of other calls, is ignored with a
            line.
        every: For each call, the N of the N-th rounds that it is timed in.
    """

    def __init__(self, path: Path, every: Sequence[int]) -> None:
        self._path = path
        self.rounds: list[Round] = []
        if path.is_file():
            try:
                self.rounds = _read(path, every)
            except (OSError, ValueError, RecursionError):
                note(f"{path} is damaged and is ignored; all rounds are timed anew.")

    def add(self, times: Round) -> None:
        """Keep a round.

        Raises:
            ArtifactError: If the disk refuses.
        """
        self.rounds.append(times)
        write_file(self._path, json.dumps({"artifact": KIND, "rounds": self.rounds}))

    def remove(self) -> None:
        """Remove the file: the profile is complete."""
        self._path.unlink(missing_ok=True)


def _read(path: Path, every: Sequence[int]) -> list[Round]:
    """The rounds in a file.

    Raises:
        ValueError: If it is damaged, or of other calls.
    """
    file = checked(parse_json(path.read_bytes()), _File)
    wanted = [[number % own == 0 for own in every] for number in range(len(file.rounds))]
    if file.artifact != KIND or [[time is not None for time in times] for times in file.rounds] != wanted:
        raise ValueError("it is of other calls")
    return file.rounds
