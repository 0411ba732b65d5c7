"""What the training of a generator consists of, beside its step: targets, how it follows them, and the artifact."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from scipy.stats import kendalltau

from sgnas_zoo.costs import BUDGETS, COSTS, Conditions, CostTable, native_conditions
from sgnas_zoo.errors import BudgetError, ZooError
from sgnas_zoo.files import read_config, write_json
from sgnas_zoo.folders import among_others
from sgnas_zoo.hub.artifacts import CONFIG, Artifact
from sgnas_zoo.hub.cards import EVALUATION, write_card
from sgnas_zoo.hub.generators import save_generator
from sgnas_zoo.hub.supernets import TrainedSupernet
from sgnas_zoo.search.generator import ArchGenerator
from sgnas_zoo.search.relaxation import log_probs
from sgnas_zoo.spaces import SPACES, Arch
from sgnas_zoo.supernet import Supernet
from sgnas_zoo.training.options import RecipeCommand

SPAN = 180
"""Millions between the paper's lowest and highest target: the unit of its constraint loss, as a share of the range."""
MARGIN = 0.05
"""Share of the space's range left out at either end by default: there, few architectures are left to choose from."""


class SupernetCommand(RecipeCommand):
    """Takes the space, and with it the defaults, from the supernet."""

    def space(self, given: Mapping[str, Any], chosen: Mapping[str, Any]) -> Any:
        """The supernet's space; None where it cannot be read, which the recipe then reports."""
        try:
            artifact = Artifact(str(given.get("supernet") or chosen.get("supernet") or ""))
            space = read_config(artifact.file(CONFIG)).get("space")
            return space if isinstance(space, str) and space in SPACES else None
        except ZooError:
            return None


def costs(supernet: Supernet) -> tuple[CostTable, Conditions]:
    """Costs of what the budgets of its space are about, as it is searched, and the conditions they hold for."""
    space = supernet.space
    conditions = native_conditions(space, form="search", num_classes=supernet.num_classes)
    return COSTS[BUDGETS[space.budget].cost].table(space, conditions), conditions


def target_range(table: CostTable, low: float | None, high: float | None) -> tuple[float, float]:
    """Lowest and highest target; by default nearly all of what the space can cost."""
    margin = MARGIN * (table.maximum - table.minimum)
    low, high = low or table.minimum + margin, high or table.maximum - margin
    if not table.minimum <= low < high <= table.maximum:
        raise BudgetError(
            f"Targets from {low:,.0f} to {high:,.0f} {table.unit} do not fit {table.space.name}; "
            f"stay between {table.minimum:,.0f} and {table.maximum:,.0f}."
        )
    return low, high


def draw_prior(table: CostTable, middle: float, seed: int) -> Arch:
    """The random architecture nearest to the middle of the range (released code: within a million of it)."""
    rng = random.Random(f"prior/{seed}")
    return min((table.space.sample(rng) for _ in range(2000)), key=lambda arch: abs(table.measure(arch) - middle))


def draw_target(cost_range: tuple[float, float], number: int, seed: int, step: int) -> tuple[float, torch.Generator]:
    """The target of a step, and what draws its noise: each cycle goes through all targets, in an order of its own."""
    low, high = cost_range
    gap = (high - low) / (number - 1)
    order = random.Random(f"{seed}/{step // number}").sample(range(number), number)
    rng = random.Random(f"{seed}/{step}")
    target = low + gap * (order[step % number] + rng.uniform(-0.1, 0.1))
    return min(max(target, low), high), torch.Generator().manual_seed(rng.getrandbits(63))


@torch.no_grad()
def follows(generator: ArchGenerator, table: CostTable) -> dict[str, float]:
    """How arg-max follows the targets: mean distance in percent, and rank correlation (constraint check, released)."""
    low, high = generator.cost_range
    wanted = torch.linspace(low, high, 19, dtype=torch.float64)
    picks = log_probs(table.space, generator(wanted)).argmax(-1).tolist()
    costs = [table.measure(table.space.arch(pick)) for pick in picks]
    distance = sum(abs(cost / target - 1) for cost, target in zip(costs, wanted.tolist(), strict=True)) / len(costs)
    tau = 0.0 if len(set(costs)) == 1 else float(kendalltau(wanted.tolist(), costs).statistic)
    return {"distance_percent": 100 * distance, "kendall_tau": tau}


def save(
    generator: ArchGenerator, table: CostTable, supernet: TrainedSupernet, training: Mapping[str, Any], output: Path
) -> None:  # fmt: skip
    """Save a generator that is trained, beside what is in the folder of its run.

    Args:
        generator: In full precision.
        table: Of the cost of its budgets.
        supernet: That it was trained on.
        training: How, for the record.
        output: Folder of the run.

    Raises:
        ArtifactError: If it cannot be written.
    """
    evaluation = {
        "origin": f"Trained by recipes/train_generator.py on a supernet of {table.space.name}.",
        "supernet": supernet.source and supernet.source.named(),
        "training": dict(training),
        "follows": follows(generator, table),
    }
    with among_others(output) as folder:
        save_generator(generator, folder)
        write_json(folder / EVALUATION, evaluation)
        write_card(folder, name=output.resolve().name)
