"""Torch networks run faster: compiled, or in bfloat16. Importing this module does not import torch; calling its functions does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["autocast", "compiled_network", "in_bfloat16"]

Network = Callable[..., Any]


def in_bfloat16(network: Network, device: str) -> Network:
    """The network under torch's autocast in bfloat16. device: its kind, such as "cpu"."""
    return autocast(network, device, "bfloat16")


def autocast(network: Network, device: str, dtype: str) -> Network:
    """The network under torch's autocast. device: its kind, such as "cpu". dtype: "bfloat16" or "float16"."""
    import torch

    def run(x: Any, t: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, getattr(torch, dtype)):
            return network(x, t, **kwargs)

    return run


def compiled_network(network: Network) -> Network:
    """The network through torch.compile. ValueError on the first call where it cannot be compiled, as without a C++ compiler."""
    import torch

    fast = torch.compile(network)

    def run(x: Any, t: Any, **kwargs: Any) -> Any:
        try:
            return fast(x, t, **kwargs)
        except Exception as error:
            # Each stage of the compiler has errors of its own; those of the network pass.
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            raise ValueError(
                f"the network cannot be compiled here ({str(error).splitlines()[0]}): do without compiled=True (--compile)"
            ) from error

    return run
