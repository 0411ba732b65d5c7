"""ExecuTorch for phones and boards: float32 operators go to XNNPACK; the batch is 1.

The runtime reads memory as it lies: an input in channels_last gives wrong outputs without an error, so hand it
contiguous images. Its C++ part writes a few lines about the processor to stderr when it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from sgnas_zoo.export.formats import Format, Int8, Opened
from sgnas_zoo.export.pt2e import layer_of, quantised, quietly


def _dump(program: ExportedProgram, metadata: Mapping[str, str], int8: Int8 | None) -> bytes:
    with quietly():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        told = dict(metadata)  # methods that answer a constant: the format has no other place for text
        written = _quantised(program, int8) if int8 else program
        edge: Any = to_edge_transform_and_lower(written, partitioner=[XnnpackPartitioner()], constant_methods=told)
        return bytes(edge.to_executorch().buffer)


def _quantised(program: ExportedProgram, int8: Int8) -> ExportedProgram:
    """The program in int8, by the quantizer that comes with XNNPACK: symmetric weights, per output channel."""
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack

    quantizer: Any = xnnpack.XNNPACKQuantizer()
    quantizer.set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True))
    quantizer.set_filter_function(lambda node: layer_of(node) not in int8.kept)
    module = quantised(program, quantizer, int8, batch=1)
    return torch.export.export(module, program.example_inputs[0], strict=False)


def _load(path: Path, threads: int) -> Opened:
    with quietly():
        from executorch.runtime import Runtime

        program: Any = Runtime.get().load_program(path)
        method = program.load_method("forward")
        texts = {name: program.load_method(name).execute([]) for name in program.method_names if name != "forward"}
    metadata = {name: value[0] for name, value in texts.items() if value and isinstance(value[0], str)}
    return Opened(lambda images: method.execute([images.contiguous()]), metadata)


EXECUTORCH = Format(
    "executorch", ".pte", _dump, _load, packages=("executorch",), extra="executorch", dynamic=False,
    details={"backend": "XNNPACK"},
)  # fmt: skip
