"""The SGNAS spaces: six expansion groups a layer, each a depthwise 3 x 3, 5 x 5, 7 x 7 or skipped (arXiv 2103.07289).

Rows as in the released ImageNet and CIFAR configurations: same widths, CIFAR keeps the first two strides at 1.
On CIFAR the final form has ReLU6 and no squeeze-and-excitation already: the lite form is the same.
"""

from __future__ import annotations

from sgnas_zoo.spaces.kinds.mbconv import Kernels, MBConvKind
from sgnas_zoo.spaces.rows import Choice, Form, Row
from sgnas_zoo.spaces.space import SearchSpace

KERNELS = (Choice("3", Kernels((3,))), Choice("5", Kernels((5,))), Choice("7", Kernels((7,))), Choice("0", Kernels()))
"""The order is that of the released generator's logits; ``0`` spells a skip."""

PLAIN = Form("relu6", "relu6", expand_single=False)

SGNAS_IMAGENET = SearchSpace(
    name="sgnas_imagenet",
    family="sgnas",
    kind=MBConvKind(),
    rows=(Row(32, 2, 2), Row(40, 2, 4), Row(80, 2, 4), Row(96, 1, 4), Row(192, 2, 4), Row(320, 1, 1)),
    choices=KERNELS,
    slots=6,
    search=Form("relu6", "relu6"),
    final=Form("hard_swish", "hard_swish", se=True, expand_single=False),
)

SGNAS_CIFAR = SearchSpace(
    name="sgnas_cifar",
    family="sgnas",
    kind=MBConvKind(),
    rows=(Row(32, 1, 2), Row(40, 2, 4), Row(80, 2, 4), Row(96, 1, 4), Row(192, 2, 4), Row(320, 1, 1)),
    choices=KERNELS,
    slots=6,
    stem_stride=1,
    search=Form("relu6", "relu6"),
    final=PLAIN,
    resolution=32,
    num_classes=100,
)
