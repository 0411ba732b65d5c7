"""ShuffleNetV2 as SPOS searches it: a model class that keeps timm's conventions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import DropPath, create_classifier, create_conv2d, get_device_dtype, get_norm_act_layer
from timm.models import EfficientNet
from torch import Tensor, nn

from sgnas_zoo.errors import SpaceError
from sgnas_zoo.spaces.kinds.shuffle import Shuffle

STRIDES = (2, 4, 8, 16, 32)
"""What ``output_stride`` may be."""


class ShuffleBlock(nn.Module):
    """One block: split the channels (or not, with stride 2), work on one branch, put the branches together.

    Names as released: ``branch_main`` and ``branch_proj``, numbered in running order.

    Args:
        block: Widths, kernels and stride.
        stride: Stride that is left of the block's, 1 where it became dilation.
        dilation: Dilation of the depthwise convolutions.
        act_layer: Activation.
        norm_layer: Batch norm, or what takes its place.
        drop_path: Probability to drop the main branch of a block that splits.
        device: Device of the parameters.
        dtype: Their type.
    """

    def __init__(self, block: Shuffle, stride: int = 1, dilation: int = 1, act_layer: Any = nn.ReLU,
                 norm_layer: Any = nn.BatchNorm2d, drop_path: float = 0.0, device: Any = None, dtype: Any = None,
                 ) -> None:  # fmt: skip
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.splits = block.stride == 1
        chs, mid, out = block.branch_chs, block.mid_chs, block.out_chs - block.branch_chs

        def conv(in_chs: int, out_chs: int, kernel: int = 1, step: int = 1) -> list[nn.Module]:
            depthwise = {"depthwise": True, "dilation": dilation} if kernel > 1 else {}
            made = create_conv2d(in_chs, out_chs, kernel, stride=step, padding="", **depthwise, **dd)
            return [made, norm_layer(out_chs, **dd)]

        def act() -> nn.Module:
            return act_layer(inplace=True)  # type: ignore[no-any-return]

        if len(block.kernels) == 1:
            main = [*conv(chs, mid), act(), *conv(mid, mid, block.kernels[0], stride), *conv(mid, out), act()]
        else:
            main, widths = [], [chs, *[mid] * (len(block.kernels) - 1), out]
            for place, kernel in enumerate(block.kernels):
                step = 1 if place else stride
                main += conv(widths[place], widths[place], kernel, step)
                main += [*conv(widths[place], widths[place + 1]), act()]
        self.branch_main = nn.Sequential(*main)
        projection = [] if self.splits else [*conv(chs, chs, block.kernels[0], stride), *conv(chs, chs), act()]
        self.branch_proj = nn.Sequential(*projection)
        self.drop_path = DropPath(drop_path) if drop_path and self.splits else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_chs, H, W) to (N, out_chs, H / stride, W / stride).

        Even channels pass and odd ones are worked on: as the halves of the last block's output stand one behind the
        other, that is the shuffle.
        """
        if self.splits:
            return torch.cat([x[:, ::2], self.drop_path(self.branch_main(x[:, 1::2]))], 1)
        return torch.cat([self.branch_proj(x), self.branch_main(x)], 1)


class ShuffleNet(EfficientNet):  # type: ignore[misc]  # mypy follows no import of timm
    """ShuffleNetV2 with a block of its own per layer (SPOS, 1904.00420): stem, stages, head, bias-free classifier.

    All but the blocks and the classifier is built like timm's EfficientNet, whose forward passes, features, parameter
    groups and checkpointing it inherits.

    Args:
        stages: The blocks of each stage.
        num_classes: Classes; 0 for none.
        num_features: Width of the head.
        in_chans: Input channels.
        stem_size: Width of the stem.
        stem_stride: Its stride.
        output_stride: Most pixels of the input along a side of a pixel of the last map; strides beyond it dilate.
        act_layer: Activation.
        norm_layer: Batch norm, or what takes its place.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Probability to drop the main branch of the last block, rising from 0 at the first.
        global_pool: Pooling, as timm calls it.
        device: Device of the parameters.
        dtype: Their type.

    Raises:
        SpaceError: If there is no such output stride.
    """

    def __init__(self, stages: Sequence[Sequence[Shuffle]], num_classes: int = 1000, num_features: int = 1024,
                 in_chans: int = 3, stem_size: int = 16, stem_stride: int = 2, output_stride: int = 32,
                 act_layer: Any = nn.ReLU, norm_layer: Any = nn.BatchNorm2d, drop_rate: float = 0.0,
                 drop_path_rate: float = 0.0, global_pool: str = "avg", device: Any = None, dtype: Any = None,
                 ) -> None:  # fmt: skip
        nn.Module.__init__(self)
        if output_stride not in STRIDES:
            raise SpaceError(f"output_stride is {output_stride!r}; choose from {', '.join(map(str, STRIDES))}.")
        dd = {"device": device, "dtype": dtype}
        norm_act: Any = get_norm_act_layer(norm_layer, act_layer)
        self.num_classes, self.in_chans, self.num_features = num_classes, in_chans, num_features
        self.drop_rate, self.grad_checkpointing = drop_rate, False
        self.conv_stem = create_conv2d(in_chans, stem_size, 3, stride=stem_stride, padding="", **dd)
        self.bn1 = norm_act(stem_size, inplace=True, **dd)
        self.feature_info = [{"stage": 0, "num_chs": stem_size, "reduction": stem_stride, "module": "bn1"}]
        rates = torch.linspace(0, drop_path_rate, sum(map(len, stages)), device="cpu").tolist()
        reduction, dilation = stem_stride, 1
        self.blocks = nn.Sequential()
        for number, stage in enumerate(stages, start=1):
            built = nn.Sequential()
            for block in stage:
                stride = block.stride if reduction * block.stride <= output_stride else 1
                reduction, dilation = reduction * stride, dilation * (block.stride // stride)
                made = ShuffleBlock(block, stride, dilation, act_layer, norm_layer, rates.pop(0), **dd)
                built.append(made)
            self.blocks.append(built)
            name = f"blocks.{number - 1}"
            self.feature_info.append(
                {"stage": number, "num_chs": stage[-1].out_chs, "reduction": reduction, "module": name}
            )
        self.stage_ends = [feature["stage"] for feature in self.feature_info]
        self.conv_head = create_conv2d(stages[-1][-1].out_chs, num_features, 1, padding="", **dd)
        self.bn2 = norm_act(num_features, inplace=True, **dd)
        self._make_classifier(global_pool)
        _init_weights(self)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Make a new classifier.

        Args:
            num_classes: Its classes; 0 for none.
            global_pool: Pooling before it; None keeps what there is.
        """
        self.num_classes = num_classes
        self._make_classifier(self.global_pool.pool_type if global_pool is None else global_pool)

    def _make_classifier(self, global_pool: str) -> None:
        dd: Any = get_device_dtype(self)
        self.global_pool, head = create_classifier(self.num_features, self.num_classes, pool_type=global_pool, **dd)
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        if isinstance(head, nn.Linear):
            head.register_parameter("bias", None)
            nn.init.normal_(head.weight, std=0.01)
        self.classifier = head
        self.global_pool.train(self.training)
        self.classifier.train(self.training)


def _init_weights(model: nn.Module) -> None:
    """Initialise convolutions by their fan-out; norms are the identity as they are made."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
