"""Batch norm statistics for one subnet: those of the supernet are averages over all that it trained."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sgnas_zoo.errors import DataError


@torch.no_grad()
def calibrate_bn(model: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Re-estimate the running statistics of every batch norm on some images (SPOS, 1904.00420, section 3).

    The statistics become plain means over the batches. Everything but the norms stays in evaluation mode, so that
    dropout does not enter them; ``torch.optim.swa_utils.update_bn`` would train all of it.

    Args:
        model: A model with its own weights, such as one inherited from a supernet; changed in place.
        batches: Image batches (N, C, H, W), preprocessed as the model expects, on its device.

    Returns:
        The model, in evaluation mode.

    Raises:
        DataError: If there is no batch, or one of a single image that leaves one value per channel.
    """
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches instead of a moving one
        norm.train()
    count = 0
    try:
        for count, images in enumerate(batches, start=1):  # noqa: B007
            model(images)
    except ValueError as error:  # torch's only objection in training mode
        raise DataError(f"Cannot calibrate with {len(images)} image(s) in a batch: {error}; give more.") from error
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    if not count:
        raise DataError("There are no images to calibrate with; give at least one batch.")
    return model
