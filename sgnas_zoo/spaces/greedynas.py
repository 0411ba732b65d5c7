"""The GreedyNAS spaces: one block to choose per layer, or the identity (arXiv 2003.11236).

Widths and strides as in the released GreedyNAS networks; 7 choices a layer, or 13 with squeeze-and-excitation. Those 13
have no lite form, which drops squeeze-and-excitation: half of them would be the other half.
"""

from __future__ import annotations

from sgnas_zoo.spaces.kinds.mbconv import Kernels, MBConvKind
from sgnas_zoo.spaces.rows import Choice, Form, Row
from sgnas_zoo.spaces.space import SearchSpace

ROWS = (Row(32, 2, 4), Row(40, 2, 4), Row(80, 2, 4), Row(96, 1, 4), Row(192, 2, 4), Row(320, 1, 1))
PLAIN = tuple(Choice(f"k{k}e{e}", Kernels((k,) * e)) for e in (3, 6) for k in (3, 5, 7))
WITH_SE = tuple(Choice(f"{choice.label}s", choice.adds._replace(se=True)) for choice in PLAIN)
IDENTITY = Choice("id", Kernels())
KIND = MBConvKind(identity=True)
FORM = Form("relu", "hard_swish", expand_single=False)

GREEDYNAS = SearchSpace(
    name="greedynas", family="greedynas", kind=KIND, rows=ROWS, choices=(*PLAIN, IDENTITY), final=FORM
)

GREEDYNAS_SE = SearchSpace(
    name="greedynas_se", family="greedynas", kind=KIND, rows=ROWS, choices=(*PLAIN, *WITH_SE, IDENTITY), final=FORM
)
