"""Engines, which draw the shards by `drawing.Artist`: in this process, in processes of their own, or on Ray."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from dpmsolver.errors import unknown
from dpmsolver.generation.engines.base import Engine
from dpmsolver.generation.engines.inline import Inline

__all__ = ["Engine", "EngineName", "Inline", "engine_of"]

EngineName: TypeAlias = Literal["inline", "processes", "ray"]


def engine_of(
    name: str, workers: int | None = None, device: str | None = None, threads: int = 0, address: str | None = None
) -> Engine:
    """Return the engine of a name.

    Args:
        name: "inline", "processes" or "ray".
        workers: the number of workers; by default one per GPU, or one on a CPU ("ray": one for each GPU or group of cores of the cluster).
        device, threads: the device and the CPU threads of a worker.
        address: the address of a Ray cluster; by default one is started here.

    Raises:
        ValueError: the name is unknown, the number of workers is impossible, or an address is given for another engine.
    """
    if name not in get_args(EngineName):
        raise ValueError(unknown("engine", name, get_args(EngineName)))
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers is an integer >= 1, got {workers!r}")
    if address is not None and name != "ray":
        raise ValueError(f"address={address!r} is of a Ray cluster, and the engine is {name!r}: take engine='ray'")
    if name == "inline":
        if workers not in (None, 1):
            raise ValueError(
                f"workers={workers} are for the engines 'processes' and 'ray': 'inline' draws in this process"
            )
        return Inline()
    settings: dict[str, Any] = {"workers": workers, "device": device, "threads": threads}
    if name == "processes":
        from dpmsolver.generation.engines.processes import Processes

        return Processes(**settings)
    from dpmsolver.generation.engines.on_ray import OnRay

    return OnRay(**settings, address=address)
