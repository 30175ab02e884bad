"""Networks of EDM and EDM2: net(x, sigma, class_labels) -> denoised x."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpmsolver import backends
from dpmsolver.backends.arrays import moved_to
from dpmsolver.errors import PlanError, unknown
from dpmsolver.grids import GRIDS, Grid
from dpmsolver.host import to_host
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.fingerprint import like_weights
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.networks.research.attributes import attribute, require_callable
from dpmsolver.schedules import EDM, Floats, NoiseSchedule

__all__ = ["edm", "rounded"]

_WHAT = "net must be a preconditioned network of EDM or EDM2, called as net(x, sigma, class_labels)"


def edm(
    net: Callable[..., Any],
    class_labels: Any,
    *,
    sigma_min: float,
    sigma_max: float,
    gnet: Callable[..., Any] | None,
    guidance: float,
    network_kwargs: Mapping[str, Any] | None,
) -> Denoiser:
    """Return the denoiser of a network of EDM: see `Denoiser.edm`."""
    require_callable(net, _WHAT)
    for each in ("img_resolution", "label_dim"):
        attribute(net, each, _WHAT)
    like = like_weights(net)
    schedule = EDM(*_range(net, sigma_min, sigma_max, like))
    labels = _one_hot(class_labels, int(attribute(net, "label_dim", _WHAT)), like)
    kwargs = dict(network_kwargs or {})
    # Its forward casts to float32 first: half weights must not take digits from x before.
    weights = None if like is None else str(like.dtype).rpartition(".")[2]
    dtype = "float32" if weights in ("float16", "bfloat16") else weights
    if guidance == 1.0 or gnet is None:
        if guidance != 1.0:
            raise PlanError(f"guidance={guidance} needs the network that guides: give gnet=…")
        network: Callable[..., Any] = net
        steering = None
    else:
        require_callable(gnet, "gnet must be a preconditioned network like net")
        network = _Pair(net, gnet)
        steering = ClassifierFree(guidance, {"guide": False}, {"guide": True}, batched=False)
    if labels is not None:
        kwargs["class_labels"] = labels
    return Denoiser(network, schedule, "data", network_kwargs=kwargs, guidance=steering, dtype=dtype)


def rounded(net: Any, grid: str | Grid = "karras") -> Grid:
    """Return a grid that rounds its times to the noise levels that a network was trained on, like EDM's sampler for iDDPM's networks.

    Args:
        net: a network with `round_sigma`.
        grid: the grid whose times are rounded, a name or a function.

    Raises:
        PlanError: the network has no `round_sigma`, or the grid is unknown.

    Examples:
        >>> import numpy as np
        >>> from dpmsolver.schedules import EDM
        >>> from types import SimpleNamespace
        >>> net = SimpleNamespace(round_sigma=lambda sigma: np.round(sigma))  # trained on whole numbers
        >>> rounded(net, "karras")(EDM(0.5, 80.0), 4, 80.0, 1.0)
        array([80., 34., 13.,  4.,  1.])
    """
    require_callable(
        attribute(net, "round_sigma", "net must be a network of EDM"), "net.round_sigma must be a function of sigma"
    )
    if isinstance(grid, str) and grid not in GRIDS:
        raise PlanError(unknown("grid", grid, GRIDS, "dpm.grids.GRIDS"))
    function: Any = GRIDS[grid] if isinstance(grid, str) else grid
    like = like_weights(net)

    def on_levels(schedule: NoiseSchedule, steps: int, start: float, end: float, **options: Any) -> Floats:
        times: Floats = np.array(function(schedule, steps, start, end, **options), dtype=np.float64)
        noisy = times > 0.0
        times[noisy] = _levels(net, times[noisy], like)
        return times

    on_levels.takes_last = getattr(function, "takes_last", False)  # type: ignore[attr-defined]
    return on_levels


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two networks as one: the one that is guided, and the one that guides."""

    net: Callable[..., Any]
    gnet: Callable[..., Any]

    def __call__(self, x: Any, sigma: Any, guide: bool, **kwargs: Any) -> Any:
        return (self.gnet if guide else self.net)(x, sigma, **kwargs)


def _levels(net: Any, sigmas: Floats, like: Any) -> Floats:
    """The noise levels nearest to some that a network was trained on, if it was trained on particular ones."""
    if not callable(getattr(net, "round_sigma", None)):
        return sigmas
    backend = None if like is None else backends.of(like)
    return to_host(net.round_sigma(sigmas if backend is None else backend.from_numpy(sigmas, like, backend.xp.float64)))


def _range(net: Any, low: float, high: float, like: Any) -> tuple[float, float]:
    """The noise levels of runs: those asked for, as far as the network supports them, rounded to its own."""
    lowest, highest = float(getattr(net, "sigma_min", 0.0)), float(getattr(net, "sigma_max", np.inf))
    if not 0.0 < max(low, lowest) < min(high, highest):
        raise PlanError(
            f"sigma_min={low:g} and sigma_max={high:g} leave nothing of the noise levels that net supports, {lowest:g} to {highest:g}"
        )
    ends = _levels(net, np.array([max(low, lowest), min(high, highest)]), like)
    return float(ends[0]), float(ends[1])


def _one_hot(class_labels: Any, label_dim: int, like: Any) -> Any:
    """Labels as the network takes them: one row per sample, (B, label_dim); class numbers become rows of zeros with a one."""
    if class_labels is None:
        return None
    if label_dim == 0:
        raise PlanError("net has label_dim=0 and knows no classes: drop class_labels")
    values = to_host(class_labels)
    if values.ndim == 1:
        if not np.all((values >= 0) & (values < label_dim) & (values == np.round(values))):
            raise PlanError(f"class_labels must be class numbers from 0 to {label_dim - 1}, got {values.tolist()}")
        rows: Any = np.eye(label_dim, dtype=np.float32)[values.astype(np.int64)]
        beside = like if like is not None else class_labels
        if isinstance(beside, (list, tuple)):
            return rows
        backend = backends.of(beside)
        return backend.from_numpy(rows, beside, backend.xp.float32)
    if values.ndim != 2 or values.shape[1] != label_dim:
        raise PlanError(
            f"class_labels must be class numbers (B,) or rows (B, {label_dim}), as net.label_dim says, got shape {values.shape}"
        )
    if like is None:
        return class_labels
    backend = backends.of(like)
    return moved_to(backend, class_labels, backend.from_numpy(np.zeros(0), like, backend.xp.float32))
