"""A teacher: a network with weights whose probabilities another one learns beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torch.nn import functional as F

from sgnas_zoo.errors import SettingError
from sgnas_zoo.search.generator import GeneratorSource
from sgnas_zoo.training.config import Distil
from sgnas_zoo.training.networks import make_network


class Teacher(nn.Module):
    """A frozen network that answers for the images of another one: brought to its own side, mean and deviation.

    Args:
        network: A timm model.
        name: As it was asked for.
        shown: ``mean`` and ``std`` of the images that it is given, as in timm's ``pretrained_cfg``.
    """

    def __init__(self, network: nn.Module, name: str, shown: dict[str, Any]) -> None:
        super().__init__()
        self.name = name
        used = resolve_model_data_config(network)
        self.network, self.size = network.eval().requires_grad_(False), tuple(used["input_size"][-2:])
        numbers = {name: [torch.tensor(cfg[name]).view(-1, 1, 1) for cfg in (shown, used)] for name in ("mean", "std")}
        (mean, own_mean), (std, own_std) = numbers["mean"], numbers["std"]
        self.register_buffer("scale", std / own_std, persistent=False)
        self.register_buffer("shift", (mean - own_mean) / own_std, persistent=False)

    def told(self) -> dict[str, Any]:
        """What the record of a network says of its teacher, under ``teacher``."""
        origin = getattr(self.network, "zoo", {}).get("loaded_from") or {"id": self.name}
        return {"teacher": GeneratorSource(**origin).named()}

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W)."""
        own: Tensor = images * self.scale + self.shift  # type: ignore[operator]
        if own.shape[-2:] != self.size:
            own = F.interpolate(own, self.size, mode="bicubic", antialias=True)
        logits: Tensor = self.network(own)
        return logits


def make_teacher(asked: Distil, classes: Sequence[str], shown: dict[str, Any]) -> Teacher | None:
    """The teacher of a training; None where it has none.

    Args:
        asked: Which one.
        classes: Names of what is trained.
        shown: As for ``Teacher``.

    Raises:
        SettingError: If it knows other classes.
        ZooError: If there is no such model, or it has no weights.
    """
    if asked.teacher is None:
        return None
    network: Any = make_network(asked.teacher, pretrained=True)
    names = network.pretrained_cfg.get("label_names")
    if network.num_classes != len(classes) or (names and list(names) != list(classes)):
        known = ", ".join(names[:3]) + ", ..." if names else f"{network.num_classes} of them"
        raise SettingError(
            f"The teacher {asked.teacher} knows other classes ({known}) than the dataset ({', '.join(classes[:3])}, "
            "...); fine-tune it on the dataset, or leave --teacher out."
        )
    return Teacher(network, asked.teacher, shown)


def distillation_loss(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """How far probabilities are from a teacher's, both softened (Hinton, Vinyals and Dean, 1503.02531).

    Args:
        logits: (N, classes), of the network.
        taught: (N, classes), of the teacher.
        temperature: Logits are divided by it.

    Returns:
        The Kullback-Leibler divergence, times the square of the temperature: gradients then keep their size.
    """
    own, wanted = ((each.float() / temperature).log_softmax(1) for each in (logits, taught))
    return F.kl_div(own, wanted, reduction="batchmean", log_target=True) * temperature**2
