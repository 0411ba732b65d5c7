"""Render the cards in ``hub_cards/`` from the artifacts as they are now.

    python recipes/render_cards.py

What: measures the embedded generator against the published answers and over its range, and writes its card. A test
    renders it again and compares, so that no figure is typed.
Hardware: any CPU, seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch

from sgnas_zoo.costs import COSTS
from sgnas_zoo.factory import generate
from sgnas_zoo.hub.cards import render_generator_card
from sgnas_zoo.hub.files import read_config
from sgnas_zoo.hub.generators import default_generator
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.zoo import embedded_generator

HERE = Path(__file__).parent
CARD = HERE.parent / "hub_cards" / "sgnas_imagenet_generator.md"
ORIGIN = (
    "No trained ImageNet supernet of SGNAS is public, so this generator never saw an image: it was trained by "
    "`recipes/distill_generator.py` on the 180 architectures that the published generator answers for 270 to 449 "
    "million convolution MACs, each relabelled with its own exact MACs, and on the constraint loss of the paper over "
    "the whole range of the space."
)


@dataclass(frozen=True)
class Row:
    """A target in millions of MACs, what arg-max makes of it, and what decoding does."""

    target: int
    argmax: float
    decoded: float


def agreement() -> SimpleNamespace:
    """Share of slots, and number of whole architectures, in which arg-max agrees with the published answers."""
    generator = default_generator("sgnas_imagenet")
    space = generator.space
    answers = json.loads((HERE / "data" / "sgnas_imagenet_answers.json").read_text())["answers"].values()
    archs = [space.parse(text) for text in answers]
    table = COSTS["macs"].table(space, generator.conditions)
    logits = generator.logits(flops=[table.measure(arch) for arch in archs])
    agree = log_probs(space, logits).argmax(-1) == torch.tensor([arch.picks for arch in archs])
    whole = int(agree.flatten(1).all(1).sum())
    return SimpleNamespace(
        slots=agree.float().mean().item(), whole=whole, number=len(archs), per_arch=space.shape[0] * space.shape[1]
    )


def rows() -> list[Row]:
    """Requested and generated costs over the range of the space."""
    generator = default_generator("sgnas_imagenet")
    targets = list(range(100, 551, 25))
    table = COSTS["macs"].table(generator.space, generator.conditions)
    picks = log_probs(generator.space, generator.logits(flops=[1e6 * t for t in targets])).argmax(-1).tolist()
    decoded = generate(flops=[1e6 * t for t in targets])
    argmax = [table.measure(generator.space.arch(p)) / 1e6 for p in picks]
    return [Row(t, a, d.macs / 1e6) for t, a, d in zip(targets, argmax, decoded, strict=True)]


def render() -> str:
    """The embedded generator's card."""
    folder = embedded_generator("sgnas_imagenet")
    if folder is None:
        raise SystemExit("There is no embedded generator; run recipes/distill_generator.py first.")
    config = read_config(folder / "config.json")
    covered = "277 to 441 million convolution MACs without squeeze-and-excitation"
    title = "The default generator of sgnas_imagenet"
    return render_generator_card(title, config, origin=ORIGIN, agreement=agreement(), rows=rows(), covered=covered)


def targets() -> list[Path]:
    """Where the card belongs: among the reviewed ones, and beside the artifact."""
    folder = embedded_generator("sgnas_imagenet")
    return [CARD, *([folder / "README.md"] if folder else [])]


if __name__ == "__main__":
    for path in targets():
        path.write_text(render(), encoding="utf-8")
        print(f"Wrote {path}")
