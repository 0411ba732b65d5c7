"""A budget holds on the built model whatever keyword of timm comes with it, or the request is refused."""

import inspect
import random

import pytest
import timm
import torch
from timm.models import EfficientNet, ResNet, build_model_with_cfg
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sgnas_zoo.api.checks import COST_NEUTRAL
from sgnas_zoo.costs import COSTS, native_conditions
from sgnas_zoo.errors import ZooError
from sgnas_zoo.models.shufflenet import ShuffleNet
from sgnas_zoo.spaces import SPACES

BITS = SPACES["resnet_micro_bits"].sample(random.Random(0))
BUDGETS = {
    "sgnas": {"space": "sgnas_micro", "flops": 2e6, "params": 9e4},
    "resnet_micro_bits": {
        "arch": str(BITS),
        "params": COSTS["params"].table(BITS.space, native_conditions(BITS.space)).measure(BITS),
    },
}


class Heavy(nn.Module):
    """A layer of many parameters and MACs in the place of another one."""

    def __init__(self, *args, **kwargs):
        super().__init__()
        self.extra = nn.Linear(300, 300)

    def forward(self, x, *_):
        return x + self.extra(x.new_zeros(1, 300)).mean()


class HeavyNorm(nn.BatchNorm2d):
    """A batch norm with a weight of its own for nothing."""

    def __init__(self, channels, **kwargs):
        super().__init__(channels)
        self.extra = nn.Linear(300, 300)


DEARER = {
    "num_classes": 5000,
    "in_chans": 300,
    "num_features": 5000,
    "stem_size": 320,
    "stem_kernel_size": 11,
    "stem_stride": 1,
    "fix_stem": True,
    "output_stride": 8,
    "pad_type": "same",
    "act_layer": Heavy,
    "norm_layer": HeavyNorm,
    "aa_layer": Heavy,
    "se_layer": Heavy,
    "round_chs_fn": lambda channels, *_, **__: channels * 4,
    "drop_rate": 0.9,
    "drop_path_rate": 0.9,
    "drop_block_rate": 0.5,
    "global_pool": "catavgmax",
    "device": "cpu",
    "dtype": torch.float64,
    "block": timm.models.resnet.Bottleneck,
    "block_args": [[{"block_type": "ds", "out_chs": 999}]],
    "layers": (9, 9, 9, 9),
    "stages": [],
    "cardinality": 2,
    "base_width": 256,
    "stem_width": 512,
    "stem_type": "deep",
    "replace_stem_pool": True,
    "block_reduce_first": 2,
    "down_kernel_size": 7,
    "avg_down": True,
    "channels": (512, 512, 512, 512),
    "zero_init_last": False,
    "model_cls": EfficientNet,
    "variant": "efficientnet_b7",
    "pretrained": False,
    "pretrained_cfg": {"num_classes": 5000, "input_size": (3, 32, 32)},
    "pretrained_cfg_overlay": {"num_classes": 5000},
    "model_cfg": {"a": 1},
    "feature_cfg": {"out_indices": (0,)},
    "pretrained_strict": False,
    "pretrained_filter_fn": lambda state, _: state,
    "cache_dir": "nowhere",
    "kwargs_filter": ("num_classes",),
    "pretrained_model_args": {"num_classes": 5000},
    "features_only": True,
    "out_indices": (0, 1),
    "feature_cls": "list",
    "pruned": True,
    "model_name": "efficientnet_b7",
    "checkpoint_path": "",
    "scriptable": True,
    "exportable": True,
    "no_jit": True,
    "bn_eps": 1e-3,
    "bn_momentum": 0.2,
    "bn_tf": True,
    "img_size": 448,
    "drop_connect_rate": 0.2,
    "channel_multiplier": 4.0,
    "depth_multiplier": 4.0,
    "resolution": 32,
}
OVERLAYS = [
    {"input_size": (3, 64, 64)},
    {"input_size": (300, 32, 32)},
    {"input_size": (3, 32, 64)},
    {"global_pool": "catavgmax"},
    {"num_classes": 5000, "input_size": (3, 16, 16)},
    {"fixed_input_size": True},
]


def keywords():
    """Every keyword that timm's constructors and factories, and our ShuffleNet, take."""
    from timm.models._efficientnet_builder import resolve_bn_args

    source = inspect.getsource(resolve_bn_args) + inspect.getsource(build_model_with_cfg)
    popped = {line.split("pop('")[1].split("'")[0] for line in source.splitlines() if "kwargs.pop('" in line}
    takers = (EfficientNet, ResNet, ShuffleNet, build_model_with_cfg, timm.create_model)
    named = {name for taker in takers for name in inspect.signature(taker).parameters} - {"kwargs"}
    return sorted(named | popped)


def counted(model, side, in_chans):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        like = next(model.parameters())
        model.eval()(torch.zeros(1, in_chans, side, side, dtype=like.dtype))
    return {"macs": counter.get_total_flops() // 2, "params": sum(p.numel() for p in model.parameters())}


def check(name, **extra):
    """Whether a model was built; if so, it keeps the budget, and its record says what it has."""
    asked = {**BUDGETS[name], **extra}
    try:
        model = timm.create_model(name, **asked)
    except ZooError:
        return False
    except (TypeError, AssertionError, FileNotFoundError):  # no keyword of this network: timm says so itself
        return False
    side = model.pretrained_cfg["input_size"][1]
    in_chans = next(m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d))
    has = counted(model, side, in_chans)
    assert has["macs"] <= asked.get("flops", float("inf"))
    assert has["params"] <= asked["params"]
    if "flops" in asked:
        assert {key: model.zoo[key] for key in has} == has
        assert model.zoo["resolution"] == side
        assert model.zoo["in_chans"] == in_chans
    return True


def test_every_keyword_of_timm_has_a_value_that_makes_it_dearer():
    assert len(keywords()) >= 50
    assert set(keywords()) <= set(DEARER)


@pytest.mark.parametrize("name", BUDGETS)
def test_no_keyword_breaks_a_budget(name):
    built = {
        keyword: check(name, **{keyword: DEARER[keyword]})
        for keyword in DEARER
        if keyword not in ("model_name", "pretrained")
    }
    assert sum(built.values()) >= 10
    assert sum(not made for made in built.values()) >= 10
    assert built["drop_rate"]
    assert built["dtype"]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("door", ["pretrained_cfg_overlay", "pretrained_cfg"])
def test_no_entry_of_a_pretrained_config_breaks_a_budget(overlay, door):
    whole = {"num_classes": 10, "input_size": (3, 32, 32), "first_conv": "conv_stem", "classifier": "classifier"}
    check("sgnas", **{door: overlay if "overlay" in door else {**whole, **overlay}})


def test_neutral_keywords_are_neutral():
    assert COST_NEUTRAL.issubset(DEARER)
    plain = counted(timm.create_model("sgnas", **BUDGETS["sgnas"]), 32, 3)
    for keyword in COST_NEUTRAL - {"num_classes", "in_chans"}:  # those a budget knows
        model = timm.create_model("sgnas", **BUDGETS["sgnas"], **{keyword: DEARER[keyword]})
        assert counted(model, 32, 3) == plain, keyword


def test_an_inherited_network_is_counted_too():
    with pytest.raises(ZooError, match="pretrained_cfg_overlay"):
        timm.create_model("sgnas", pretrained=True, flops=2e6, space="sgnas_micro",
                          pretrained_cfg_overlay={"input_size": (3, 64, 64)})  # fmt: skip
