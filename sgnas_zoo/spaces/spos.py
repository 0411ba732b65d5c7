"""The SPOS spaces: one of four ShuffleNetV2 blocks per layer, and in the second space its width too (1904.00420).

Blocks are numbered as released: 0, 1, 2 have one depthwise kernel of 3, 5, 7, and 3 is "xception". Widths have the
letters a to h for the factors 0.2 to 1.6.
"""

from __future__ import annotations

from sgnas_zoo.spaces.kinds.shuffle import Branch, ShuffleKind
from sgnas_zoo.spaces.rows import Choice, Form, Row
from sgnas_zoo.spaces.space import SearchSpace

ROWS = (Row(64, 2, 4), Row(160, 2, 4), Row(320, 2, 8), Row(640, 2, 4))
BLOCKS = ((3,), (5,), (7,), (3, 3, 3))
SCALES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6)
FORM = Form("relu", "relu")

SPOS = SearchSpace(
    name="spos",
    family="spos",
    kind=ShuffleKind(),
    rows=ROWS,
    choices=tuple(Choice(str(number), Branch(kernels, 1.0)) for number, kernels in enumerate(BLOCKS)),
    final=FORM,
    stem_chs=16,
    first_chs=16,
    head_chs=1024,
)

SPOS_CHANNEL = SearchSpace(
    name="spos_channel",
    family="spos_channel",
    kind=ShuffleKind(),
    rows=ROWS,
    choices=(
        *(Choice(str(number), Branch(kernels)) for number, kernels in enumerate(BLOCKS)),
        *(Choice(letter, Branch(scale=scale)) for letter, scale in zip("abcdefgh", SCALES, strict=True)),
    ),
    slots=2,
    final=FORM,
    stem_chs=16,
    first_chs=16,
    head_chs=1024,
)
