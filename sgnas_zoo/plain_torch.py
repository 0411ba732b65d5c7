"""Networks of our own computing (generators, supernets, what is counted) know nothing of what surrounds a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily


@contextmanager
def plain_torch() -> Iterator[None]:
    """Work in float32 on the CPU and without gradients, whatever defaults, devices and modes hold outside.

    Outside may be ``torch.device("meta")``, a default device or type, ``inference_mode`` (whose tensors nobody may
    train on later), autocast, fake tensors, or accelerate's ``init_empty_weights``. What was built in here may be kept
    and used anywhere. It also decorates functions.
    """
    with ExitStack() as stack:
        stack.enter_context(unset_fake_temporarily())  # type: ignore[no-untyped-call, unused-ignore]
        stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for device in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if (dtype := torch.get_default_dtype()) != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        if (patched := nn.Module.register_parameter) is not (own := _torchs_own(patched)):
            nn.Module.register_parameter = own  # type: ignore[method-assign]
            stack.callback(setattr, nn.Module, "register_parameter", patched)
        yield


def _torchs_own(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function below those that ``init_empty_weights`` put round it: each holds the one before in its closure."""
    while function.__module__.startswith("accelerate"):
        function = next(cell.cell_contents for cell in function.__closure__ or () if callable(cell.cell_contents))
    return function
