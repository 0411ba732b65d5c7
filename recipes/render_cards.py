"""Render the cards in ``hub_cards/`` from the artifacts as they are now.

    python recipes/render_cards.py

What: measures the default generator against the published answers and over its range, and writes its card and those of
    the other artifacts in the package and in ``hub_cards/``, which hold what was measured of them, and the pages of
    comparisons of search strategies from their records (``comparison.json``). Plots of fronts are drawn from the same
    records, and so is the picture of README. A test renders cards and pages again and compares, so that no figure is
    typed.
Hardware: any CPU, seconds.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports, which take seconds
    from sgnas_zoo.stopping import end_on_signals

    end_on_signals()

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from sgnas_zoo.api.create import generate
from sgnas_zoo.cli.compare import PAGE, PLOT, RESULT
from sgnas_zoo.costs import BUDGETS, COSTS
from sgnas_zoo.files import read_config, write_file, write_json, write_whole
from sgnas_zoo.hub.artifacts import CONFIG
from sgnas_zoo.hub.cards import CURVES, EVALUATION, PLOTS, card_files
from sgnas_zoo.hub.generators import default_generator
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.training.evidence import binomial_error, plot_evidence
from sgnas_zoo.training.plots import Panel, Series, plot_panels
from sgnas_zoo.training.searching.report import plot_comparison, report
from sgnas_zoo.zoo import ARTIFACTS

HERE = Path(__file__).parent
HUB_CARDS = HERE.parent / "hub_cards"
FOLDER = ARTIFACTS / "sgnas_imagenet_generator"
ORIGIN = (
    "No trained ImageNet supernet of SGNAS is public, so this generator never saw an image: it was trained by "
    "recipes/distill_generator.py on the 180 architectures that the published generator answers for 270 to 449 "
    "million convolution MACs, each relabelled with its own exact MACs, and on the constraint loss of the paper over "
    "the whole range of the space. It comes with the package, as the generator that sgnas_zoo.generate and "
    "create_model use where none is named."
)
PICTURE = HERE.parent / "docs" / "front.png"
PICTURED = "sgnas_micro_supernet"
CHOSEN = (1, 5, 9)
"""Which networks of that record README's picture shows as generated for a budget."""
COVERED = "277 to 441 million convolution MACs without squeeze-and-excitation"


@dataclass(frozen=True)
class Agreement:
    """In how many slots, and in how many whole architectures, arg-max agrees with the published answers."""

    agreeing: int
    compared: int
    whole: int
    architectures: int

    @property
    def slots(self) -> float:
        """Share of slots that agree."""
        return self.agreeing / self.compared


def agreement() -> Agreement:
    """Compare the arg-max of the embedded generator with the published answers."""
    generator = default_generator("sgnas_imagenet")
    space = generator.space
    answers = json.loads((HERE / "data" / "sgnas_imagenet_answers.json").read_text())["answers"].values()
    archs = [space.parse(text) for text in answers]
    table = COSTS["macs"].table(space, generator.conditions)
    logits = generator.logits(flops=[table.measure(arch) for arch in archs])
    agree = log_probs(space, logits).argmax(-1) == torch.tensor([arch.picks for arch in archs])
    return Agreement(int(agree.sum()), agree.numel(), int(agree.flatten(1).all(1).sum()), len(archs))


def rows() -> list[dict[str, int]]:
    """Requested and generated MACs over the range of the space: what arg-max makes of it, and what decoding does."""
    generator = default_generator("sgnas_imagenet")
    targets = [1_000_000 * millions for millions in range(100, 551, 25)]
    table = COSTS["macs"].table(generator.space, generator.conditions)
    picks = log_probs(generator.space, generator.logits(flops=targets)).argmax(-1).tolist()
    decoded = generate(flops=targets)
    argmax = [round(table.measure(generator.space.arch(pick))) for pick in picks]
    return [
        {"target": target, "argmax": macs, "decoded": answer.macs}
        for target, macs, answer in zip(targets, argmax, decoded, strict=True)
    ]


