"""ONNX by torch's current exporter: one file with its weights, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from sgnas_zoo.export.formats import Format, Runner, output_names, readable, trace

OPSET = 20
"""What torch 2.15 writes by itself; ONNX Runtime reads it since 1.17. From 14 on h-swish is one operator."""


def write_onnx(module: nn.Module, example: Tensor, path: str | Path, *, dynamic: bool = False) -> None:
    """Write a module as it is to an ONNX file, as quickly as the exporter can; nothing is checked.

    This is for measuring. A fixed batch takes a third of the time of a dynamic one. The input is named "input".

    Args:
        module: Any module in evaluation mode that takes one tensor, such as a deployed network or a block.
        example: Input on the module's device; its values do not matter.
        path: File to write; one that is there is replaced.
        dynamic: Leave the batch size open; else it is the example's.

    Raises:
        ModelError: If a library is missing or the module cannot be exported.
        OSError: If the disk refuses.
    """
    ONNX.check_installed()
    with readable(f"{type(module).__name__} cannot be exported as onnx", "run it in torch."):
        content = _dump(trace(module, example, dynamic), {})
    Path(path).write_bytes(content)


def _dump(program: ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    exported: Any = torch.onnx.export(
        program,
        (),  # the program knows its example and which of its dimensions are open; this only names the open one
        dynamic_shapes=({0: "batch"},),
        input_names=["input"],
        output_names=output_names(program),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    exported.model.metadata_props.update(metadata)
    content: bytes = exported.model_proto.SerializeToString()
    return content


def _load(path: Path) -> Runner:
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.log_severity_level = 3  # errors only: its warnings go to stderr
    session = InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: [torch.from_numpy(array) for array in session.run(None, {"input": images.numpy()})]


ONNX = Format(
    "onnx", ".onnx", _dump, _load, packages=("onnx", "onnxscript", "onnxruntime"), extra="onnx",
    details={"opset": OPSET},
)  # fmt: skip
