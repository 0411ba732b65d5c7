"""Exported files as models: opened in their own runtime, with what they say of the images they take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor, nn

from sgnas_zoo.errors import ArtifactError, ModelError
from sgnas_zoo.export import FORMATS, Format
from sgnas_zoo.export.checks import flat
from sgnas_zoo.hub.model_fields import MAX_CLASSES, Classes, Look, Side, Text
from sgnas_zoo.models.origin import UNTRAINED, mark_untrained
from sgnas_zoo.plain_json import checked, parse_json


class Seen(Look, kw_only=True):
    """What the metadata of a file say of the images and classes of its network; size and classes are needed."""

    input_size: tuple[Side, Side, Side]
    num_classes: Classes
    label_names: Annotated[list[Text], Meta(min_length=1, max_length=MAX_CLASSES)] | None = None


class ExportedModel(nn.Module):
    """A file of ``sgnas_zoo.export`` that is called like the model it was made from. It has no parameters.

    Args:
        path: The file.
        threads: Threads of one operation, where the runtime can be told; 0: as many as it takes by itself.

    Raises:
        ArtifactError: If it is missing, damaged, or was not written by ``sgnas_zoo.export``.
        ModelError: If its runtime is not installed.

    Attributes:
        path: The file.
        format: What it is.
        precision: Number format that it computes in: "float32" or "int8".
        pretrained_cfg: timm's entries that tell how images are prepared, with "label_names".
        num_classes: Number of classes.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        super().__init__()
        self.path = Path(path)
        self.format = _format_of(self.path)
        self.format.check_installed()
        if not self.path.is_file():
            raise ArtifactError(f"{path} does not exist; name a file that `sgnas-zoo export` wrote.")
        try:
            self._run, metadata = self.format.load(self.path, threads)
        except Exception as error:  # runtimes have no common base class
            raise ArtifactError(f"{path} is damaged or not a file of {self.format.name}; export it again.") from error
        try:
            stated = parse_json(metadata["pretrained_cfg"])
            seen = checked(stated, Seen)
        except (KeyError, ValueError, RecursionError) as error:
            raise ArtifactError(
                f"{path} does not say which images it takes; export it with `sgnas-zoo export`."
            ) from error
        self.precision = metadata.get("precision", "float32")
        self.num_classes = seen.num_classes
        stated |= {
            name: tuple(stated[name]) for name in ("input_size", "mean", "std") if name in stated
        }  # as timm does
        self.pretrained_cfg: dict[str, Any] = {
            "architecture": self.path.name, "classifier": None, "first_conv": None, "pool_size": None, **stated
        }  # fmt: skip
        if metadata.get("weights") == UNTRAINED:
            mark_untrained(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, channels, height, width), computed on the CPU.

        Raises:
            ModelError: If the file gives anything else.
        """
        device, images = images.device, images.detach().to("cpu", torch.float32).contiguous()
        outputs = [flat(self._run(some)) for some in torch.split(images, len(images) if self.format.dynamic else 1)]
        if any(len(output) != 1 or output[0].ndim != 2 for output in outputs):
            raise ModelError(f"{self.path} does not classify: it gives features; name a file of a classifier.")
        return torch.cat([output[0] for output in outputs]).clone().to(device)


def is_exported(name: str | Path) -> bool:
    """Whether a name reads as an exported file: it has the suffix of a format, and is not a folder."""
    return Path(name).suffix in {FORMATS[format_].suffix for format_ in FORMATS} and not Path(name).is_dir()


def _format_of(path: Path) -> Format:
    """The format that a file's name promises.

    Raises:
        ArtifactError: If it promises none.
    """
    found = {FORMATS[name].suffix: FORMATS[name] for name in FORMATS}
    if path.suffix not in found:
        raise ArtifactError(f"{path} does not read as an exported file; name one that ends in {', '.join(found)}.")
    return found[path.suffix]
