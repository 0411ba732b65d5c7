"""A second device without hardware: tensors that say they are elsewhere, compute on the CPU, and have no float64.

It stands for Apple's MPS. torch's own hooks for a backend in Python make it a device like any other: what mixes its
tensors with those of the CPU fails, as there; ``.cpu()`` and ``.to(...)`` are the ways between.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
MOVES = {"aten::_to_copy", "aten::copy_", "aten::_copy_from", "aten::_copy_from_and_resize"}
WIDE = (torch.float64, torch.complex128)


class Elsewhere(torch.Tensor):
    """A tensor on the device; what it holds is on the CPU."""

    @staticmethod
    def __new__(cls, held):
        if held.dtype in WIDE:
            raise TypeError(f"Cannot convert a tensor to {held.dtype}: {NAME} has no float64.")
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.held = held
        return made

    def __repr__(self):
        return f"Elsewhere({self.held})"

    def tolist(self):
        """As plain numbers; torch's own refuses subclasses."""
        return self.held.tolist()

    def new_tensor(self, data, dtype=None):
        """A tensor of plain numbers beside this one; torch's own asks no backend in Python."""
        return torch.tensor(data, dtype=dtype or self.dtype).to(DEVICE)

    def __getitem__(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        parts = tuple(torch.tensor(part).to(DEVICE) if isinstance(part, list) else part for part in parts)
        return super().__getitem__(parts)

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


def compute(func, args, kwargs):
    """Run an operation on what the tensors hold; its outputs are on the device, or on the CPU if moved there."""
    device = None if kwargs.get("device") is None else torch.device(kwargs["device"])
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    if func._schema.name not in MOVES:
        strangers = [t for t in tensors if not isinstance(t, Elsewhere) and t.ndim]
        if strangers and any(isinstance(t, Elsewhere) for t in tensors) and "index" not in func._schema.name:
            raise RuntimeError(f"{func}: expected all tensors on one device, found some on the CPU.")
    inner = tree_map_only(Elsewhere, lambda t: t.held, (args, kwargs))
    if device is not None and device.type == NAME:
        inner[1]["device"] = torch.device("cpu")
    out = func(*inner[0], **inner[1])
    if func._schema.name == "aten::_local_scalar_dense" or (device is not None and device.type != NAME):
        return out
    if func._schema.name == "aten::copy_" and not isinstance(args[0], Elsewhere):
        return args[0]
    return return_and_correct_aliasing(func, args, kwargs, tree_map_only(torch.Tensor, Elsewhere, out))


class Backend:
    """What torch and accelerate ask of a device's module; what it draws comes from the CPU's generator."""

    def __getattr__(self, name):
        answers = {
            "get_rng_state": lambda device=None: torch.get_rng_state(),
            "set_rng_state": lambda state, device=None: None,
            "is_available": lambda: False,  # other tests of this process must not find it by themselves
            "is_initialized": lambda: True,
            "_is_in_bad_fork": lambda: False,
            "manual_seed": lambda seed: None,
            "manual_seed_all": lambda seed: None,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
        }
        if name not in answers:
            raise AttributeError(name)
        return answers[name]


_setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
DEVICE = torch.device(NAME, 0)
_library = torch.library.Library("_", "IMPL", "PrivateUse1")
_library.fallback(lambda func, *args, **kwargs: compute(func, args, kwargs))


class NoFloat64(TorchDispatchMode):
    """Refuses float64 on any device but the CPU: the second one here, or a real one."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        for tensor in tree_flatten(out)[0]:
            if isinstance(tensor, torch.Tensor) and tensor.dtype in WIDE and tensor.device.type not in ("cpu", "meta"):
                raise TypeError(f"{func} made a tensor of {tensor.dtype} on {tensor.device}.")
        return out


def make_tensor(data, *, device=None, make=torch.tensor, **kwargs):
    """What ``torch.tensor`` must be replaced with where the device is used, for the same reason."""
    made = make(data, **kwargs)
    return made if device is None else made.to(device)
