"""What is killed and resumed ends as what never was: real processes, at moments drawn from a seed.

Each command runs once without a pause; then again and again, killed at a random moment after its first checkpoint (a
search: after its first score; a comparison: after its first row) and resumed. Half of the moments are file operations,
the others seconds of CPU time, so that a busy machine moves none. RESUME_MOMENTS=20 is the full proof, half an hour of
one core: so many moments for each command, with decoding workers and without; by default there are two.
"""

import json
import os
import random
import signal
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from forking import RECIPES, Ended, Forks, Moment

MOMENTS = int(os.environ.get("RESUME_MOMENTS", "2"))
COMMANDS = (*RECIPES, "search", "compare")
SAVED = {"search": "evaluations.jsonl", "compare": "comparison.json"}
TIMES = ("seconds", "hours", "preparation")
"""Words in the names of what no two runs have in common."""
DRAWS = 5
"""Moments that may come too late before one has to come in time."""

pytestmark = pytest.mark.slow


class Whole(NamedTuple):
    """A run without a pause: its answer, its files, and file operations and CPU seconds since something was saved."""

    answer: dict[str, Any]
    files: list[str]
    operations: int
    cpu: float


class Lab:
    """Runs the commands on tiny data."""

    def __init__(self, forks: Forks, folder: Path, made: Path, photos: Path) -> None:
        self.forks, self.folder, self.wholes = forks, folder, {}
        train = ["--dataset", photos, "--seed", 3, "--epochs", 2, "--checkpoint-minutes", 0]
        some = [*train, "--batch-size", 8, "--holdout", 0.25]
        scores = ["--supernet", made / "supernet", "--dataset", photos, "--population", 4, "--generations", 2]
        arch = "53-35-573-33-55-73-353-35"
        self.arguments = {
            "train_supernet": [*some, "--space", "sgnas_micro", "--resolution", 16, "--eval-images", 8],
            "train_generator": [*train, "--batch-size", 2, "--supernet", made / "supernet"],
            "retrain": [*some, "--space", "sgnas_micro", "--arch", arch, "--resolution", 8, "--drop-rate", 0.3],
            "finetune": [*some, "--model", f"local-dir:{made / 'model'}", "--drop-rate", 0.3, "--ema-decay", 0.9],
            "search": [*scores, "--flops", "4M"],
            "compare": [*scores, "--space", "sgnas_micro", "--generator", made / "generator", "--images", 3,
                        "--strategies", "evolution,random,generator", "--budgets", "3M,4M"],
        }  # fmt: skip

    def run(self, name: str, workers: int, output: Path, resume: bool = False, moment: Moment | None = None) -> Ended:
        more = () if not resume else ("--resume", "auto") if name in RECIPES else ("--resume",)
        saved = SAVED.get(name, "checkpoints/step-*/manifest.json")
        arguments = (*self.arguments[name], "--workers", workers, "--output", output, *more)
        return self.forks.run(name, *arguments, saved=saved, moment=moment)

    def whole(self, name: str) -> Whole:
        if name not in self.wholes:
            output = self.folder / f"{name}-whole"
            ended = self.run(name, 0, output)
            assert ended.code == 0, ended.err
            self.wholes[name] = Whole(answer(output), files(output), *ended.counted)
        return self.wholes[name]


@pytest.fixture(scope="module")
def lab(tmp_path_factory, made, photos):
    with Forks(tmp_path_factory.mktemp("forks")) as forks:
        yield Lab(forks, tmp_path_factory.mktemp("runs"), made, photos)


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def timeless(value: Any) -> Any:
    if isinstance(value, list):
        return [timeless(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: timeless(item) for key, item in value.items() if not any(word in key for word in TIMES)}


def answer(folder: Path) -> dict[str, Any]:
    """Bytes of the weights, the scores, and all that is told of both but times; of checkpoints only weights."""
    found: dict[str, Any] = {}
    for name in files(folder):
        if name.endswith(".safetensors"):
            found[name] = (folder / name).read_bytes()
        elif name.endswith(".jsonl"):
            found[name] = [timeless(json.loads(line)) for line in (folder / name).read_text().splitlines()]
        elif name.endswith(".json") and not name.startswith("checkpoints/"):
            found[name] = timeless(json.loads((folder / name).read_text()))
    return found


def assert_same(output: Path, whole: Whole) -> None:
    assert files(output) == whole.files
    found = answer(output)
    assert [name for name in found if found[name] != whole.answer[name]] == []


def drawn(whole: Whole, seed: str, by_cpu: bool) -> Iterator[Moment]:
    """Moments without end; one of CPU time may come too late to be any."""
    rng = random.Random(seed)
    while True:
        if by_cpu:
            yield Moment(cpu=rng.uniform(0.001, 0.9 * whole.cpu))
        else:
            yield Moment(operation=rng.randint(1, whole.operations))


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", range(MOMENTS))
def test_killed_at_any_moment_and_resumed_it_ends_the_same(lab, tmp_path, name, workers, number):
    whole = lab.whole(name)
    for draw, moment in enumerate(islice(drawn(whole, f"{name} {workers} {number}", number % 2 == 1), DRAWS)):
        output = tmp_path / str(draw)
        killed = lab.run(name, workers, output, moment=moment)
        print(name, workers, moment, killed.code, flush=True)
        assert killed.code in (0, -signal.SIGKILL), killed.err
        assert lab.forks.left() == []
        if killed.code == 0:  # too late
            assert_same(output, whole)
            continue
        resumed = lab.run(name, workers, output, resume=True)
        assert resumed.code == 0, resumed.err
        assert_same(output, whole)
        return
    pytest.fail("no moment came before the end")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_to_the_whole_group_ends_it_in_one_line_and_it_goes_on(lab, tmp_path, name, number):
    whole, output = lab.whole(name), tmp_path / "run"
    ended = lab.run(name, 2, output, moment=Moment(operation=whole.operations // 2, number=number, group=True))
    saves = name in RECIPES and number == signal.SIGTERM
    advice = "--resume auto" if name in RECIPES else "--resume"
    assert ended.code == (0 if saves else 128 + number), ended.err
    said = [line for line in ended.err.splitlines() if "Stopped by" in line]
    assert len(said) == 1
    assert said[0].startswith(f"Stopped by {number.name}")
    assert said[0].endswith(f"go on with {advice}.")
    assert "Traceback" not in ended.err
    assert [name for name in files(output) if "/." in f"/{name}" or "partial" in name] == []
    assert lab.forks.left() == []
    resumed = lab.run(name, 2, output, resume=True)
    assert resumed.code == 0, resumed.err
    assert_same(output, whole)
