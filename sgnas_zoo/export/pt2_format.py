"""torch.export's own archive: any torch of the same or a later version runs it, with no code of the model."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch.export import ExportedProgram

from sgnas_zoo.export.formats import Format, Runner


def _dump(program: ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()  # a full disk is then an OSError of ours, not a RuntimeError of torch's
    torch.export.save(program, buffer, extra_files=dict(metadata))
    return buffer.getvalue()


def _load(path: Path) -> Runner:
    return torch.export.load(path).module()


PT2 = Format("pt2", ".pt2", _dump, _load, details={"torch": torch.__version__})
