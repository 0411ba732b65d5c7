"""SPOS: its blocks, the released networks, and what timm's own tests do not ask of a model class."""

from __future__ import annotations

import pytest
import timm
import torch
from places import REFERENCE
from safetensors.torch import load_file
from torch.testing import assert_close

import sgnas_zoo
from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.errors import ArchError, SpaceError
from sgnas_zoo.models.counting import count_macs, count_params
from sgnas_zoo.models.shufflenet import ShuffleBlock, ShuffleNet
from sgnas_zoo.spaces import SPACES
from sgnas_zoo.spaces.kinds.shuffle import Shuffle
from sgnas_zoo.spaces.spos import BLOCKS

VECTORS = REFERENCE / "spos_block_vectors.safetensors"
NAMES = dict(zip(("shuffle3", "shuffle5", "shuffle7", "xception"), BLOCKS, strict=True))
RELEASED = {"spos": (322.9, 3.56), "spos_channel": (327.9, 3.43)}
OTHER = "20203110010103122013"


def block_of(name: str, stride: int) -> ShuffleBlock:
    """A block as wide as those of the reference vectors."""
    in_chs = 16 if stride == 2 else 32
    return ShuffleBlock(Shuffle(in_chs, 32, stride, NAMES[name], 16), stride).eval()


