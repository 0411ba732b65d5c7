"""ONNX by torch's current exporter: one file with its weights, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from sgnas_zoo.export.formats import Format, Int8, Opened, output_names

OPSET = 20
"""What torch 2.15 writes by itself; ONNX Runtime reads it since 1.17. From 14 on h-swish is one operator."""
CALIBRATION_BATCH = 32


def _dump(program: ExportedProgram, metadata: Mapping[str, str], int8: Int8 | None) -> bytes:
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
    proto: Any = exported.model_proto
    if int8:
        proto = quantised_onnx(proto, int8)
    del proto.graph.value_info[:], proto.metadata_props[:]
    for node in proto.graph.node:  # where in the code it comes from: as long as a small network's weights
        del node.metadata_props[:]
    for name, text in metadata.items():
        proto.metadata_props.add(key=name, value=text)
    content: bytes = proto.SerializeToString()
    return content


def quantised_onnx(proto: Any, int8: Int8) -> Any:
    """The graph in int8 by ONNX Runtime: QDQ, unsigned activations, signed weights per output channel, in 7 bits.

    The eighth bit of a weight overflows on x86 processors without VNNI, which add up pairs of products in 16 bits.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quant_pre_process, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(torch.split(int8.images, CALIBRATION_BATCH))
            self.name = proto.graph.input[0].name

        def get_next(self) -> dict[str, Any] | None:
            images = next(self.batches, None)
            return None if images is None else {self.name: images.numpy()}

    kept = {f"{name}.weight" for name in int8.kept}
    excluded = [node.name for node in proto.graph.node if kept & set(node.input)]
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, done = (Path(folder) / f"{name}.onnx" for name in ("float32", "prepared", "int8"))
        plain.write_bytes(proto.SerializeToString())
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared, done, Images(), per_channel=True, reduce_range=True, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, nodes_to_exclude=excluded,
        )  # fmt: skip
        quantised = onnx.load(done)
    _shorten_names(quantised.graph)
    return quantised


def _shorten_names(graph: Any) -> None:
    """Number nodes, steps and what is passed on: the quantiser's names take a tenth of a small network's file."""
    steps = [tensor for tensor in graph.initializer if tensor.name.endswith(("_scale", "_zero_point"))]
    weights = {tensor.name for tensor in graph.initializer} - {tensor.name for tensor in steps}
    known = {name: name for name in (*weights, *(value.name for value in (*graph.input, *graph.output)))}

    def short(name: str) -> str:
        return known.setdefault(name, f"v{len(known)}") if name else name

    for tensor in steps:
        tensor.name = short(tensor.name)
    for number, node in enumerate(graph.node):
        node.name = f"n{number}"
        for names in (node.input, node.output):
            names[:] = [short(name) for name in names]


def open_onnx(content: bytes | Path, threads: int = 0) -> Any:
    """ONNX Runtime's session of a file or its content, on the CPU.

    Args:
        content: Bytes, or a path.
        threads: Threads of one operation; 0: as many as there are cores.
    """
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only: its warnings go to stderr
    return InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _load(path: Path, threads: int) -> Opened:
    session = open_onnx(path, threads)
    return Opened(
        lambda images: [torch.from_numpy(array) for array in session.run(None, {"input": images.numpy()})],
        dict(session.get_modelmeta().custom_metadata_map),
    )


ONNX = Format(
    "onnx", ".onnx", _dump, _load, packages=("onnx", "onnxscript", "onnxruntime"), extra="onnx",
    details={"opset": OPSET},
)  # fmt: skip
