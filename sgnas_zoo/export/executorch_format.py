"""ExecuTorch for phones and boards: float32 operators go to XNNPACK; the batch is 1.

The runtime reads memory as it lies: an input in channels_last gives wrong outputs without an error, so hand it
contiguous images. Its C++ part writes a few lines about the processor to stderr when it starts.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from sgnas_zoo.export.formats import Format, Runner

_WARNINGS = (
    r"(open_text|read_text|read_binary) is deprecated",  # importlib.resources, as executorch 1.5 calls it
    "This API is experimental and subject to change",  # executorch.runtime, on import
)


@contextmanager
def _quietly() -> Iterator[None]:
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


def _dump(program: ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    with _quietly():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        told = dict(metadata)  # methods that answer a constant: the format has no other place for text
        edge: Any = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], constant_methods=told)
        return bytes(edge.to_executorch().buffer)


def _load(path: Path) -> Runner:
    with _quietly():
        from executorch.runtime import Runtime

        method: Any = Runtime.get().load_program(path).load_method("forward")
    return lambda images: method.execute([images.contiguous()])


EXECUTORCH = Format(
    "executorch", ".pte", _dump, _load, packages=("executorch",), extra="executorch", dynamic=False,
    details={"backend": "XNNPACK"},
)  # fmt: skip
