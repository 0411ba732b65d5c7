"""The unified supernet: all architectures of a space on one set of weights."""

from __future__ import annotations

import torch
from timm.layers import create_act_layer
from torch import Tensor, nn

from sgnas_zoo.errors import SpaceError
from sgnas_zoo.spaces import Arch, SearchSpace
from sgnas_zoo.spaces.kinds.mbconv import Kernels, MBConvKind
from sgnas_zoo.supernet.layer import ConvNorm, UnifiedLayer, convolution
from sgnas_zoo.supernet.shares import by_layer
from sgnas_zoo.supernet.supernet import Supernet


class UnifiedSupernet(Supernet):
    """Supernet of an SGNAS-like space (arXiv 2103.07289; state-dict names as released).

    No active architecture is kept on the module: it is an argument of every pass.

    Args:
        space: A space whose choices are one depthwise kernel each, in rising order, then a skip; its search form is
            without squeeze-and-excitation and keeps the expansion of a single slot.
        num_classes: Classes; by default the space's.
        in_chans: Input channels.
        zero_init_last: Start the norms at the end of residual layers at 0, so that these begin as the identity: deep
            supernets then leave chance level far sooner (BigNAS, 2003.11142, section 3.3; the released code does not).

    Raises:
        SpaceError: If the space has choices of another kind.
    """

    grows = True

    def __init__(
        self, space: SearchSpace, num_classes: int | None = None, in_chans: int = 3, *, zero_init_last: bool = False
    ) -> None:
        super().__init__(space, num_classes, in_chans)
        form = space.form("search")
        problems = _problems(space)
        if problems:
            raise SpaceError(
                f"A unified supernet of {space.name} is not possible; it needs: {'; '.join(problems)}. "
                "Change the space, such as by search=Form('relu6', 'relu6'), or take sgnas_micro as a pattern."
            )
        self.act = create_act_layer(form.stem_act, inplace=True)
        block_act = create_act_layer(form.block_act, inplace=True)
        self.first = ConvNorm(in_chans, space.stem_chs, 3, space.stem_stride)
        self.first_mb = FirstBlock(space.stem_chs, space.first_chs, block_act)
        layers = [UnifiedLayer(layer, space.slots, space.choices, block_act) for layer in space.layers]
        self.stages = nn.ModuleList(layers)
        last = space.layers[-1].out_chs
        self.last_stage = nn.Sequential(convolution(last, space.head_chs), nn.BatchNorm2d(space.head_chs))
        self.classifier = nn.Linear(space.head_chs, self.num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)
        for norm in (norm for layer in layers if zero_init_last and layer.residual for norm in layer.sbn):
            nn.init.zeros_(norm.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor, path: Arch | Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_chans, H, W).

        Args:
            x: Images.
            path: An architecture: only its channels run. Or probabilities (layers, slots, choices): every choice runs,
                weighted.

        Raises:
            ArchError: If the path is of another space.
        """
        self.check_path(path)
        x = self.before(x)
        if isinstance(path, Arch):
            for layer, picks in zip(self.layers(), path.picks, strict=True):
                x = layer(x, picks)
        else:
            for layer, shares in zip(self.layers(), by_layer(path), strict=True):
                x = layer.relaxed(x, shares)
        return self.after(x)

    def layers(self) -> list[UnifiedLayer]:
        """The searched layers in running order."""
        return list(self.stages)  # type: ignore[arg-type]

    def state_of(self, arch: Arch) -> dict[str, Tensor]:
        """Active slots, sorted by kernel as in the timm model, whose mixed convolution takes groups in rising order."""
        state: dict[str, Tensor] = {"conv_stem.weight": self.first.conv.weight}
        state |= _named("bn1", self.first.bn)
        first = self.first_mb
        state["blocks.0.0.conv_dw.weight"] = first.depthwise.get_parameter("blocks.0.weight")
        state |= _named("blocks.0.0.bn1", first.depthwise.bn)
        state["blocks.0.0.conv_pw.weight"] = first.point_wise_1.conv.weight
        state |= _named("blocks.0.0.bn2", first.point_wise_1.bn)
        seen = [0] * len(arch.space.rows)
        for layer, row, picks in zip(self.layers(), arch.space.layers, arch.picks, strict=True):
            prefix = f"blocks.{row.stage + 1}.{seen[row.stage]}."
            state |= {prefix + name: tensor for name, tensor in _layer_state(layer, picks).items()}
            seen[row.stage] += 1
        head, norm = self.last_stage
        state["conv_head.weight"] = head.get_parameter("weight")
        state |= _named("bn2", norm)
        return state | _named("classifier", self.classifier)

    def examples(self) -> dict[str, Arch]:
        """Two, four and all slots, with kernels in turn."""
        space = self.space
        labels = [choice.label for i, choice in enumerate(space.choices) if i != space.skip]
        sizes = {"narrow": 2, "middle": 4, "wide": space.slots}
        tokens = {name: "".join(labels[i % len(labels)] for i in range(slots)) for name, slots in sizes.items()}
        return {name: space.parse("-".join([token] * len(space.layers))) for name, token in tokens.items()}

    def grow_kernels(self) -> None:
        """Give the larger kernels of all slots the values of the smallest: no path changes until they are trained.

        For supernets that began with ``with_smallest_kernels`` only; the norms' statistics are copied too.
        """
        for layer in self.layers():
            layer.grow_kernels()

    def before(self, x: Tensor) -> Tensor:
        """Stem and first block."""
        x = x.contiguous(memory_format=torch.channels_last)
        out: Tensor = self.first_mb(self.act(self.first(x)))
        return out

    def after(self, x: Tensor) -> Tensor:
        """Head, pooling and classifier."""
        logits: Tensor = self.classifier(self.act(self.last_stage(x)).mean((2, 3)))
        return logits


class FirstDepthwise(nn.Module):
    """A depthwise 3 x 3 convolution and its norm, in the names of the released supernet."""

    def __init__(self, chs: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([convolution(chs, chs, 3, groups=chs)])
        self.bn = nn.BatchNorm2d(chs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, chs, H, W) to the same shape."""
        out: Tensor = self.bn(self.blocks[0](x))
        return out