def shuffled_halves(x: torch.Tensor) -> torch.Tensor:
    """Channel shuffle of two groups as the ShuffleNet papers draw it: reshape, transpose, flatten."""
    batch, channels, height, width = x.shape
    return x.view(batch, channels // 2, 2, height, width).transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_blocks_equal_the_released_ones(name, stride):
    vectors = load_file(VECTORS)
    prefix = f"{name}.s{stride}."
    state = {key.removeprefix(prefix + "state."): t for key, t in vectors.items() if key.startswith(prefix + "state.")}
    block = block_of(name, stride)
    missing, unexpected = block.load_state_dict(state, strict=False)
    assert not unexpected
    assert missing
    assert all(key.endswith((".weight", ".bias")) for key in missing)  # norms are not affine in the released supernet
    x = vectors[prefix + "x"]
    with torch.no_grad():
        assert_close(block(x), vectors[prefix + "eval"], rtol=1e-5, atol=1e-5)
        assert not torch.allclose(block(x.flip(1)), vectors[prefix + "eval"], atol=1e-2)  # the order of channels counts
        block.train()
        assert_close(block(x), vectors[prefix + "train"], rtol=1e-5, atol=1e-5)


def test_the_shuffle_is_the_released_one():
    vectors = load_file(VECTORS)
    x = vectors["channel_shuffle.x"]
    assert torch.equal(x[:, ::2], vectors["channel_shuffle.proj"])
    assert torch.equal(x[:, 1::2], vectors["channel_shuffle.main"])


@pytest.mark.parametrize("name", NAMES)
def test_a_block_splits_what_the_papers_shuffle(name):
    torch.manual_seed(0)
    block, x = block_of(name, 1), torch.randn(2, 32, 9, 9)
    with torch.no_grad():
        kept, worked = shuffled_halves(x).chunk(2, 1)
        expected = torch.cat([kept, block.branch_main(worked)], 1)
        assert torch.equal(block(x), expected)
        assert not torch.equal(block(x), torch.cat([x[:, :16], block.branch_main(x[:, 16:])], 1))


@pytest.mark.parametrize("name", RELEASED)
def test_released_networks_cost_what_was_published(name):
    model = timm.create_model(name)
    macs, params = RELEASED[name]
    assert round(count_macs(model, 224) / 1e6, 1) == macs
    assert round(count_params(model) / 1e6, 2) == params
    assert isinstance(model, ShuffleNet)


@pytest.mark.parametrize("digit", "0123")
def test_uniform_networks_cost_what_was_computed_from_the_released_code(digit):
    space = SPACES["spos"]
    table = COSTS["macs"].table(space, native_conditions(space))
    expected = {"0": 295.8, "1": 313.7, "2": 340.4, "3": 358.8}[digit]
    assert round(table.measure(space.parse(digit * 20)) / 1e6, 1) == expected


def test_any_architecture_by_string():
    model = timm.create_model("spos", arch=OTHER, num_classes=7).eval()
    assert model.classifier.bias is None
    with torch.no_grad():
        assert model(torch.randn(2, 3, 64, 64)).shape == (2, 7)
    dashed = "-".join(OTHER)
    assert SPACES["spos"].parse(dashed) == SPACES["spos"].parse(OTHER)
    assert str(SPACES["spos"].parse(dashed)) == OTHER
    wide, narrow = (sgnas_zoo.create_model("spos_channel", arch="-".join([f"0{w}"] * 20)) for w in "ha")
    assert count_params(wide) > 1.8 * count_params(narrow)


@pytest.mark.parametrize(
    ("name", "arch", "message"),
    [
        ("spos", OTHER[:-1], "spos has 20 layers, this one 19; for example '00000000000000000000'"),
        ("spos", "4" + OTHER[1:], "Layer 1 has '4'; spos takes 0, 1, 2, 3 there"),
        ("spos_channel", OTHER, "spos_channel has 20 layers, this one 1; for example '0a-0a"),
        ("spos_channel", "-".join(["0a"] * 19 + ["0i"]), "Layer 20 has 'i'"),
        ("spos_channel", "-".join(["0a"] * 19 + ["a0"]), "Layer 20 of spos_channel cannot take 'a' in slot 0"),
        ("spos_channel", "-".join(["0a"] * 19 + ["0"]), "Layer 20 '0' decides 1 slots; spos_channel has 2"),
    ],
)
def test_architectures_that_do_not_fit_are_refused(name, arch, message):
    with pytest.raises(ArchError, match=message):
        timm.create_model(name, arch=arch)


@pytest.mark.parametrize("name", RELEASED)
@pytest.mark.parametrize("features_only", [False, True])
def test_the_deploy_form_computes_the_same(name, features_only):
    torch.manual_seed(0)
    model = timm.create_model(name, features_only=features_only).eval()
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, got = model(images), sgnas_zoo.deploy(model)(images)
    for own, other in zip(expected, got, strict=True):
        assert (own - other).abs().max() <= 1e-5 * own.abs().max()
    norms = [m for m in sgnas_zoo.deploy(model).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms == []


@pytest.mark.parametrize(("stride", "size"), [(32, 2), (16, 4), (8, 8)])
def test_output_stride_dilates(stride, size):
    model = timm.create_model("spos", output_stride=stride).eval()
    strided = timm.create_model("spos").eval()
    model.load_state_dict(strided.state_dict())
    with torch.no_grad():
        assert model.forward_features(torch.randn(1, 3, 64, 64)).shape[-2:] == (size, size)
    assert [f["reduction"] for f in model.feature_info][-1] == stride
    assert max(m.dilation[0] for m in model.modules() if isinstance(m, torch.nn.Conv2d)) == 32 // stride


def test_an_output_stride_that_there_is_not():
    with pytest.raises(SpaceError, match="output_stride is 3; choose from 2, 4, 8, 16, 32"):
        timm.create_model("spos", output_stride=3)


def test_dropped_branches_leave_the_other_half():
    torch.manual_seed(0)
    block = ShuffleBlock(Shuffle(32, 32, 1, (3,), 16), drop_path=1 - 1e-9).train()
    x = torch.randn(4, 32, 5, 5)
    out = block(x)
    assert torch.equal(out[:, :16], x[:, ::2])
    assert not out[:, 16:].any()
    rates = [b.drop_path for s in timm.create_model("spos", drop_path_rate=0.2).blocks for b in s]
    assert sum(isinstance(rate, timm.layers.DropPath) for rate in rates) == 16  # four of twenty do not split


@pytest.mark.parametrize("keyword", ["stages", "stem_stride", "stem_size", "num_features", "block_args", "nonsense"])
def test_what_shapes_the_network_is_fixed(keyword):
    with pytest.raises(TypeError):
        timm.create_model("spos", **{keyword: 2})


def test_it_is_saved_and_loaded(tmp_path):
    model = sgnas_zoo.create_model("spos_channel", num_classes=3).eval()
    sgnas_zoo.save_model(model, tmp_path / "model")
    again = sgnas_zoo.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), again(images))
