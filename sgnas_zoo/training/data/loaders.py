"""Loaders of labelled images whose pixels depend on nothing but (seed, epoch, index)."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info

from sgnas_zoo.errors import DataError
from sgnas_zoo.training.data.decoding import decode
from sgnas_zoo.training.data.sources import LabelledImages, without_labels
from sgnas_zoo.training.data.transforms import Transform

OnCorrupt = Literal["skip", "fail"]


def mix(*parts: object) -> int:
    """64 well-mixed bits, so that neighbouring seeds, epochs and indices have nothing in common."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


_NUMPY_DRAWS = np.random.MT19937()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed ``random``, NumPy and torch on the CPU, and leave all three as they were.

    NumPy is lent another generator, as to save and set its state takes 90 us (only a second normal number that it may
    have in store is lost). Not :func:`torch.manual_seed`: without a GPU it queues a call for every image.
    """
    states = random.getstate(), get_bit_generator(), torch.get_rng_state()
    set_bit_generator(_NUMPY_DRAWS)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        set_bit_generator(states[1])
        torch.set_rng_state(states[2])


def unreadable(images: LabelledImages, row: int) -> DataError:
    """The error for an image that cannot be read."""
    place = f"row {row} of the split {images.record['split']} of {images.record['source']}"
    return DataError(f"The image in {place} cannot be read; replace it, or skip such images with --on-corrupt skip.")


class _Images:
    """What the two kinds of transformed images have in common."""

    def __init__(self, images: LabelledImages, transform: Transform, seed: int, on_corrupt: OnCorrupt) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed
        self.on_corrupt = on_corrupt
        self.epoch = 0

    def item(self, row: Mapping[str, Any], index: int) -> tuple[Tensor, int] | None:
        """Decode and transform one row."""
        try:
            image = decode(row["image"])
        except Exception as error:  # PIL raises nearly anything on broken bytes
            if self.on_corrupt == "skip":
                return None
            raise unreadable(self.images, index) from error
        with _seeded(mix(self.seed, self.epoch, index)):
            return self.transform(image), int(row["label"])


class TransformedImages(_Images, Dataset[tuple[Tensor, int] | None]):
    """Decodes and transforms; what an item looks like is a pure function of (seed, epoch, index).

    Args:
        images: What to read.
        transform: From a PIL image to a tensor; it may draw from ``random``, NumPy and torch.
        seed: Of the transform.
        on_corrupt: ``skip`` gives ``None`` for an image that cannot be read; ``fail`` raises a ``DataError``.
    """

    def __init__(
        self, images: LabelledImages, transform: Transform, seed: int = 0, on_corrupt: OnCorrupt = "skip"
    ) -> None:
        super().__init__(images, transform, seed, on_corrupt)

    def set_epoch(self, epoch: int) -> None:
        """Draw other pixels, and in a shuffled loader another order, from the next iterator on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.images.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | None:
        return self.item(self.images.rows[index], index)


class TransformedStream(_Images, IterableDataset[tuple[Tensor, int]]):
    """The same for a stream; the index is the running number in the epoch, and what cannot be read is left out.

    Args:
        images: What to read, loaded with ``streaming=True``.
        transform: From a PIL image to a tensor; it may draw from ``random``, NumPy and torch.
        seed: Of the transform, and of the order if shuffled.
        on_corrupt: ``skip`` or ``fail``.
        buffer_size: Rows among which a shuffled stream draws the next.
    """

    def __init__(
        self,
        images: LabelledImages,
        transform: Transform,
        seed: int = 0,
        on_corrupt: OnCorrupt = "skip",
        buffer_size: int = 1000,
    ) -> None:
        super().__init__(images, transform, seed, on_corrupt)
        self.rows = images.rows
        self.buffer_size = buffer_size

    def set_epoch(self, epoch: int) -> None:
        """Draw other pixels, and if shuffled another order, from the next iterator on."""
        self.epoch = epoch
        self.rows.set_epoch(epoch)

    def shuffled(self, seed: int) -> TransformedStream:
        """The same images in an order drawn from (seed, epoch)."""
        stream = copy(self)
        stream.rows = self.rows.shuffle(seed=seed, buffer_size=self.buffer_size)
        return stream

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        worker = get_worker_info()  # datasets gives each worker its own files
        place, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for number, row in enumerate(self.rows):
            if row["label"] in (None, -1):
                raise without_labels(self.images.record["source"], self.images.record["split"], ())
            item = self.item(row, number * step + place)
            if item is not None:
                yield item


