"""Networks and images for exports."""

import pytest
import timm
import torch
from torch import nn

from sgnas_zoo.errors import ModelError
from sgnas_zoo.export import FORMATS

ARCH = "5-5705-5503-303-700005-3003-53075-7"


def tiny(seed=0, **kwargs):
    """A small network with mixed kernels, a skip, and batch norms that have something to fold."""
    torch.manual_seed(seed)
    model = timm.create_model("sgnas", arch=ARCH, space="sgnas_micro", **kwargs)
    disturb(model)
    return model


def disturb(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)


def needs(name, int8=False):
    try:
        FORMATS[name].check_installed(int8)
    except ModelError as error:
        pytest.skip(str(error))


def images(*shape, seed=7):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def message(error):
    """The text of an error, which is one line without terminal codes."""
    text = str(error.value)
    assert len(text.splitlines()) == 1
    assert text.isprintable()
    return text
