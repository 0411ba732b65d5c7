"""``ArchGenerator``: budgets in, logits over the slots of a search space out, in one forward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath

import torch
from torch import Tensor, nn

from sgnas_zoo.costs import COSTS, Conditions
from sgnas_zoo.errors import BudgetError
from sgnas_zoo.search.decode import SPEND
from sgnas_zoo.spaces import Arch, SearchSpace


@dataclass(frozen=True)
class GeneratorSource:
    """Where a generator came from: package, folder or repo, its commit if it has one, and its weights' digest."""

    id: str
    revision: str | None = None
    sha256: str | None = None

    def named(self) -> dict[str, str | None]:
        """As plain data for a record that others read: of a folder its name, not where it lies."""
        return {**asdict(self), "id": self.id if self.revision else PurePath(self.id).name}


class ArchGenerator(nn.Module):
    """The architecture generator of SGNAS (arXiv 2103.07289, section 3.3; layers as in the released code).

    A prior architecture and a target cost, both as images of layers x (slots * choices) pixels, pass through a head of
    3 x 3 convolutions each; their sum goes through a residual trunk to one logit per pixel. No batch norm, no biases
    but the last: 67,969 parameters at the published widths.

    It is batched over targets. The heads need not be: without biases, a ReLU network scales with a positive input, so
    the head of any target is a multiple of that of +1 or -1.

    Args:
        prior: The reference architecture; it also names the space.
        cost: Name of the cost that targets are stated in ("macs", "conv_macs", "params").
        conditions: What that cost is stated for.
        cost_range: Lowest and highest target of training; targets are scaled so that they become 0 and 1.
        width: Channels of all hidden convolutions.
        target_chs: Channels that the target is repeated over.
        spend: Least share of a budget on its cost that its answers spend, where the space has such ones. 0 for one that
            knows which network is best under a budget, also where that one costs less.
    """

    def __init__(
        self,
        prior: Arch,
        cost: str,
        conditions: Conditions,
        cost_range: tuple[float, float],
        width: int = 32,
        target_chs: int = 10,
        spend: float = SPEND,
    ) -> None:
        super().__init__()
        self.prior = prior
        self.cost = cost
        self.conditions = conditions
        self.cost_range = cost_range
        self.width = width
        self.target_chs = target_chs
        self.spend = spend
        self.source = GeneratorSource("unsaved")
        self.target_head = _convs(target_chs, width, depth=3)
        self.prior_head = _convs(1, width, depth=2)
        self.trunk_head = _convs(width, width, depth=1)
        self.trunk_body = _convs(width, width, depth=3)
        self.tail = nn.Conv2d(width, 1, 3, padding=1)
        self.register_buffer("prior_image", _one_hot(prior).flatten(1)[None, None], persistent=False)
        self.apply(_init)

    @property
    def space(self) -> SearchSpace:
        """The space whose slots the logits are for."""
        return self.prior.space

    def forward(self, targets: Tensor) -> Tensor:
        """Logits (N, layers, slots, choices) of N targets, in units of ``cost``, on whatever device these are."""
        low, high = self.cost_range
        position = ((targets - low) / (high - low)).to(self.tail.weight.dtype)  # before it moves: MPS has no float64
        position = position.to(self.tail.weight.device)[:, None, None, None]
        image: Tensor = self.prior_image  # type: ignore[assignment]
        ones = image.new_ones(1, self.target_chs, *image.shape[2:])
        both = self.target_head(torch.cat([ones, -ones]))
        features = position.relu() * both[:1] + (-position).relu() * both[1:] + self.prior_head(image)
        features = features.contiguous(memory_format=torch.channels_last)  # four times faster on a CPU
        trunk = self.trunk_body(self.trunk_head(features))
        logits: Tensor = self.tail(trunk + features)
        return logits.reshape(-1, *self.space.shape)

    @property
    def budget(self) -> str:
        """Name of the budget on its cost: "flops" for MACs."""
        return COSTS[self.cost].budget

    @torch.no_grad()
    def logits(self, **targets: Sequence[float]) -> Tensor:
        """Logits for N targets, from one forward pass.

        Args:
            targets: The targets, in plain counts, under the name of the budget on the generator's cost.

        Returns:
            Float tensor (N, layers, slots, choices) on the generator's device.

        Raises:
            BudgetError: If the targets are of another cost, or not finite.
        """
        wanted = self.budget
        if [name for name, values in targets.items() if values is not None] != [wanted]:
            raise BudgetError(f"This generator answers to {wanted}; call logits({wanted}=[...]).")
        amounts = [float(value) for value in targets[wanted]]
        if not amounts or not all(map(math.isfinite, amounts)):
            raise BudgetError(f"Targets must be finite numbers, not {list(targets[wanted])}; give for example [350e6].")
        return self.forward(torch.tensor(amounts, dtype=torch.float64, device="cpu"))


def _convs(in_chs: int, width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(in_chs, width, 3, padding=1, bias=False), nn.ReLU()]
        in_chs = width
    return nn.Sequential(*layers)


def _one_hot(arch: Arch) -> Tensor:
    """(layers, slots, choices), one at each choice that is picked."""
    return nn.functional.one_hot(torch.tensor(arch.picks), len(arch.space.choices)).float()


def _init(module: nn.Module) -> None:
    """Normal with the variance 2 / (kernel area x output channels), as released."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=math.sqrt(2 / (9 * module.out_channels)))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
