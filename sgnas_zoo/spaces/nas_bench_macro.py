"""The space of NAS-Bench-Macro (arXiv 2103.11922): 3^8 networks for CIFAR-10, all of which its authors trained.

Choices are numbered as published: 0 is the identity, 1 an inverted residual of expansion 3 and kernel 3, 2 one of
expansion 6 and kernel 5.
"""

from __future__ import annotations

from sgnas_zoo.spaces.kinds.inverted import IDENTITY, Inverted, InvertedKind
from sgnas_zoo.spaces.rows import Choice, Form, Row
from sgnas_zoo.spaces.space import SearchSpace

NAS_BENCH_MACRO = SearchSpace(
    name="nas_bench_macro",
    family="nas_bench_macro",
    kind=InvertedKind(),
    rows=(Row(64, 2, 2), Row(128, 2, 3), Row(256, 2, 3)),
    choices=(Choice("0", IDENTITY), Choice("1", Inverted(3, 3)), Choice("2", Inverted(6, 5))),
    final=Form("relu", "relu"),
    stem_stride=1,
    first_chs=32,
    resolution=32,
    num_classes=10,
)
