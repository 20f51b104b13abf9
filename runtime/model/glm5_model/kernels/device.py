"""The devices that there are kernels for, and whether this process has them."""

import importlib

import torch

from glm5_model.errors import DeviceError

_CURE = "set the role's accelerator (in a settings file: device) to what its machine has; cpu always works"


def device_of(name: str) -> torch.device:
    """Return the device called `name`: "cpu", "cuda" or "npu", with or without an index.

    Everything of the mathematics is plain torch, so the same kernels serve all three; with `invariant` the self-test
    decides whether the device's library can keep the promise.

    Raises:
        DeviceError: there are no kernels for it, or this process has no such device.
    """
    kind, _, index = name.partition(":")
    if kind not in _MISSING or (index and not index.isdecimal()):
        raise DeviceError(f"device {name!r}: there are kernels for {', '.join(_MISSING)} only; {_CURE}")
    if why := _MISSING[kind]():
        raise DeviceError(f"device {name!r} is not here: {why}; {_CURE}")
    count = 1 if kind == "cpu" else torch.get_device_module(kind).device_count()
    if index and int(index) >= count:
        raise DeviceError(f"device {name!r} is not here: this process sees {count} of that kind, from 0 on; {_CURE}")
    return torch.device(name)


def _no_cpu() -> str:
    return ""


def _no_cuda() -> str:
    """Return why there is no NVIDIA device, or an empty string."""
    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA, install a build with it"
    return f"torch {torch.__version__} finds no NVIDIA device or driver (see nvidia-smi)"


def _no_npu() -> str:
    """Return why there is no Ascend device, or an empty string; torch_npu adds the device to torch when imported."""
    if hasattr(torch, "npu"):
        return "" if torch.npu.is_available() else "torch_npu finds no Ascend device or driver (see npu-smi info)"
    try:
        importlib.import_module("torch_npu")
    except ImportError as error:
        return f"torch_npu cannot be imported ({error}), install the one for torch {torch.__version__}"
    return _no_npu()


_MISSING = {"cpu": _no_cpu, "cuda": _no_cuda, "npu": _no_npu}
