"""What a format is, and the traced program that every format starts from."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from sgnas_zoo.errors import ModelError, ZooError
from sgnas_zoo.models.origin import weights_of

Runner = Callable[[Tensor], Any]
"""Runs an exported file: images of shape (batch, channels, height, width) in, a tensor or a collection of them out."""


METADATA = ("weights", "precision", "pretrained_cfg")
"""What every file says of its network: see ``metadata_of``."""
LOOK = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode", "num_classes", "label_names")
"""Entries of timm's ``pretrained_cfg`` that tell how images are prepared, and what the answers mean."""


class Opened(NamedTuple):
    """A file that was opened in its runtime.

    Args:
        run: Runs it.
        metadata: What was written into it, as text by name.
    """

    run: Runner
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Int8:
    """How a network is quantised to int8.

    Args:
        images: Calibration images of shape (N, channels, height, width), normalised as in training. They give the range
            of every activation.
        kept: Names of the convolutions and linear layers that stay in float32.
    """

    images: Tensor
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A kind of file that networks are exported to.

    Args:
        name: Registry name.
        suffix: Of its files, with the dot.
        dump: Makes the content of a file, with metadata in it: of a float32 network, or quantised to int8 if it is told
            how.
        load: Opens a file in the format's own runtime, as its users will, for a number of threads; 0: as many as it
            takes by itself. torch and ExecuTorch have one number for the process.
        packages: What it imports beyond torch.
        extra: The extra of this distribution that installs them.
        int8_packages: What it imports besides to quantise.
        int8_extra: The extra that installs those.
        dynamic: Whether its files take any batch size; else batch 1.
        details: What else there is to say of its files.
    """

    name: str
    suffix: str
    dump: Callable[[ExportedProgram, Mapping[str, str], Int8 | None], bytes]
    load: Callable[[Path, int], Opened]
    packages: tuple[str, ...] = ()
    extra: str = ""
    int8_packages: tuple[str, ...] = ()
    int8_extra: str = ""
    dynamic: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)

    def check_installed(self, int8: bool = False) -> None:
        """Refuse the format where a package is missing.

        Args:
            int8: Whether it is to quantise.

        Raises:
            ModelError: If one is.
        """
        for packages, extra, what in (
            (self.packages, self.extra, self.name),
            (self.int8_packages if int8 else (), self.int8_extra, f"{self.name} in int8"),
        ):
            missing = [package for package in packages if importlib.util.find_spec(package) is None]
            if missing:
                raise ModelError(f"Exporting to {what} needs {' and '.join(missing)}: pip install 'sgnas-zoo[{extra}]'")


def metadata_of(model: nn.Module, size: tuple[int, int, int], precision: str) -> dict[str, str]:
    """What a file says of its network, as text by name.

    Args:
        model: A timm model.
        size: Channels, height and width of the images.
        precision: Number format that it computes in: "float32" or "int8".

    Returns:
        "weights" (where they come from), "precision", and "pretrained_cfg": JSON of timm's entries that tell how images
        are prepared and what the classes are called.
    """
    stated: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    look = {name: stated[name] for name in LOOK if stated.get(name) is not None}
    look |= {"input_size": size, "num_classes": int(getattr(model, "num_classes", 0))}
    return {"weights": weights_of(model), "precision": precision, "pretrained_cfg": json.dumps(look)}


def trace(module: nn.Module, images: Tensor, dynamic: bool) -> ExportedProgram:
    """Trace a network with ``torch.export``, without the paths of this machine's source files.

    Args:
        module: In evaluation mode.
        images: Example input; its values do not matter.
        dynamic: Leave the batch size open.
    """
    if dynamic and len(images) < 2:  # torch.export takes a batch of 1 for a constant
        images = torch.cat([images, images])
    shapes = ({0: Dim("batch")},) if dynamic else None
    program = torch.export.export(module, (images,), dynamic_shapes=shapes, strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def output_names(program: ExportedProgram) -> list[str]:
    """Names of a program's outputs: "logits" for a tensor, "features_0" and so on for a collection."""
    spec = program.call_spec.out_spec
    if spec is None or spec.is_leaf():
        return ["logits"]
    return [f"features_{number}" for number in range(spec.num_leaves)]


def portable(module: nn.Module) -> nn.Module:
    """Prepare a network for any format, in place: contiguous weights, activations that do not overwrite their input.

    torch.export.save warns of weights in channels_last and XNNPACK refuses them. An activation in place doubles the
    time that the decomposition for ONNX takes, and changes no output.
    """
    part: Any
    for part in module.modules():
        if getattr(part, "inplace", False):
            part.inplace = False
    return module.to(memory_format=torch.contiguous_format)


@contextmanager
def readable(what: str, then: str) -> Iterator[None]:
    """Make one line of whatever a foreign library raises: what failed, what its cause says first, the next step.

    Raises:
        ModelError: For anything but an error of this library or of the disk, which pass.
    """
    try:
        yield
    except (ZooError, OSError):
        raise
    except Exception as error:  # exporters and runtimes have no common base class
        source: BaseException = error
        while source.__cause__ is not None:  # what exporters wrap it in tells how to report a bug
            source = source.__cause__
        lines = re.sub(r"\x1b\[[0-9;]*m", "", str(source)).split("\n")
        said = next((line.strip() for line in lines if line.strip()), type(source).__name__)
        raise ModelError(f"{what} ({said[:200]}); {then}") from error
