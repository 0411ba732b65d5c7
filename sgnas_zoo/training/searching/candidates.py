"""Scores of search candidates: held-out accuracy of inherited weights, each kept as soon as it is known."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from sgnas_zoo.errors import ArtifactError, DataError
from sgnas_zoo.files import append_line, write_file, writing
from sgnas_zoo.hub.supernets import TrainedSupernet
from sgnas_zoo.search.problem import Score
from sgnas_zoo.spaces import Arch, SearchSpace
from sgnas_zoo.training.data.loaders import check_classes
from sgnas_zoo.training.data.sources import LabelledImages, Source, load_images


def held_out_images(
    trained: TrainedSupernet, dataset: str | Source, limit: int | None = None, *, streaming: bool = False
) -> LabelledImages:
    """The images that were held out when a supernet was trained: what a search may look at, and a generator learn on.

    Args:
        trained: The supernet.
        dataset: Hub id or folder of its dataset, with columns if need be.
        limit: Only so many, drawn by the seed of its training.
        streaming: Read rows as they come.

    Raises:
        DataError: If nothing was held out, or the dataset cannot be opened or has other classes.
    """
    holdout = trained.dataset.get("holdout")
    if not holdout:
        raise DataError(
            "This supernet was trained on all images; train one with --holdout, to search or teach on what it holds."
        )
    source = Source.of(dataset, trained.dataset)
    images = load_images(
        source, "train", holdout=holdout, part="held", seed=trained.dataset["seed"], limit=limit, streaming=streaming
    )
    check_classes(images, trained.supernet.num_classes, "supernet")
    return images


class Evaluation(NamedTuple):
    """A score, and the seconds that it took."""

    score: float
    seconds: float


class EvaluationLog:
    """Scores in a file, one line each, so that a search that was killed goes on where it was.

    A search is a function of its seed and of the scores: begun again over the same file it takes the same way, and what
    it scored before is read instead.

    Args:
        path: JSON lines of ``arch``, ``top1`` and the ``seconds`` that it took.
        space: Space of the architectures.
        score: Scores what is not in the file.
        writes: Whether this process writes, as the main one does.
        total: How many scores to expect, for the progress bar.

    Raises:
        ArtifactError: If the file cannot be read, or holds something else.
    """

    def __init__(self, path: Path, space: SearchSpace, score: Score, *, writes: bool = True, total: int = 0) -> None:
        self._path, self._score, self._writes = path, score, writes
        self._known = read_evaluations(path, space, repair=writes)
        self._total, self._done = total, 0
        self.earlier = 0.0
        """Seconds that earlier runs took for the scores that were asked for and read from the file."""

    def __call__(self, archs: Sequence[Arch]) -> list[float]:
        """Scores of architectures."""
        ordered = sorted(archs, key=lambda arch: arch.picks)  # what begins alike is scored together
        bar = tqdm(ordered, "candidates", self._total, initial=self._done, disable=not self._writes, mininterval=1)
        for arch in bar:
            if arch in self._known:
                score, seconds = self._known[arch]
                self.earlier += seconds
                self._known[arch] = Evaluation(score, 0.0)  # counted
                continue
            started = time.monotonic()
            (score,) = self._score([arch])
            self._known[arch] = Evaluation(score, 0.0)
            if self._writes:
                line = {"arch": str(arch), "top1": score, "seconds": round(time.monotonic() - started, 3)}
                append_line(self._path, json.dumps(line))
        self._done += len(archs)
        return [self._known[arch].score for arch in archs]


def read_evaluations(path: Path, space: SearchSpace, *, repair: bool = False) -> dict[Arch, Evaluation]:
    """The scores in a file, and what they took, but for a last line that was cut off.

    Args:
        path: The file; it may not be there yet.
        space: Space of the architectures.
        repair: Drop such a line from the file, too.

    Raises:
        ArtifactError: If another line is not a score of an architecture of the space.
    """
    if not path.exists():
        return {}
    with writing(path, "choose another --output"):
        content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    scores = {}
    for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line.decode())
            scores[space.parse(row["arch"])] = Evaluation(float(row["top1"]), float(row.get("seconds", 0)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactError(
                f"Line {number} of {path} does not hold scores of {space.name}; choose another --output or remove it."
            ) from error
    if repair and whole != content:
        write_file(path, whole)
    return scores
