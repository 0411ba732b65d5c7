"""The choice-block supernet: per layer one whole block for each choice (SPOS, GreedyNAS)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sgnas_zoo.errors import SpaceError
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.spaces import Arch, SearchSpace
from sgnas_zoo.spaces.arch import Picks
from sgnas_zoo.supernet.depthwise import speed_up_depthwise
from sgnas_zoo.supernet.layer import add_up
from sgnas_zoo.supernet.shares import Shares, by_layer
from sgnas_zoo.supernet.supernet import Supernet


class ChoiceSupernet(Supernet):
    """Supernet whose layers hold a block per choice (SPOS, 1904.00420, section 3; GreedyNAS, 2003.11236, section 3).

    It is put together from stand-alone networks that take the same choice in every layer, so a path of it *is* a
    stand-alone network, and what it hands down needs no translation. Networks have the conventions of timm's
    EfficientNet. Unlike those of the released SPOS code, its batch norms are affine. No active architecture is kept on
    the module: it is an argument of every pass.

    Args:
        space: A space whose first slot chooses a block.
        num_classes: Classes; by default the space's.
        in_chans: Input channels.
        zero_init_last: Start the norms at the end of residual blocks at 0, so that these begin as the identity.

    Raises:
        SpaceError: If a layer of the space has slots that this supernet does not serve.
    """

    def __init__(
        self, space: SearchSpace, num_classes: int | None = None, in_chans: int = 3, *, zero_init_last: bool = False
    ) -> None:
        super().__init__(space, num_classes, in_chans)
        if space.slots > 1 and type(self) is ChoiceSupernet:
            raise SpaceError(
                f"A choice supernet of {space.name} is not possible: a layer has several slots. Train a unified one, "
                "whose slots are expansions."
            )
        choices = [i for i in space.layers[0].allowed[0] if i != space.skip]
        networks: list[Any] = [self._uniform(choice, 0 if i else self.num_classes) for i, choice in enumerate(choices)]
        trunk, searched = networks[0], space.kind.networks().layers
        blocks = [block for stage in trunk.blocks for block in stage]
        self.conv_stem, self.bn1 = trunk.conv_stem, trunk.bn1
        self.first = nn.Sequential(*blocks[: len(blocks) - len(searched(trunk))])
        self.layers = nn.ModuleList(nn.ModuleDict() for _ in space.layers)
        for choice, network in zip(choices, networks, strict=True):
            present = [i for i in range(len(space.layers)) if space.block(i, space.variant((choice,)), "search")]
            for number, block in zip(present, searched(network), strict=True):
                self.layers[number][str(choice)] = block  # type: ignore[operator]
        self.conv_head, self.bn2 = trunk.conv_head, trunk.bn2
        self.global_pool, self.classifier = trunk.global_pool, trunk.classifier
        if isinstance(self.classifier, nn.Linear):  # timm's is drawn so wide that ten classes begin at a loss of 7
            nn.init.normal_(self.classifier.weight, std=0.01)
            if self.classifier.bias is not None:
                nn.init.zeros_(self.classifier.bias)
        speed_up_depthwise(self.layers)
        residual: list[Any] = [block for block in self.layers.modules() if getattr(block, "has_skip", False)]
        for block in residual if zero_init_last else ():
            nn.init.zeros_(block.bn3.weight)

    def forward(self, x: Tensor, path: Arch | Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_chans, H, W).

        Args:
            x: Images.
            path: An architecture: only its blocks run. Or probabilities (layers, slots, choices): every block runs,
                and their outputs are added up by these.

        Raises:
            ArchError: If the path is of another space.
        """
        self.check_path(path)
        x = self.first(self.bn1(self.conv_stem(x.contiguous(memory_format=torch.channels_last))))
        if isinstance(path, Arch):
            for number, picks in enumerate(path.picks):
                x = self.run(number, picks, x)
        else:
            for number, shares in enumerate(by_layer(path)):
                x = self.relaxed(number, shares, x)
        logits: Tensor = self.classifier(self.global_pool(self.bn2(self.conv_head(x))))
        return logits

    def state_of(self, arch: Arch) -> dict[str, Tensor]:
        """Whole blocks, in timm's names."""
        state: dict[str, Tensor] = {}
        for name in ("conv_stem", "bn1", "conv_head", "bn2", "classifier"):
            state |= _named(name, getattr(self, name).state_dict())
        for number, block in enumerate(self.first):
            state |= _named(f"blocks.0.{number}", block.state_dict())
        seen = [0] * len(self.space.rows)
        for number, (layer, picks) in enumerate(zip(self.space.layers, arch.picks, strict=True)):
            if self._holds(number, picks[0]):
                prefix = f"blocks.{layer.stage + bool(len(self.first))}.{seen[layer.stage]}"
                state |= _named(prefix, self.block_state(number, picks))
                seen[layer.stage] += 1
        return state

    def block(self, number: int, choice: int) -> Any:
        """The block of a choice in a layer."""
        return self.layers[number][str(choice)]  # type: ignore[index]

    def run(self, number: int, picks: Picks, x: Tensor) -> Tensor:
        """One block: map (N, in_chs, H, W) to (N, out_chs, H / stride, W / stride)."""
        out: Tensor = self.block(number, picks[0])(x) if self._holds(number, picks[0]) else x
        return out

    def relaxed(self, number: int, shares: Shares, x: Tensor) -> Tensor:
        """All blocks of a layer, each weighted with its probability; shapes as in ``run``."""
        active = shares.active(0, self.space.layers[number].allowed[0])
        return add_up([self.run(number, (i,), x) * shares.probs[0, i] for i in active])

    def block_state(self, number: int, picks: Picks) -> Mapping[str, Tensor]:
        """The state dict of the block that a path takes in a layer."""
        state: Mapping[str, Tensor] = self.block(number, picks[0]).state_dict()
        return state

    def _uniform(self, choice: int, num_classes: int) -> nn.Module:
        """The network that takes a choice wherever it may."""
        space = self.space
        arch = space.arch([self._uniform_picks(choice) for _ in space.layers])
        return build_model(space.family, arch, "search", num_classes=num_classes, in_chans=self.in_chans)

    def _uniform_picks(self, choice: int) -> list[int]:
        return [choice]

    def _holds(self, number: int, choice: int) -> bool:
        """Whether a layer has a block for a choice; where not, it vanishes."""
        return str(choice) in self.layers[number]  # type: ignore[operator]


def _named(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}