class FirstBlock(nn.Module):
    """The fixed block between stem and searched layers: depthwise 3 x 3, then a projection."""

    def __init__(self, in_chs: int, out_chs: int, act: nn.Module) -> None:
        super().__init__()
        self.depthwise = FirstDepthwise(in_chs)
        self.act = act
        self.point_wise_1 = ConvNorm(in_chs, out_chs)
        self.residual = in_chs == out_chs

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_chs, H, W) to (N, out_chs, H, W)."""
        out: Tensor = self.point_wise_1(self.act(self.depthwise(x)))
        return out + x if self.residual else out


def _problems(space: SearchSpace) -> list[str]:
    """Why the unified block cannot serve a space."""
    form = space.form("search")
    adds: list[Kernels] = [choice.adds for choice in space.choices]
    kernels = [one.kernels for one in adds]
    checks = [
        (
            any(len(group) != 1 for group in kernels[:-1]) or bool(kernels[-1]),
            "choices are one kernel each, a skip last",
        ),
        (kernels[:-1] != sorted(kernels[:-1]), "kernels rise"),
        (form.se or any(one.se for one in adds), "the search form has no squeeze-and-excitation"),
        (not form.expand_single, "the search form keeps the expansion of a single slot"),
        (space.kind != MBConvKind(), "no layer vanishes whole"),
    ]
    return [text for failed, text in checks if failed]


def _layer_state(layer: UnifiedLayer, picks: tuple[int, ...]) -> dict[str, Tensor]:
    """One layer in timm's names."""
    skip = len(layer.kernels)
    active = sorted((pick, slot) for slot, pick in enumerate(picks) if pick != skip)
    index = layer.channels([slot for _, slot in active])
    candidates = [layer.candidate(slot, pick) for pick, slot in active]
    state = {"conv_pw.weight": layer.point_wise.conv.weight[index]}
    state |= {name: t[index] if t.ndim else t for name, t in _named("bn1", layer.point_wise.bn).items()}
    if len({pick for pick, _ in active}) == 1:
        state["conv_dw.weight"] = torch.cat([candidate.conv.weight for candidate in candidates])
    else:
        state |= {f"conv_dw.{i}.weight": candidate.conv.weight for i, candidate in enumerate(candidates)}
    norms = [_named("bn2", candidate.bn) for candidate in candidates]
    state |= {name: torch.cat([n[name] for n in norms]) if t.ndim else t for name, t in norms[0].items()}
    state["conv_pwl.weight"] = layer.point_wise_1.conv.weight[:, index]
    return state | _named("bn3", layer.sbn[len(picks) - len(active)])


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict(keep_vars=True).items()}
