"""ONNX models of many modules from one export, in memory: most of an export's time is the same for one and for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sgnas_zoo.export.formats import Int8, readable
from sgnas_zoo.export.onnx_format import ONNX, OPSET, quantised_onnx


class _SideBySide(nn.Module):
    """Modules that know nothing of each other, each with an input and an output of its own."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run each on its input."""
        return tuple(part(one) for part, one in zip(self.parts, inputs, strict=True))


def onnx_models(parts: Sequence[tuple[nn.Module, Tensor]], int8: bool = False) -> list[bytes]:
    """Make an ONNX model of each module, for measuring: nothing is checked.

    They are exported side by side as one graph, which is then cut apart.

    Args:
        parts: Modules in evaluation mode that take and give one tensor, each with an example input, whose shape is
            fixed.
        int8: Quantise them; the example calibrates, as only times matter.

    Returns:
        The content of an ONNX file for each. Its input and its output are numbered: "input_3", "output_3".

    Raises:
        ModelError: If a library is missing or a module cannot be exported.
    """
    ONNX.check_installed()
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
        models = [cut.extract_model([before], [after]) for before, after in names]
        if int8:
            models = [quantised_onnx(model, Int8(example)) for model, example in zip(models, examples, strict=True)]
        return [model.SerializeToString() for model in models]
