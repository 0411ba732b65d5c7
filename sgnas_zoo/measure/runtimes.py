"""Runtimes: each makes a call that runs a network's deploy form once."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sgnas_zoo.costs.profile import Setup
from sgnas_zoo.errors import ModelError
from sgnas_zoo.registry import Registry

Call = Callable[[], object]
Part = tuple[nn.Module, Tensor]
"""A module in its deploy form, and an example input on the CPU."""
AT_ONCE = 20
"""Modules that a runtime is given at once, where it prepares several in less time than one by one."""


@dataclass(frozen=True)
class Runtime:
    """Something that runs networks.

    Args:
        name: Registry name.
        prepare: Makes the call from a module in its deploy form, an example input on the CPU, and the setup.
        packages: Distributions whose versions a profile records.
        memory_format: How it lays out maps: "channels_last" or "channels_first".
        devices: Types of devices it runs on.
        dtypes: Number formats it takes.
        prepare_several: Makes the calls of several modules at once, where that is quicker.
    """

    name: str
    prepare: Callable[[nn.Module, Tensor, Setup], Call]
    packages: tuple[str, ...]
    memory_format: str = "channels_last"
    devices: tuple[str, ...] = ("cpu", "cuda")
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    prepare_several: Callable[[Sequence[Part], Setup], list[Call]] | None = None

    def prepare_all(self, parts: Sequence[Part], setup: Setup) -> Iterator[Call]:
        """Make the call of each module, in order.

        Raises:
            ModelError: If it cannot run one.
        """
        if self.prepare_several is None:
            yield from (self.prepare(module, example, setup) for module, example in parts)
            return
        for start in range(0, len(parts), AT_ONCE):
            yield from self.prepare_several(parts[start : start + AT_ONCE], setup)

    def check(self, setup: Setup) -> None:
        """Refuse a setup that it cannot run.

        Raises:
            ModelError: If it cannot, or one of its packages is missing.
        """
        for package in self.packages:
            try:
                importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError as error:
                raise ModelError(
                    f"The runtime {self.name} needs {package}; install it with `pip install 'sgnas-zoo[onnx]'`."
                ) from error
        if setup.device_type not in self.devices:
            raise ModelError(f"{self.name} runs on {' or '.join(self.devices)} here, not on {setup.device_type}.")
        if setup.dtype not in self.dtypes:
            raise ModelError(f"{self.name} takes {' or '.join(self.dtypes)}, not {setup.dtype}; choose one of them.")
        if setup.device_type == "cuda" and not torch.cuda.is_available():
            raise ModelError("There is no CUDA device here; leave out --device, or run on one that has.")

    def versions(self) -> tuple[tuple[str, str], ...]:
        """Names and versions of what runs the networks."""
        return tuple((package, importlib.metadata.version(package)) for package in self.packages)


def _torch(module: nn.Module, example: Tensor, setup: Setup) -> Call:
    dtype: torch.dtype = getattr(torch, setup.dtype)
    module = module.to(setup.device_type, dtype)
    images = example.to(setup.device_type, dtype, memory_format=torch.channels_last)

    def call() -> Any:
        with torch.inference_mode():
            return module(images)

    return call


def _torch_compile(module: nn.Module, example: Tensor, setup: Setup) -> Call:
    compiled: Any = torch.compile(module)
    call = _torch(compiled, example, setup)
    call()
    return call


def _onnxruntime(module: nn.Module, example: Tensor, setup: Setup) -> Call:
    return _onnxruntime_several([(module, example)], setup)[0]


def _onnxruntime_several(parts: Sequence[Part], setup: Setup) -> list[Call]:
    from sgnas_zoo.measure.onnx_models import onnx_models

    models = onnx_models(parts, int8=setup.dtype == "int8")
    return [_session(model, example, setup) for model, (_, example) in zip(models, parts, strict=True)]


def _session(model: bytes, example: Tensor, setup: Setup) -> Call:
    from sgnas_zoo.export.onnx_format import open_onnx

    session = open_onnx(model, setup.threads)
    feed = {session.get_inputs()[0].name: example.numpy()}
    return lambda: session.run(None, feed)


RUNTIMES: Registry[Runtime] = Registry("runtime")
for _runtime in (
    Runtime("torch", _torch, ("torch",)),
    Runtime("torch_compile", _torch_compile, ("torch",)),
    Runtime(
        "onnxruntime",
        _onnxruntime,
        ("onnxruntime", "onnx", "onnxscript"),
        "channels_first",
        ("cpu",),
        ("float32", "int8"),
        _onnxruntime_several,
    ),
):
    RUNTIMES.register(_runtime.name, _runtime)
