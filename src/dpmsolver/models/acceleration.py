"""Torch networks run faster: compiled, or in bfloat16. Importing this module does not import torch; calling its functions does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["compiled_network", "in_bfloat16"]

Network = Callable[..., Any]


def in_bfloat16(network: Network, device: str) -> Network:
    """The network under torch's autocast. device: its kind, such as "cpu"."""
    import torch

    def run(x: Any, t: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, torch.bfloat16):
            return network(x, t, **kwargs)

    return run


def compiled_network(network: Network) -> Network:
    """The network through torch.compile. ValueError on the first call where it cannot be compiled, as without a C++ compiler.

    The weights of a module on a GPU are laid out with the channels last, in which its convolutions are fastest.
    """
    import torch

    module = getattr(network, "module", network)
    if isinstance(module, torch.nn.Module) and any(weight.is_cuda for weight in module.parameters()):
        module.to(memory_format=torch.channels_last)
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
