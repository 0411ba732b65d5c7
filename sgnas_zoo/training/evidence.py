"""What a supernet and its generator are measured against: random networks, and networks trained from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sgnas_zoo.costs import CostTable
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import read_config
from sgnas_zoo.hub.artifacts import CONFIG
from sgnas_zoo.hub.cards.text import Fields
from sgnas_zoo.search.bounds import Bound
from sgnas_zoo.search.decode import decode
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.spaces import Arch
from sgnas_zoo.training.runs import METRICS


def random_archs(table: CostTable, most: float, count: int, seed: int) -> list[Arch]:
    """Random architectures that spend a budget as generated ones do: random logits, decoded under it."""
    noise = torch.Generator().manual_seed(seed * 1_000_003 + round(most))
    scores = log_probs(table.space, torch.randn(count, *table.space.shape, generator=noise)).double().numpy()
    return [answer.arch for answer in decode(scores, [Bound(table, most)])] if count else []


def read_retrained(folder: Path, space: str) -> dict[str, Any]:
    """Architecture and top-1 of a network that retrain.py trained."""
    config, metrics = (Fields(read_config(folder / name), f"{folder / name}") for name in (CONFIG, METRICS))
    stated = config.part("model_args")
    if stated.text("space") != space:
        raise ArtifactError(f"{folder} holds a network of {stated.text('space')}, not {space}; name others.")
    arch, top1 = stated.text("arch"), metrics.number("top1", most=100)
    if arch is None or top1 is None:
        raise ArtifactError(f"{folder} tells no architecture or no top-1; name a folder that retrain.py filled.")
    return {"arch": arch, "top1": top1, "epochs": metrics.number("epochs")}
