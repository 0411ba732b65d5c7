"""torch.export's own archive: any torch of the same or a later version runs it, with no code of the model.

In int8 it is for ``torch.compile`` on x86: run as it is, torch computes every step of the rounding by itself.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from sgnas_zoo.export.formats import METADATA, Format, Int8, Opened
from sgnas_zoo.export.pt2e import quantised, quietly


def _dump(program: ExportedProgram, metadata: Mapping[str, str], int8: Int8 | None) -> bytes:
    buffer = io.BytesIO()  # a full disk is then an OSError of ours, not a RuntimeError of torch's
    written = _quantised(program, int8) if int8 else program
    torch.export.save(written, buffer, extra_files=dict(metadata))
    return buffer.getvalue()


def _quantised(program: ExportedProgram, int8: Int8) -> ExportedProgram:
    with quietly():
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer: Any = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    for name in int8.kept:
        quantizer.set_module_name_qconfig(name, None)
    module = quantised(program, quantizer, int8, batch=32)
    return torch.export.export(module, program.example_inputs[0], dynamic_shapes=({0: Dim("batch")},), strict=False)


def _load(path: Path, threads: int) -> Opened:
    if not zipfile.is_zipfile(path):  # torch would tell of it at length, and try older formats
        raise ValueError("not an archive")
    metadata = dict.fromkeys(METADATA, "")  # torch reads only what it is asked for
    program = torch.export.load(path, extra_files=metadata)
    return Opened(program.module(), {name: text for name, text in metadata.items() if text})


PT2 = Format(
    "pt2", ".pt2", _dump, _load, int8_packages=("torchao",), int8_extra="pt2-int8", details={"torch": torch.__version__}
)
