"""Exported networks: files that other runtimes run, checked against the network they came from.

To add a format: write ``export/<name>_format.py`` with a ``Format`` that makes bytes of a traced program (``dump``) and
runs a file of them in the format's own runtime (``load``), and register it below. The contract tests in
``tests/export`` then export classifiers and feature extractors with it, and hold it to what every format
promises: the outputs of the original, nothing left behind on failure, no path of this machine in the file. What it
needs beyond torch is an extra in ``pyproject.toml``, named in the format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.export.checks import check, example, float32_on_cpu, resolve_input_size, run
from sgnas_zoo.export.executorch_format import EXECUTORCH
from sgnas_zoo.export.formats import Format, output_names, portable, readable, trace
from sgnas_zoo.export.onnx_format import ONNX, write_onnx
from sgnas_zoo.export.pt2_format import PT2
from sgnas_zoo.files import new_file
from sgnas_zoo.models.deploy import deploy
from sgnas_zoo.models.origin import weights_of
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.registry import Registry

FORMATS: Registry[Format] = Registry("export format")
for _format in (ONNX, PT2, EXECUTORCH):
    FORMATS.register(_format.name, _format)


class Exported(NamedTuple):
    """What an export made.

    Args:
        path: The file.
        format: Registry name of its format.
        error: Largest difference to an output of the original, relative to the largest absolute value of that output;
            over all outputs and the checked batch sizes.
        details: For people and JSON: "input_size" (channels, height, width), "batch" ("dynamic" or a number),
            "outputs" (names; where the format has none, in this order), "memory_format", "weights" (where they come
            from, as the model's record says), and what the format adds.
    """

    path: Path
    format: str
    error: float
    details: dict[str, Any]


@plain_torch()
def export(
    model: nn.Module,
    path: str | Path,
    format: str = "onnx",
    *,
    input_size: tuple[int, int, int] | None = None,
    force: bool = False,
) -> Exported:
    """Export a network's deploy form, run the file in its own runtime, and compare it with the network.

    The file takes float32 images of shape (batch, channels, height, width), normalised as in training, in contiguous
    memory, and gives what the model gives in evaluation mode: logits, or one map for each level of a ``features_only``
    model. It is written beside the target under another name and takes its place once the outputs agree. Its metadata
    says under "weights" where the weights come from: "untrained", "inherited", ..., "unknown".

    Args:
        model: A timm model in float32, on any device and in any mode. It stays as it is.
        path: File to write, in a folder that exists.
        format: "onnx", "pt2" (torch.export) or "executorch" (.pte with XNNPACK, batch 1).
        input_size: Channels, height and width; by default those of the model.
        force: Replace a file that is there.

    Returns:
        The file, its error and its details.

    Raises:
        UnknownNameError: If there is no such format.
        ModelError: If the model cannot be exported, a library is missing, or the file gives other outputs.
        ArtifactError: If something is in the way or the disk refuses. As after every error, nothing is left behind.
    """
    chosen, target = FORMATS[format], Path(path)
    chosen.check_installed()
    _check_suffix(target, chosen)
    if not target.expanduser().parent.is_dir():
        raise ArtifactError(f"There is no folder {target.parent}; make it or choose another.")
    size = resolve_input_size(model, input_size)
    own = ("", chosen.suffix)
    with new_file(target, force=force, ours=lambda file: file.suffix in own, suffix=chosen.suffix) as staging:
        original = float32_on_cpu(model)
        images = [example(size, batch) for batch in ((1, 3) if chosen.dynamic else (1,))]
        expected = [run(original, batch) for batch in images]
        with torch.random.fork_rng(devices=[]):  # a merged convolution is initialised before it gets its weights
            deployed = portable(deploy(original))
        with readable(f"{type(model).__name__} cannot be exported as {format}", "choose another format."):
            program = trace(deployed, images[0], chosen.dynamic)
            staging.write_bytes(chosen.dump(program, {"weights": weights_of(model)}))
        with readable(f"The exported {format} file does not run", "choose another format."):
            runner = chosen.load(staging)
            error = check(runner, images, expected, format)
    details = {
        "input_size": list(size), "batch": "dynamic" if chosen.dynamic else 1, "outputs": output_names(program),
        "memory_format": "contiguous", "weights": weights_of(model), **chosen.details,
    }  # fmt: skip
    return Exported(target, format, error, details)


def _check_suffix(path: Path, chosen: Format) -> None:
    """Refuse a name that promises another format."""
    for name in FORMATS:
        if name != chosen.name and FORMATS[name].suffix == path.suffix != chosen.suffix:
            raise ArtifactError(
                f"{path.name} reads as {name}; name a {chosen.suffix} file or choose the format {name}."
            )


__all__ = ["FORMATS", "Exported", "Format", "export", "write_onnx"]