def evaluation() -> dict[str, Any]:
    """What is measured of the embedded generator, beside how it was trained."""
    recorded = read_config(FOLDER / EVALUATION) if (FOLDER / EVALUATION).exists() else {}
    kept = {"training": recorded["training"]} if "training" in recorded else {}
    return {"origin": ORIGIN, "covered": COVERED, **kept, "agreement": asdict(agreement()), "rows": rows()}


def comparisons() -> dict[str, bytes]:
    """Every comparison of search strategies, by path under ``hub_cards``: its record, its plot and their page."""
    files: dict[str, bytes] = {}
    for record in sorted(HUB_CARDS.glob(f"*/{RESULT}")):
        pages = {RESULT: record.read_bytes(), PLOT: record.with_name(PLOT).read_bytes()}
        pages[PAGE] = report(json.loads(pages[RESULT])).encode()
        files |= {f"{record.parent.name}/{name}": content for name, content in pages.items()}
    return files


def render() -> dict[str, bytes]:
    """Every reviewed card with its plots, by path under ``hub_cards``; the default generator is measured for it now."""
    files = comparisons()
    for folder in sorted(config.parent for place in (ARTIFACTS, HUB_CARDS) for config in place.glob(f"*/{CONFIG}")):
        with TemporaryDirectory() as name:
            copy = Path(shutil.copytree(folder, Path(name) / folder.name))
            if folder == FOLDER:
                write_json(copy / EVALUATION, evaluation())
            files |= {f"{folder.name}/{path}": part for path, part in card_files(copy, name=folder.name).items()}
        files |= {
            f"{folder.name}/{plot}": (folder / plot).read_bytes()
            for plot in (*PLOTS, CURVES)
            if (folder / plot).is_file()
        }
    return files


def draw_picture(path: Path, evidence: Mapping[str, Any]) -> None:
    """Draw README's picture: three generated networks, the line of all that were generated, and random ones."""
    rows, images = evidence["budgets"], evidence["dataset"]["rows"]
    points = [(row["achieved"] / 1e6, row["top1"]) for row in rows]
    three = [points[number] for number in CHOSEN]
    found = [(row["requested"] / 1e6, top1) for row in rows for top1 in row["random_top1"]]
    series = {
        "three generated networks": Series(three, [binomial_error(top1, images) for _, top1 in three]),
        "random networks of as many MACs": Series(found),
        f"all {len(rows)} generated networks": Series(points, line="straight", marked=False),
    }
    budgets = [rows[number]["requested"] / 1e6 for number in CHOSEN]
    y = "top-1 on the CIFAR-10 test images with inherited weights, % (± standard error)"
    plot_panels(path, [Panel("million MACs", y, series, budgets, title="sgnas_micro: networks for three budgets")])


def draw() -> None:
    """Draw README's picture and the plots of supernets and comparisons anew from their records."""
    draw_picture(PICTURE, read_config(ARTIFACTS / PICTURED / EVALUATION))
    for record in sorted(ARTIFACTS.glob(f"*/{EVALUATION}")):
        evidence, config = read_config(record), read_config(record.with_name(CONFIG))
        if "budgets" in evidence:
            plot_evidence(record.parent, evidence, BUDGETS[SPACES[config["space"]].budget])
    for record in sorted(HUB_CARDS.glob(f"*/{RESULT}")):
        plot_comparison(record.with_name(PLOT), json.loads(record.read_bytes()))


if __name__ == "__main__":
    write_whole(FOLDER / EVALUATION, evaluation())
    draw()
    for path, content in render().items():
        for place in (HUB_CARDS / path, ARTIFACTS / path):
            if place.parent.is_dir() or place.is_relative_to(HUB_CARDS):  # comparisons are not artifacts
                write_file(place, content)
        print(f"Wrote {path}")
