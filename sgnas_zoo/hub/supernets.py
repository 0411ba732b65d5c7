"""Supernets as artifacts: weights, what they were trained on, and the images that calibrate what is inherited."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from msgspec import structs
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform
from torch import Tensor, nn

from sgnas_zoo.errors import ArtifactError, ZooError
from sgnas_zoo.files import read_config, sha256, write_json
from sgnas_zoo.hub.artifacts import CONFIG, WEIGHTS, Artifact, brief, fill, invalid_config, read_header, read_weights
from sgnas_zoo.hub.remote import Access
from sgnas_zoo.hub.states import saved_state
from sgnas_zoo.hub.supernet_fields import MAX_RESOLUTION, Config
from sgnas_zoo.plain_json import checked
from sgnas_zoo.plain_torch import plain_torch
from sgnas_zoo.search.generator import GeneratorSource
from sgnas_zoo.spaces import SPACES, Arch, SearchSpace
from sgnas_zoo.supernet import Supernet, calibrate_bn, inherit_model, make_supernet
from sgnas_zoo.zoo import published

FORMAT_VERSION = 1
CALIBRATION, POOL = "calibration.safetensors", "pool.json"
CALIBRATION_BATCH = 128
MAX_IMAGES = 10_000
"""More are refused before anything is allocated."""
HALF_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class TrainedSupernet:
    """A supernet with what is needed to use it.

    Args:
        supernet: The weights, in evaluation mode and frozen.
        resolution: Input side in pixels it was trained at.
        classes: Names of its classes.
        preprocessing: ``mean``, ``std``, ``interpolation`` and ``crop_pct``, as in timm's ``pretrained_cfg``.
        dataset: What it was trained on, as ``LabelledImages.record`` says.
        training: Settings of the training, as plain data.
        calibration: Training images (N, 3, H, W), uint8, for batch norm statistics.
        pool: Candidate pool of greedy sampling, best first; empty after other sampling.
        source: Where it came from, if it was loaded.
    """

    supernet: Supernet
    resolution: int
    classes: tuple[str, ...]
    preprocessing: Mapping[str, Any]
    dataset: Mapping[str, Any]
    training: Mapping[str, Any]
    calibration: Tensor
    pool: tuple[Arch, ...] = ()
    source: GeneratorSource | None = None

    @plain_torch()
    def inherit(self, arch: Arch, **kwargs: Any) -> nn.Module:
        """The timm model of an architecture (search form) with inherited weights and calibrated norms.

        Args:
            arch: An architecture of the supernet's space.
            kwargs: For timm.

        Raises:
            ArchError: If the architecture is of another space.
        """
        kwargs = {"pretrained_cfg_overlay": self.pretrained_cfg(), **kwargs}
        return calibrate_bn(inherit_model(self.supernet, arch, **kwargs), self.calibration_batches())

    def pretrained_cfg(self) -> dict[str, Any]:
        """Entries of timm's pretrained config that say what its networks see and answer."""
        return {
            **self.preprocessing,
            "num_classes": self.supernet.num_classes,
            "label_names": list(self.classes),
            "input_size": (self.supernet.in_chans, self.resolution, self.resolution),
            "pool_size": (-(-self.resolution // self.supernet.space.reduction),) * 2,
        }

    def origin(self) -> dict[str, Any]:
        """Where the weights come from, as plain data for a model's record."""
        source = None if self.source is None else asdict(self.source)
        return {"supernet": source, "dataset": self.dataset["source"], "trained_at": self.resolution}

    def named_origin(self) -> dict[str, Any]:
        """The same for a record that others read: of a folder its name, not where it lies."""
        return {**self.origin(), "supernet": self.source and self.source.named()}

    def caveat(self, macs: Mapping[int, int]) -> str:
        """One line that says what the weights know, where that is not what the space was made for, and what then to do.

        Args:
            macs: MACs of a network of it, by side in pixels.
        """
        costs = " and ".join(f"{count / 1e6:.1f}M MACs at {side} px" for side, count in macs.items())
        space = self.supernet.space
        native = "ImageNet" if space.num_classes == 1000 else f"what {space.name} is made for"
        few = ", ".join(self.classes[:3]) + (", ..." if len(self.classes) > 3 else "")
        return (
            f"These weights were trained on the {self.supernet.num_classes} classes of "
            f"{brief(self.dataset['source'], 100)} ({brief(few, 100)}) at {self.resolution} px, not on {native} "
            f"({space.num_classes} classes, {space.resolution} px); the network has {costs}. Give it such images, "
            "or fine-tune it for classes of your own (recipes/finetune.py)."
        )

    def calibration_batches(self) -> Iterator[Tensor]:
        """The calibration images, preprocessed as for evaluation, where the supernet is."""
        device = next(self.supernet.parameters()).device
        if device not in self._copies:
            self._copies[device] = tuple(batch.to(device) for batch in self._preprocessed)
        return iter(self._copies[device])

    @cached_property
    def _copies(self) -> dict[torch.device, tuple[Tensor, ...]]:
        """The batches by the device that they were copied to, once: a search inherits hundreds of times."""
        return {}

    @cached_property
    @plain_torch()
    def _preprocessed(self) -> tuple[Tensor, ...]:
        """The calibration images in batches of equal weight."""
        transform = create_transform(self.resolution, **self.preprocessing)
        images = self.calibration.permute(0, 2, 3, 1).numpy()
        batches = (
            torch.stack([transform(Image.fromarray(image)) for image in part])
            for part in np.array_split(images, -(-len(images) // CALIBRATION_BATCH))
        )
        return tuple(batch.contiguous(memory_format=torch.channels_last) for batch in batches)  # faster on a CPU


def save_supernet(trained: TrainedSupernet, folder: Path, *, half: bool = True) -> None:
    """Write a supernet artifact into an existing folder, by default in half precision.

    Raises:
        ArtifactError: If it is not for RGB images, which is what calibration images are.
    """
    if trained.supernet.in_chans != 3:
        raise ArtifactError(f"A supernet for {trained.supernet.in_chans} channels cannot be saved; train one for RGB.")
    state = saved_state(trained.supernet)
    if half:  # but for what it cannot hold
        state = {
            name: t.half() if t.is_floating_point() and t.abs().max() < HALF_MAX else t for name, t in state.items()
        }
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    save_file({"images": trained.calibration.contiguous()}, folder / CALIBRATION)
    write_json(
        folder / CONFIG,
        {
            "artifact": "supernet",
            "format_version": FORMAT_VERSION,
            "space": trained.supernet.space.name,
            "num_classes": trained.supernet.num_classes,
            "in_chans": trained.supernet.in_chans,
            "resolution": trained.resolution,
            "classes": list(trained.classes),
            "preprocessing": dict(trained.preprocessing),
            "dataset": dict(trained.dataset),
            "training": dict(trained.training),
            "pool": len(trained.pool),
        },
    )
    if trained.pool:
        write_json(folder / POOL, {"candidates": [str(arch) for arch in trained.pool]})
    load_supernet(folder)  # what does not load is not handed on


@plain_torch()
def load_supernet(folder_or_repo: str | Path, *, revision: str | None = None, token: str | None = None,
                  cache_dir: str | Path | None = None, local_files_only: bool = False) -> TrainedSupernet:  # fmt: skip
    """Load a supernet artifact.

    Args:
        folder_or_repo: A folder, or a Hub repo id with an optional ``@revision``, in any spelling of ``read_name``.
        revision: Branch, tag or commit of a repo.
        token: Hub token; the stored one if left out.
        cache_dir: Hub cache to use.
        local_files_only: Take a repo from the cache without asking the Hub.

    Raises:
        ArtifactError: If it is missing, damaged, of another kind, or of a newer format.
    """
    artifact = Artifact(folder_or_repo, Access(revision, token, cache_dir, local_files_only))
    config = artifact.config("supernet", FORMAT_VERSION)
    trained = _from_config(config, artifact.id)
    weights, images = artifact.weights(), _read_images(artifact.file(CALIBRATION))
    fill(trained.supernet, weights)
    trained.supernet.eval().requires_grad_(False)
    count = config.get("pool", 0)
    pool = _read_pool(artifact.file(POOL), trained.supernet.space, count) if count else ()
    source = GeneratorSource(artifact.id, artifact.commit, sha256(weights))
    return replace(trained, calibration=images, pool=pool, source=source)


@lru_cache(maxsize=4)
def published_supernet(place: str, access: Access = Access()) -> TrainedSupernet:  # noqa: B008  # immutable
    """A supernet that the package names: in one of its own folders, or in a repo.

    Args:
        place: As ``SupernetEntry.supernet``.
        access: How to reach a repo.

    Raises:
        ArtifactError: As ``load_supernet`` does.
    """
    trained = load_supernet(published(place), **access._asdict())
    if trained.source is None or not isinstance(published(place), Path):
        return trained
    return replace(trained, source=replace(trained.source, id=f"sgnas_zoo/{place}"))


def _from_config(config: dict[str, Any], where: str) -> TrainedSupernet:
    """What a config describes, with fresh weights; every field is checked before anything is allocated."""
    try:
        stated = checked(config, Config)
        space = SPACES[stated.space]
        space.check_resolution(stated.resolution)
        with torch.random.fork_rng(devices=[]):
            supernet = make_supernet(space, stated.num_classes, stated.in_chans)
    except (ZooError, ValueError) as error:
        raise invalid_config(where, error) from error
    preprocessing = MappingProxyType(structs.asdict(stated.preprocessing))
    dataset, training = map(MappingProxyType, (config["dataset"], config["training"]))  # with what is free in them
    none = torch.empty(0, dtype=torch.uint8)
    return TrainedSupernet(supernet, stated.resolution, tuple(stated.classes), preprocessing, dataset, training, none)


def _read_images(path: Path) -> Tensor:
    """The calibration images, if they are moderately many: the header is checked before they are read."""
    header = read_header(path)
    if list(header) != ["images"] or not _is_rgb(header["images"][0]) or header["images"][1] != "U8":
        raise ArtifactError(f"{path} does not contain calibration images; fetch the artifact again.")
    return read_weights(path)["images"]


def _read_pool(path: Path, space: SearchSpace, count: int) -> tuple[Arch, ...]:
    """The candidate pool: as many architecture strings as the config says, best first."""
    try:
        candidates = checked(read_config(path).get("candidates"), list[str])
        if len(candidates) != count:
            raise ValueError(f"{len(candidates)} candidates instead of {count}")
        return tuple(space.parse(arch) for arch in candidates)
    except (ValueError, ZooError) as error:
        raise ArtifactError(
            f"{path} does not contain a candidate pool of {space.name} ({brief(error)}); fetch the artifact again."
        ) from error


def _is_rgb(shape: tuple[int, ...]) -> bool:
    """Whether a tensor is a moderate number of RGB images of a moderate size."""
    return (
        len(shape) == 4
        and 0 < shape[0] <= MAX_IMAGES
        and shape[1] == 3
        and all(0 < side <= MAX_RESOLUTION for side in shape[2:])
    )
