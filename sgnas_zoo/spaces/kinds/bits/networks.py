"""Networks of few bits: timm's ResNet with rounded convolutions, and the supernet of one weight for all bits (SPOS)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from timm.models import ResNet
from timm.models.resnet import BasicBlock
from torch import Tensor, nn
from torch.nn import functional as F

from sgnas_zoo.errors import SpaceError
from sgnas_zoo.models.builder import build_model
from sgnas_zoo.models.quantised import (
    FIRST_CLIP,
    QuantisedConv2d,
    basic_blocks,
    quantise_activations,
    quantise_weights,
    searched_convolutions,
)
from sgnas_zoo.spaces import Arch, BitsKind, FormName, SearchSpace
from sgnas_zoo.supernet.layer import add_up
from sgnas_zoo.supernet.shares import Shares, by_layer
from sgnas_zoo.supernet.supernet import Supernet


class BitsNetworks:
    """ResNets of timm's whose convolutions round."""

    def build(self, arch: Arch, form: FormName, **kwargs: Any) -> ResNet:
        """A ResNet of basic blocks whose convolutions have the bits that an architecture chose."""
        space = arch.space
        assert isinstance(space.kind, BitsKind)
        if space.stem_stride == 1 and kwargs.get("output_stride", 32) != 32:
            raise SpaceError("output_stride needs a space with a stride-2 stem; leave it out.")
        depths, widths = (tuple(getattr(row, name) for row in space.rows) for name in ("repeats", "out_chs"))
        model = ResNet(BasicBlock, depths, channels=widths, **kwargs)
        if not isinstance(model.conv1, nn.Conv2d):
            raise SpaceError(f"The stem of {space.name} is one convolution; leave stem_type out.")
        if space.stem_stride == 1:
            for feature in model.feature_info:
                feature["reduction"] //= 2
        like, kernel = model.conv1.weight, space.kind.stem_kernel
        model.conv1 = nn.Conv2d(
            model.in_chans, space.stem_chs, kernel, space.stem_stride, kernel // 2, bias=False, device=like.device,
            dtype=like.dtype,
        )  # fmt: skip
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        for place, picks in zip(searched_convolutions(model), arch.picks, strict=True):
            if not isinstance(place.conv, nn.Conv2d):
                raise SpaceError(f"A convolution of {space.name} is missing with these keywords; leave avg_down out.")
            place.put(QuantisedConv2d(place.conv, space.variant(picks)))
        return model

    def feature_cfg(self, space: SearchSpace) -> Mapping[str, Any]:
        """The stem's map and one for each stage."""
        return {"out_indices": tuple(range(1 + len(space.rows))), "flatten_sequential": False}

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """The searched convolutions."""
        return [place.conv for place in searched_convolutions(model)]

    def supernet(self, space: SearchSpace, num_classes: int, in_chans: int, *, zero_init_last: bool) -> Supernet:
        """One weight per convolution, for any number of bits."""
        return QuantisedSupernet(space, num_classes, in_chans, zero_init_last=zero_init_last)


class SharedConv2d(nn.Module):
    """A convolution whose weight serves every number of bits; of activations each number has a clip of its own.

    Args:
        conv: What it is made of.
        act_bits: The numbers of bits of activations.
    """

    def __init__(self, conv: QuantisedConv2d, act_bits: tuple[int, ...]) -> None:
        super().__init__()
        self.weight, self.act_bits = conv.weight, act_bits
        self.clips = nn.Parameter(conv.weight.new_full((len(act_bits),), FIRST_CLIP))
        self.stride, self.padding = conv.stride, conv.padding

    def forward(self, x: Tensor, bits: tuple[int, ...]) -> Tensor:
        """Map (N, in, H, W), not negative, to (N, out, H / stride, W / stride) with bits of weight and activations."""
        weight_bits, act_bits = bits
        x = quantise_activations(x, self.clip(act_bits), act_bits)
        return F.conv2d(x, quantise_weights(self.weight, weight_bits), None, self.stride, self.padding)

    def relaxed(self, x: Tensor, active: Sequence[tuple[int, int, Tensor]]) -> Tensor:
        """The sum of ``forward`` over bits of weights and of activations, each pair weighted with its probability.

        A convolution is linear in its weights, so those for the same input are added up first.
        """
        parts = []
        for act_bits in dict.fromkeys(bits for _, bits, _ in active):
            weight = add_up([quantise_weights(self.weight, w) * prob for w, a, prob in active if a == act_bits])
            inputs = quantise_activations(x, self.clip(act_bits), act_bits)
            parts.append(F.conv2d(inputs, weight, None, self.stride, self.padding))
        return add_up(parts)

    def clip(self, act_bits: int) -> Tensor:
        """The clip of activations of so many bits."""
        return self.clips[self.act_bits.index(act_bits)]


