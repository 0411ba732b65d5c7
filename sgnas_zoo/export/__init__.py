"""Exported networks: files that other runtimes run, checked against the network they came from.

To add a format: write ``export/<name>_format.py`` with a ``Format`` that makes bytes of a traced program (``dump``),
in int8 too, and runs a file of them in the format's own runtime (``load``), and register it below. The contract tests
in ``tests/export`` then export classifiers and feature extractors with it, and hold it to what every format promises:
the outputs of the original, nothing left behind on failure, no path of this machine in the file. What it needs beyond
torch is an extra in ``pyproject.toml``, named in the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.export.checks import TOLERANCE, agreement, check, example, float32_on_cpu, resolve_input_size, run
from sgnas_zoo.export.executorch_format import EXECUTORCH
from sgnas_zoo.export.formats import Format, Int8, metadata_of, output_names, portable, readable, trace
from sgnas_zoo.export.int8 import check_images, most_sensitive
from sgnas_zoo.export.litert_format import LITERT
from sgnas_zoo.export.onnx_format import ONNX
from sgnas_zoo.export.pt2_format import PT2
from sgnas_zoo.files import new_file
from sgnas_zoo.models.deploy import deploy
from sgnas_zoo.models.origin import weights_of
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.registry import Registry

FORMATS: Registry[Format] = Registry("export format")
for _format in (ONNX, PT2, EXECUTORCH, LITERT):
    FORMATS.register(_format.name, _format)


class Exported(NamedTuple):
    """What an export made.

    Args:
        path: The file.
        format: Registry name of its format.
        error: Largest difference to an output of the original, relative to the largest absolute value of that output;
            over all outputs and the checked images. In int8 it says little: see ``agreement``.
        details: For people and JSON: "input_size" (channels, height, width), "batch" ("dynamic" or a number),
            "outputs" (names; where the format has none, in this order), "memory_format", "weights" (where they come
            from, as the model's record says), "precision", "bytes" (size of the file), and what the format adds.
        agreement: Of a classifier in int8: share of the calibration images, from 0 to 1, for which it names the class
            that the original names.
        kept: Layers that stayed in float32, with what int8 in each alone would cost: ``sensitivities``.
    """

    path: Path
    format: str
    error: float
    details: dict[str, Any]
    agreement: float | None = None
    kept: Mapping[str, float] = {}


@plain_torch()
def export(
    model: nn.Module,
    path: str | Path,
    format: str = "onnx",
    *,
    input_size: tuple[int, int, int] | None = None,
    calibration: Tensor | None = None,
    keep_float: int = 0,
    force: bool = False,
) -> Exported:
    """Export a network's deploy form, run the file in its own runtime, and compare it with the network.

    The file takes float32 images of shape (batch, channels, height, width), normalised as in training, in contiguous
    memory, and gives what the model gives in evaluation mode: logits, or one map for each level of a ``features_only``
    model. It is written beside the target under another name and takes its place once the outputs agree. Its metadata
    says where the weights come from ("untrained", "inherited", ..., "unknown"), how images are prepared and what the
    classes are called: ``METADATA``.

    With calibration images the network is quantised to int8 by the format's own library. Its outputs then differ from
    the original's; how often the two name another class is counted.

    Args:
        model: A timm model in float32, on any device and in any mode. It stays as it is.
        path: File to write, in a folder that exists.
        format: "onnx", "pt2" (torch.export), "executorch" (.pte with XNNPACK, batch 1) or "litert" (.tflite, batch 1).
        input_size: Channels, height and width; by default those of the model.
        calibration: Images (N, channels, height, width) that give the range of every activation, normalised as in
            training; a hundred or more of those that it will see. None: float32.
        keep_float: Number of layers that stay in float32 beside int8: those that it costs most.
        force: Replace a file that is there.

    Returns:
        The file, its error and its details.

    Raises:
        UnknownNameError: If there is no such format.
        ModelError: If the model cannot be exported, a library is missing, or the file gives other outputs.
        ArtifactError: If something is in the way or the disk refuses. As after every error, nothing is left behind.
    """
    chosen, target = FORMATS[format], Path(path)
    chosen.check_installed(int8=calibration is not None)
    _check_suffix(target, chosen)
    if not target.expanduser().parent.is_dir():
        raise ArtifactError(f"There is no folder {target.parent}; make it or choose another.")
    size = resolve_input_size(model, input_size)
    if calibration is not None:
        check_images(calibration, size)
    own, precision = ("", chosen.suffix), "float32" if calibration is None else "int8"
    with new_file(target, force=force, ours=lambda file: file.suffix in own, suffix=chosen.suffix) as staging:
        original = float32_on_cpu(model)
        images = [example(size, batch) for batch in ((1, 3) if chosen.dynamic else (1,))]
        expected = [run(original, batch) for batch in images]
        with torch.random.fork_rng(devices=[]):  # a merged convolution is initialised before it gets its weights
            deployed = portable(deploy(original))
        kept = {} if calibration is None else most_sensitive(deployed, calibration, keep_float)
        int8 = None if calibration is None else Int8(calibration, tuple(kept))
        with readable(f"{type(model).__name__} cannot be exported as {format}", "choose another format."):
            program = trace(deployed, images[0], chosen.dynamic)
            staging.write_bytes(chosen.dump(program, metadata_of(model, size, precision), int8))
        with readable(f"The exported {format} file does not run", "choose another format."):
            runner = chosen.load(staging, 0).run
            error = check(runner, images, expected, format, tolerance=TOLERANCE if int8 is None else inf)
            same = None if int8 is None else agreement(runner, original, int8.images, 32 if chosen.dynamic else 1)
        size_on_disk = staging.stat().st_size
    details = {
        "input_size": list(size), "batch": "dynamic" if chosen.dynamic else 1, "outputs": output_names(program),
        "memory_format": "contiguous", "weights": weights_of(model), "precision": precision, "bytes": size_on_disk,
        **chosen.details,
    }  # fmt: skip
    return Exported(target, format, error, details, same, kept)


def _check_suffix(path: Path, chosen: Format) -> None:
    """Refuse a name that promises another format."""
    for name in FORMATS:
        if name != chosen.name and FORMATS[name].suffix == path.suffix != chosen.suffix:
            raise ArtifactError(
                f"{path.name} reads as {name}; name a {chosen.suffix} file or choose the format {name}."
            )


__all__ = ["FORMATS", "Exported", "Format", "export"]
