"""Scores of many subnets at once: what begins alike is calibrated and run once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from sgnas_zoo.hub.supernets import TrainedSupernet
from sgnas_zoo.spaces import Arch
from sgnas_zoo.supernet import calibrate_bn, inherit_model
from sgnas_zoo.training.data.sources import LabelledImages
from sgnas_zoo.training.evaluation import evaluate
from sgnas_zoo.training.networks import set_input
from sgnas_zoo.training.runs import measuring_loader

if TYPE_CHECKING:
    from accelerate import Accelerator

MOST_BYTES = 2**30
"""Maps that are kept from one subnet to the next; what is beyond is computed again."""

Key = tuple[tuple[int, tuple[int, ...]], ...]
"""What a network is so far: numbers and choices of the layers that there are."""


class _Level(NamedTuple):
    """Maps behind a part of a network: of the calibration images, and of those that count."""

    key: Key
    calibration: list[Tensor]
    images: list[Tensor]

    @property
    def bytes(self) -> int:
        """Memory of the maps."""
        return sum(maps.nbytes for maps in (*self.calibration, *self.images))


class InheritedAccuracy:
    """Scores architectures by the top-1 (in percent) of their inherited, calibrated weights.

    The same images for all, preprocessed once and kept in memory; processes share them. The statistics of a norm depend
    on what precedes it only, so that of two subnets which begin alike the second starts where they part: scores are
    those of ``trained.inherit(arch)``, but for rounding. Ask for architectures in the order of their choices.

    Args:
        trained: The supernet, on the accelerator's device.
        images: What to measure on.
        accelerator: Of the run.
        workers: Processes that decode.
    """

    def __init__(
        self, trained: TrainedSupernet, images: LabelledImages, accelerator: Accelerator, *, workers: int = 0
    ) -> None:
        self._trained, self._images, self._accelerator, self._workers = trained, images, accelerator, workers
        self._batches: list[Any] = []
        self._levels: list[_Level] = []

    def __call__(self, archs: Sequence[Arch]) -> list[float]:
        """Scores of architectures."""
        order = sorted(range(len(archs)), key=lambda at: archs[at].picks)
        found = {at: self.measure(archs[at])["top1"] for at in order}
        return [found[at] for at in range(len(archs))]

    def measure(self, arch: Arch) -> dict[str, float]:
        """Figures of an architecture, as ``evaluate`` gives them."""
        trained, accelerator = self._trained, self._accelerator
        network: Any = inherit_model(trained.supernet, arch, pretrained_cfg_overlay=trained.pretrained_cfg())
        network.to(memory_format=torch.channels_last).to(accelerator.device).eval()
        if not self._batches:
            set_input(network)
            self._batches += measuring_loader(self._images, network, accelerator, workers=self._workers)
        if not all(hasattr(network, name) for name in ("conv_stem", "bn1", "blocks", "conv_head", "bn2")):
            whole = trained.inherit(arch).to(memory_format=torch.channels_last).to(accelerator.device)
            return evaluate(whole.eval(), self._batches, accelerator)
        level = self._before_head(network, arch)
        head = nn.Sequential(network.conv_head, network.bn2)
        calibrate_bn(head, level.calibration)
        batches = [(maps, *rest) for maps, (_, *rest) in zip(level.images, self._batches, strict=True)]
        return evaluate(lambda maps: network.forward_head(head(maps)), batches, accelerator)

    def _before_head(self, network: Any, arch: Arch) -> _Level:
        """The maps that the last block of a network gives."""
        parts = _parts(network, arch)
        shared = 0
        while shared < min(len(self._levels), len(parts)) and self._levels[shared].key == parts[shared][0]:
            shared += 1
        del self._levels[shared:]
        if shared:
            level = self._levels[-1]
        else:
            level = _Level((), [*self._trained.calibration_batches()], [images for images, *_ in self._batches])
        keeps = True
        for key, part in parts[shared:]:
            level = _run(key, part, level)
            keeps = keeps and level.bytes + sum(kept.bytes for kept in self._levels) <= MOST_BYTES
            if keeps:
                self._levels.append(level)
        return level


def _parts(network: Any, arch: Arch) -> list[tuple[Key, nn.Module]]:
    """Stem with fixed blocks, then block by block: what a network is up to there, and the module."""
    space, blocks = arch.space, [block for stage in network.blocks for block in stage]
    present = [
        (number, picks) for number, picks in enumerate(arch.picks)
        if space.block(number, space.variant(picks), "search") is not None
    ]  # fmt: skip
    fixed = len(blocks) - len(present)
    parts: list[tuple[Key, nn.Module]] = [((), nn.Sequential(network.conv_stem, network.bn1, *blocks[:fixed]))]
    return [*parts, *((tuple(present[: at + 1]), block) for at, block in enumerate(blocks[fixed:]))]


@torch.no_grad()
def _run(key: Key, part: nn.Module, before: _Level) -> _Level:
    """Calibrate a part, and give the maps behind it."""
    maps: list[Tensor] = []
    hook = part.register_forward_hook(lambda module, given, made: maps.append(made))
    calibrate_bn(part, before.calibration)
    hook.remove()
    return _Level(key, maps, [part(images) for images in before.images])