class QuantisedSupernet(Supernet):
    """Supernet of the bits of a ResNet (SPOS, 1904.00420, mixed-precision search).

    It is timm's network with shared convolutions in it, so a path of it *is* a stand-alone one. No active architecture
    is kept on the module: it is an argument of every pass.

    Args:
        space: A space of bits.
        num_classes: Classes; by default the space's.
        in_chans: Input channels.
        zero_init_last: Start the norms at the end of residual blocks at 0, so that these begin as the identity.
    """

    def __init__(
        self, space: SearchSpace, num_classes: int | None = None, in_chans: int = 3, *, zero_init_last: bool = False
    ) -> None:
        super().__init__(space, num_classes, in_chans)
        arch = space.arch([[slot[-1] for slot in layer.allowed] for layer in space.layers])
        self.net: Any = build_model(
            space.family, arch, "search", num_classes=self.num_classes, in_chans=in_chans, zero_init_last=zero_init_last
        )
        act_bits = tuple(sorted({choice.adds.activations for choice in space.choices}))
        for place in searched_convolutions(self.net):
            place.put(SharedConv2d(place.conv, act_bits))

    @property
    def classifier(self) -> Any:  # type: ignore[override]
        """The linear layer at the end."""
        return self.net.fc

    def forward(self, x: Tensor, path: Arch | Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_chans, H, W).

        Args:
            x: Images.
            path: An architecture; or probabilities (layers, 1, choices): every choice runs, and what comes out of a
                convolution is added up by these.

        Raises:
            ArchError: If the path is of another space.
        """
        self.check_path(path)
        layers: Iterator[tuple[int, ...] | Shares] = iter(path.picks if isinstance(path, Arch) else by_layer(path))
        net = self.net
        x = x.contiguous(memory_format=torch.channels_last)
        x = net.maxpool(net.act1(net.bn1(net.conv1(x))))
        for block in basic_blocks(net):
            inner = block.act1(block.bn1(self._convolve(block.conv1, x, next(layers))))
            inner = block.bn2(self._convolve(block.conv2, inner, next(layers)))
            if block.downsample is not None:
                conv, norm = block.downsample
                x = norm(self._convolve(conv, x, next(layers)))
            x = block.act2(inner + x)
        logits: Tensor = net.forward_head(x)
        return logits

    def state_of(self, arch: Arch) -> dict[str, Tensor]:
        """Of each convolution, the clip of its bits."""
        state: dict[str, Tensor] = dict(self.net.state_dict(keep_vars=True))
        names = {module: name for name, module in self.net.named_modules()}
        for place, picks in zip(searched_convolutions(self.net), arch.picks, strict=True):
            name = names[place.conv]
            del state[f"{name}.clips"]
            state[f"{name}.clip"] = place.conv.clip(self.space.choices[picks[0]].adds.activations)
        return state

    def _convolve(self, conv: nn.Module, x: Tensor, decided: tuple[int, ...] | Shares) -> Tensor:
        """One convolution, with the bits of a choice or with those of all choices by their probability."""
        choices = self.space.choices
        if not isinstance(decided, Shares):
            out: Tensor = conv(x, choices[decided[0]].adds)
            return out
        active = [(*choices[i].adds, decided.probs[0, i]) for i in decided.active(0, range(len(choices)))]
        return conv.relaxed(x, active)  # type: ignore[no-any-return, operator]
