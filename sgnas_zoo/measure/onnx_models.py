"""ONNX models of many modules from few exports, in memory, and whole networks that are joined from them.

An export takes nearly as long for one module as for twenty, and a whole network takes seconds. Joined from models that
are there already, it takes a fraction of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from sgnas_zoo.export.formats import readable
from sgnas_zoo.export.onnx_format import ONNX, OPSET

AT_ONCE = 20
"""Modules in one export."""


class _SideBySide(nn.Module):
    """Modules that know nothing of each other, each with an input and an output of its own."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run each on its input."""
        return tuple(part(one) for part, one in zip(self.parts, inputs, strict=True))


def onnx_models(parts: Sequence[tuple[nn.Module, Tensor]]) -> Iterator[Any]:
    """Make an ONNX model of each module, for measuring: nothing is checked.

    Args:
        parts: Modules in evaluation mode that take and give one tensor, each with an example input, whose shape is
            fixed; no two share one, as the exporter would make one input of both.

    Returns:
        An ``onnx.ModelProto`` for each, in order. Its input and its output are numbered: "input_3", "output_3".

    Raises:
        ModelError: If a library is missing or a module cannot be exported.
    """
    ONNX.check_installed()
    for start in range(0, len(parts), AT_ONCE):
        yield from _exported_together(parts[start : start + AT_ONCE])


def _exported_together(parts: Sequence[tuple[nn.Module, Tensor]]) -> list[Any]:
    """Models of modules that are exported side by side as one graph, which is then cut apart."""
    from onnx.utils import Extractor

    modules, examples = zip(*parts, strict=True)
    names = [(f"input_{number}", f"output_{number}") for number in range(len(parts))]
    with readable(f"{type(modules[0]).__name__} cannot be exported as onnx", "run it in torch."):
        program = torch.export.export(_SideBySide(modules).eval(), examples, strict=False)
        exported: Any = torch.onnx.export(
            program,
            (),
            input_names=[name for name, _ in names],
            output_names=[name for _, name in names],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        cut = Extractor(exported.model_proto)
        return [cut.extract_model([before], [after]) for before, after in names]


def joined_onnx(models: Sequence[Any]) -> Any:
    """One ONNX model that runs several, each on the output of the one before.

    Args:
        models: Of ``onnx_models``; one may stand there more than once.
    """
    from onnx.compose import add_prefix, merge_graphs
    from onnx.helper import make_model

    def after(so_far: Any, graph: Any) -> Any:
        return merge_graphs(so_far, graph, [(so_far.output[0].name, graph.input[0].name)])

    graphs = [add_prefix(model, f"{place}/").graph for place, model in enumerate(models)]
    like = models[0]  # merge_models of onnx.compose does the same, but checks all that there is at every step
    return make_model(reduce(after, graphs), ir_version=like.ir_version, opset_imports=like.opset_import)
