"""int8 by torchao's PT2E: a traced program is annotated, calibrated and converted, and stays a program of torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from sgnas_zoo.export.formats import Int8

_WARNINGS = (
    r"(open_text|read_text|read_binary) is deprecated",  # importlib.resources, as executorch 1.5 calls it
    "This API is experimental and subject to change",  # executorch.runtime, on import
)


@contextmanager
def quietly() -> Iterator[None]:
    """Silence what executorch and torchao are known to say of their own code."""

    def keep(record: logging.LogRecord) -> bool:
        return "register_constant() on Enum" not in record.getMessage()

    logger = logging.getLogger("torch.utils._pytree")
    logger.addFilter(keep)
    try:
        with warnings.catch_warnings():
            for message in _WARNINGS:
                warnings.filterwarnings("ignore", message, DeprecationWarning)
            yield
    finally:
        logger.removeFilter(keep)


def quantised(program: ExportedProgram, quantizer: Any, int8: Int8, batch: int, *, fold: bool = True) -> GraphModule:
    """The program as a module that computes in int8 where the quantizer says so, with per-channel weights.

    Args:
        program: Traced network.
        quantizer: torchao's, for the backend that will run it.
        int8: Calibration images; the quantizer knows which layers to leave alone.
        batch: Images that pass at once: 1 where the program was traced so.
        fold: Store weights as integers; else the program rounds them when it runs.
    """
    with quietly():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        prepared = prepare_pt2e(program.module(), quantizer)
        with torch.no_grad():
            for images in torch.split(int8.images, batch):
                prepared(images)
        converted: GraphModule = convert_pt2e(prepared, fold_quantize=fold)
    _forget_unused(converted)
    return converted


def layer_of(node: Node) -> str:
    """Name of the innermost module that a node was traced from."""
    stack = node.meta.get("nn_module_stack") or {}
    names = [str(name) for name, _ in stack.values()]
    return names[-1] if names else ""


def _forget_unused(module: GraphModule) -> None:
    """Drop the float32 weights that int8 ones replaced: an export would write them too."""
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name, _ in [*module.named_parameters(), *module.named_buffers()]:
        if name not in used:
            owner, _, own = name.rpartition(".")
            delattr(module.get_submodule(owner), own)
