"""A space of our own for microcontroller-class budgets: about 1 to 8 MMACs at 32 pixels.

Its final form has ReLU6 and no squeeze-and-excitation already: the lite form is the same.
"""

from __future__ import annotations

from sgnas_zoo.spaces.kinds.mbconv import MBConvKind
from sgnas_zoo.spaces.rows import Form, Row
from sgnas_zoo.spaces.sgnas import KERNELS
from sgnas_zoo.spaces.space import SearchSpace

SGNAS_MICRO = SearchSpace(
    name="sgnas_micro",
    family="sgnas",
    kind=MBConvKind(),
    rows=(Row(24, 2, 2), Row(32, 1, 2), Row(64, 2, 3), Row(96, 1, 1)),
    choices=KERNELS,
    slots=6,
    final=Form("relu6", "relu6"),
    stem_chs=16,
    first_chs=16,
    head_chs=256,
    resolution=32,
    num_classes=10,
)
