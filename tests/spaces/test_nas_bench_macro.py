"""The space of NAS-Bench-Macro: 6,561 published networks, each with the costs that its authors count."""

import hashlib
import itertools

import pytest
import timm
import torch
from timm.models import EfficientNet

from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.errors import ArchError
from sgnas_zoo.models.counting import count_macs, count_params
from sgnas_zoo.spaces import SPACES

SPACE = SPACES["nas_bench_macro"]
PUBLISHED = {
    "00000000": (7713280, 387882), "22212202": (85164544, 1985514), "11111111": (53246464, 1588874),
    "21000012": (44188160, 1672234), "10000000": (12128768, 396298), "00200100": (21490176, 584234),
}  # fmt: skip
DIGEST = "cd6147f609b55af7982c8a38a425d0f1879d9668f7d4f4214679a7e88a19ecf6"
"""Of a line "ARCH MACS PARAMS" for each network of the published table, sorted."""


def counted(arch):
    conditions = native_conditions(SPACE)
    return tuple(int(COSTS[cost].table(SPACE, conditions).measure(SPACE.parse(arch))) for cost in ("macs", "params"))


def test_costs_of_all_networks_are_those_of_the_published_table():
    archs = ["".join(picks) for picks in itertools.product("012", repeat=8)]
    lines = ["{} {} {}\n".format(arch, *counted(arch)) for arch in archs]
    assert len(lines) == 6561
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == DIGEST


@pytest.mark.parametrize("arch", PUBLISHED)
def test_the_built_network_has_the_published_costs(arch):
    model = timm.create_model("nas_bench_macro", arch=arch).eval()
    assert isinstance(model, EfficientNet)
    assert (count_macs(model, 32), count_params(model)) == PUBLISHED[arch] == counted(arch)


def test_an_identity_projects_where_the_shape_changes_and_vanishes_elsewhere():
    model = timm.create_model("nas_bench_macro", arch="00000000").eval()
    blocks = [block for stage in model.blocks for block in stage]
    assert [type(block).__name__ for block in blocks] == ["ConvBnAct"] * 3
    x = torch.randn(2, 32, 8, 8)
    with torch.no_grad():
        for block in blocks:
            wanted = block.bn1.weight[:, None, None] * block.conv(x)  # statistics as initialised: mean 0, variance 1
            assert torch.allclose(block(x), wanted / (1 + block.bn1.eps) ** 0.5, atol=1e-5)
            assert (block(x) < 0).any()  # no activation behind it
            x = block(x)


def test_strings_of_other_spaces_are_refused():
    for text in ("2221220", "222122023", "22312202", "2-2-2-1-2-2-0-2-2"):
        with pytest.raises(ArchError):
            timm.create_model("nas_bench_macro", arch=text)
