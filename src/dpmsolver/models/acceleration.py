"""Faster torch networks: compiled, or in bfloat16. Importing this module does not import torch; calling its functions does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["autocast", "compiled_network", "in_bfloat16"]

Network = Callable[..., Any]


def in_bfloat16(network: Network, device: str) -> Network:
    """Return the network under torch's autocast in bfloat16. `device` is the kind of its device, such as "cpu"."""
    return autocast(network, device, "bfloat16")


def autocast(network: Network, device: str, dtype: str) -> Network:
    """Return the network under torch's autocast. `device` is the kind of its device, such as "cpu"; `dtype` is "bfloat16" or "float16"."""
    import torch

    def run(x: Any, t: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, getattr(torch, dtype)):
            return network(x, t, **kwargs)

    return run


def compiled_network(network: Network) -> Network:
    """Return the network compiled by torch.compile. The first call raises ValueError if it cannot be compiled, as without a C++ compiler.

    A batch smaller than the largest one so far is filled up to that size, because the compiler would start again for every other size, and
    one time becomes one for each sample. The weights of a module on a GPU are laid out with the channels last, for which its convolutions
    are fastest.
    """
    import torch

    module = getattr(network, "module", network)
    if isinstance(module, torch.nn.Module) and any(weight.is_cuda for weight in module.parameters()):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fast, largest = torch.compile(network), 0

    def run(x: Any, t: Any, **kwargs: Any) -> Any:
        nonlocal largest
        size = len(x)
        largest = max(largest, size)

        def filled(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or not value.ndim or len(value) != size or size == largest:
                return value
            return torch.cat([value, value[:1].expand(largest - size, *value.shape[1:])])

        times = t.expand(size) if isinstance(t, torch.Tensor) and t.numel() == 1 else t
        try:
            return fast(filled(x), filled(times), **{name: filled(value) for name, value in kwargs.items()})[:size]
        except Exception as error:
            # Each stage of the compiler has errors of its own; those of the network pass.
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            raise ValueError(
                f"the network cannot be compiled here ({str(error).splitlines()[0]}): do without compiled=True (--compile)"
            ) from error

    return run
