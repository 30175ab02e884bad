"""Devices of workers: their number, out-of-memory errors, waiting for a GPU, and threads."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["count_devices", "environment", "free_memory", "is_out_of_memory", "set_threads", "synchronize"]

_LIBRARIES = ("numpy", "torch", "diffusers", "pillow", "pyarrow")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory is short: Python's, NumPy's, or torch's on any device.

    Examples:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes do not fit"))
        (True, False)
    """
    said = str(error).lower()
    known = "out of memory" in said or "can't allocate memory" in said or "not enough memory" in said
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and known)


def free_memory() -> None:
    """Release the GPU memory that torch keeps for later."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def synchronize(like: Any) -> None:
    """Wait until a GPU has finished its work."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(like, torch.Tensor) and like.is_cuda:
        torch.cuda.synchronize(like.device)


def set_threads(count: int) -> None:
    """Set the number of CPU threads of torch; 0 leaves it to torch."""
    torch = sys.modules.get("torch")
    if count and torch is not None:
        torch.set_num_threads(count)


def count_devices(device: str | None) -> int:
    """Return the number of devices of a kind: that of GPUs for "cuda", 1 for a named device and for the CPU.

    Examples:
        >>> count_devices("cpu"), count_devices("cuda:1")
        (1, 1)
    """
    if device != "cuda":
        return 1
    import torch

    return max(1, torch.cuda.device_count())


def environment(like: Any) -> dict[str, Any]:
    """Return what the last bits of samples may depend on besides the run: versions, the device, threads."""
    import dpmsolver

    torch = sys.modules.get("torch")
    found: dict[str, Any] = {"dpmsolver": dpmsolver.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    on_gpu = torch is not None and isinstance(like, torch.Tensor) and like.device.type != "cpu"
    if on_gpu:
        assert torch is not None
        kind = like.device.type
        found["device"] = f"{kind}: {torch.cuda.get_device_name(like.device)}" if kind == "cuda" else kind
    else:
        found["device"] = f"cpu: {platform.machine()}"
        found["threads"] = torch.get_num_threads() if torch is not None else os.environ.get("OMP_NUM_THREADS", "")
    return found
