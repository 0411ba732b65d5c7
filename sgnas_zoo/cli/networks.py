"""Networks that commands are told by name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from sgnas_zoo.errors import UntrainedWarning, printable
from sgnas_zoo.terminal import told

if TYPE_CHECKING:
    from torch import nn


def load_named(name: str) -> nn.Module:
    """A model by folder, Hub repo, or a name of this zoo or of timm; its record says where its weights are untrained.

    What lies in a folder or a repo comes with its weights, and so does a name with a tag that has some
    (``resnet18.a1_in1k``), or one of this zoo whose weights are in the package (``sgnas_micro_8m``). Other names come
    with fresh weights.
    """
    from timm.models import is_model_pretrained

    from sgnas_zoo.api.create import create_model, is_model
    from sgnas_zoo.hub.names import read_name
    from sgnas_zoo.models.origin import mark_untrained
    from sgnas_zoo.zoo import zoo_entries

    weighty = read_name(name, is_model) is not None
    weighty |= is_model_pretrained(name) and ("." in name or name in zoo_entries())
    with told():
        warnings.simplefilter("ignore", UntrainedWarning)  # the commands say it at their end
        model = create_model(name, pretrained=weighty).eval()
    if not weighty:
        mark_untrained(model)
    return model


def load_runnable(name: str) -> nn.Module:
    """A model as ``load_named`` finds it, or a file that was exported from one."""
    from sgnas_zoo.api.exported import ExportedModel, is_exported

    return ExportedModel(name) if is_exported(name) else load_named(name)


def say_untrained(models: Mapping[str, nn.Module]) -> None:
    """Say of which models the weights are untrained."""
    from sgnas_zoo.models.origin import caveat

    for name, model in models.items():
        if said := caveat(name, model):
            click.echo(printable(said), err=True)
