"""Runtimes: each makes calls that run networks once."""

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


def _modules(parts: Sequence[Part]) -> Iterator[nn.Module]:
    return (module for module, _ in parts)


def _sequential(modules: Sequence[nn.Module]) -> nn.Module:
    return nn.Sequential(*modules)


@dataclass(frozen=True)
class Runtime:
    """Something that runs networks, each as a model of its own kind: torch's are modules.

    Args:
        name: Registry name.
        open: Makes the call from a model of its kind, an example input on the CPU, and the setup.
        packages: Distributions whose versions a profile records.
        memory_format: How it lays out maps: "channels_last" or "channels_first".
        devices: Types of devices it runs on.
        dtypes: Number formats it takes.
        export: Makes its models, in order, of modules with an example each.
        join: Makes one model of several that run one after the other.
    """

    name: str
    open: Callable[[Any, Tensor, Setup], Call]
    packages: tuple[str, ...]
    memory_format: str = "channels_last"
    devices: tuple[str, ...] = ("cpu", "cuda")
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    export: Callable[[Sequence[Part]], Iterator[Any]] = _modules
    join: Callable[[Sequence[Any]], Any] = _sequential

    def prepare(self, module: nn.Module, example: Tensor, setup: Setup) -> Call:
        """Make the call of a module.

        Raises:
            ModelError: If it cannot run it.
        """
        (model,) = self.export([(module, example)])
        return self.open(model, example, setup)

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


def _onnx_models(parts: Sequence[Part]) -> Iterator[Any]:
    from sgnas_zoo.measure.onnx_models import onnx_models

    return onnx_models(parts)


def _joined_onnx(models: Sequence[Any]) -> Any:
    from sgnas_zoo.measure.onnx_models import joined_onnx

    return joined_onnx(models)


def _onnxruntime(model: Any, example: Tensor, setup: Setup) -> Call:
    from sgnas_zoo.export.formats import Int8, readable
    from sgnas_zoo.export.onnx_format import open_onnx, quantised_onnx

    if setup.dtype == "int8":  # the example calibrates, as only times matter
        with readable("A network cannot be quantised to int8", "run it in float32."):
            model = quantised_onnx(model, Int8(example))
    session = open_onnx(model.SerializeToString(), setup.threads)
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
        _onnx_models,
        _joined_onnx,
    ),
):
    RUNTIMES.register(_runtime.name, _runtime)
