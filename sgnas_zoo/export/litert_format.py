"""LiteRT (formerly TensorFlow Lite) for phones and microcontrollers; the batch is 1.

A file in int8 takes and gives int8, as microcontrollers want it: an image is divided by the scale of the input, which
the file states, rounded, and moved by its zero point. ``load`` does that for float32 images. The C++ parts write a few
lines to stderr.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from sgnas_zoo.export.formats import METADATA, Format, Int8, Opened
from sgnas_zoo.export.pt2e import quantised


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the converter's progress off stdout, and what it and its own libraries warn of their code."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _dump(program: ExportedProgram, metadata: Mapping[str, str], int8: Int8 | None) -> bytes:
    with _quietly():
        import litert_torch
        from litert_torch.quantize import pt2e_quantizer as pt2e
        from litert_torch.quantize.quant_config import QuantConfig

        module: Any = program.module()
        config = None
        if int8:
            quantizer: Any = pt2e.PT2EQuantizer()
            quantizer.set_global(pt2e.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False))
            quantizer.module_name_config |= dict.fromkeys(
                _as_it_reads(int8.kept)
            )  # its setter refuses None: not at all
            module, config = quantised(program, quantizer, int8, 1, fold=False), QuantConfig(pt2e_quantizer=quantizer)
        converted: Any = litert_torch.convert(module, program.example_inputs[0], quant_config=config)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "network.tflite"
            converted.export(str(path))
            return _with_metadata(path, metadata)


def _as_it_reads(layers: Iterable[str]) -> list[str]:
    """Names of layers, and what the quantizer makes of them where it cuts off a prefix that torch does not write."""
    return [spelt for name in layers for spelt in (name, name[1:].replace("_", "."))]


def _with_metadata(path: Path, metadata: Mapping[str, str]) -> bytes:
    """The content of a file with text added to it, by the schema's own classes."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model: Any = flatbuffer_utils.read_model(str(path))
    model.metadata = model.metadata or []
    for name, text in metadata.items():
        entry, buffer = schema.MetadataT(), schema.BufferT()
        entry.name, entry.buffer = name, len(model.buffers)
        buffer.data = np.frombuffer(text.encode(), dtype=np.uint8)
        model.metadata.append(entry)
        model.buffers.append(buffer)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _load(path: Path, threads: int) -> Opened:
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.tools import flatbuffer_utils

    content = path.read_bytes()
    interpreter: Any = Interpreter(model_content=content, num_threads=threads or None)
    interpreter.allocate_tensors()
    (input_,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    model: Any = flatbuffer_utils.read_model_from_bytearray(content)
    texts = {entry.name.decode(): bytes(model.buffers[entry.buffer].data).decode(errors="replace")
             for entry in model.metadata or [] if entry.name.decode() in METADATA}  # fmt: skip

    def run(images: Tensor) -> list[Tensor]:
        interpreter.set_tensor(input_["index"], _as_stored(images.numpy(), input_))
        interpreter.invoke()
        return [torch.from_numpy(_as_read(interpreter.get_tensor(output["index"]), output)) for output in outputs]

    return Opened(run, texts)


def _as_stored(values: Any, tensor: Mapping[str, Any]) -> Any:
    """float32 as the file wants it."""
    if tensor["dtype"] == np.float32:
        return values
    scale, zero = tensor["quantization"]
    return np.clip(np.round(values / scale) + zero, -128, 127).astype(np.int8)


def _as_read(values: Any, tensor: Mapping[str, Any]) -> Any:
    if tensor["dtype"] == np.float32:
        return values
    scale, zero = tensor["quantization"]
    return (values.astype(np.float32) - zero) * np.float32(scale)


LITERT = Format(
    "litert", ".tflite", _dump, _load, packages=("litert_torch", "ai_edge_litert"), extra="litert", dynamic=False,
)  # fmt: skip