class _EpochSampler(Sampler[int]):
    """An order drawn from (seed, epoch); the images hold the epoch, so order and pixels cannot fall apart."""

    def __init__(self, images: Any, seed: int) -> None:
        self.images = images
        self.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on; accelerate tells the sampler or the dataset, depending on the number of processes."""
        self.images.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[int]:
        drawn = torch.Generator().manual_seed(mix("order", self.seed, self.images.epoch))
        yield from torch.randperm(len(self.images), generator=drawn).tolist()


def collate(items: Sequence[tuple[Tensor, int] | None]) -> tuple[Tensor, Tensor, int]:
    """Stack a batch: images, labels, and how many images could not be read.

    Raises:
        DataError: If none could.
    """
    read = [item for item in items if item is not None]
    if not read:
        raise DataError(f"None of the {len(items)} images of a batch can be read; check the dataset.")
    images, labels = zip(*read, strict=True)
    return torch.stack(images), torch.tensor(labels), len(items) - len(read)


def make_loader(
    images: Any,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int = 0,
    workers: int = 0,
    drop_last: bool = False,
) -> DataLoader[tuple[Tensor, Tensor, int]]:
    """Batch images; the batches are a pure function of (seed, epoch), with or without accelerate.

    Give the epoch to the prepared loader (``loader.set_epoch``), or without accelerate to ``loader.dataset``. Streams
    need ``DataLoaderConfiguration(dispatch_batches=False)``; there each process reads the whole stream.

    Args:
        images: What to read: a ``TransformedStream``, ``TransformedImages``, or others that know their epoch.
        batch_size: Of one process.
        shuffle: Draw the order anew each epoch.
        seed: Of the order.
        workers: Processes that decode, for each training process.
        drop_last: Leave out a last batch that is not full.
    """
    if shuffle and isinstance(images, TransformedStream):
        images = images.shuffled(seed)
    return DataLoader(
        images,
        batch_size=batch_size,
        sampler=_EpochSampler(images, seed) if shuffle and not isinstance(images, IterableDataset) else None,
        num_workers=workers,
        collate_fn=getattr(images, "collate", collate),
        drop_last=drop_last,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=partial(_end_with_parent, os.getpid()),
        persistent_workers=False,  # workers that live on would not hear of the next epoch
        generator=torch.Generator().manual_seed(seed),  # else each epoch draws from the global one
    )


def _end_with_parent(parent: int, worker: int) -> None:
    """Let the training process decide when to end: it is often a whole group that gets SIGTERM.

    Only the parent's own SIGTERM ends a worker, to ignore that too would leave the parent waiting for it at its exit;
    or the parent's death, which torch looks for every five seconds, and never sees where it comes before the worker
    first looks.
    """
    if hasattr(signal, "sigwaitinfo"):  # elsewhere nothing tells who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()


def _exit_with(parent: int) -> None:
    sender = None
    while sender != parent and os.getppid() == parent:
        received = signal.sigtimedwait({signal.SIGTERM}, 0.2)
        sender = received.si_pid if received else None
    os._exit(0)


def check_classes(images: LabelledImages, num_classes: int, what: str) -> None:
    """Compare the dataset's classes with a network's.

    Raises:
        DataError: If they differ in number.
    """
    if (count := len(images.classes)) != num_classes:
        fitting = f"choose a dataset with {num_classes} classes or a {what} with {count}"
        raise DataError(f"This dataset has {count} classes, the {what} {num_classes}; {fitting}.")


def check_processes(rows: int, batch_size: int, processes: int, *, drop_last: bool = False) -> None:
    """Check that every process has something to do.

    Raises:
        DataError: If there are fewer rows than processes, or with ``drop_last`` not one whole batch for each.
    """
    if rows < processes:
        raise DataError(f"{rows} images do not fill {processes} processes; use at most {rows} processes.")
    if drop_last and rows < batch_size * processes:
        whole = f"one batch of {batch_size} for each of {processes} processes"
        raise DataError(f"{rows} images do not make {whole}; use a batch size of at most {rows // processes}.")
