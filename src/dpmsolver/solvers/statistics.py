"""Statistics of a network on its data, for each noise level: the measurements that calibrated solvers use.

`dpmsolver.calibrate` measures them, safetensors files store them, and `make_plan("dpm-v3", …, statistics=…)` and Analytic-DPM
(`analytic-ddpm`, `analytic-ddim`) use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpmsolver.brief import brief_repr
from dpmsolver.errors import PlanError
from dpmsolver.files import written_aside
from dpmsolver.schedules import Floats, NoiseSchedule

__all__ = ["ModelStatistics"]

_FORMAT = "dpmsolver-statistics-1"
_PROBES = 33


@dataclass(frozen=True, eq=False)
class ModelStatistics:
    """Measurements of a network at K noise levels, for states of shape S (without the batch).

    Args:
        half_log_snr: the levels, rising, (K,).
        noise_power: E|eps|^2 per coordinate at each level, (K,): Gamma of Analytic-DPM.
        linear, scale, bias: l, s and b of DPM-Solver-v3 (Zheng et al. 2023, arXiv 2310.13268, eq. 5, 11 and 12), (K, *S).
        schedule_probe: alpha at equidistant times of the schedule of the measurement, (33,).

    Raises:
        PlanError: shapes do not fit together, there are fewer than four levels, levels do not rise, or numbers are not finite.
    """

    half_log_snr: Floats
    noise_power: Floats
    linear: Floats
    scale: Floats
    bias: Floats
    schedule_probe: Floats

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        levels = self.half_log_snr.shape
        shapes = {name: getattr(self, name).shape for name in ("noise_power", "linear", "scale", "bias")}
        if len(levels) != 1 or levels[0] < 4 or not (np.diff(self.half_log_snr) > 0).all():
            raise PlanError(f"statistics need at least four levels of half-log-SNR that rise, got shape {levels}")
        if (
            shapes["noise_power"] != levels
            or {s[:1] for s in shapes.values()} != {levels}
            or len(set(shapes.values())) > 2
        ):
            raise PlanError(f"statistics at {levels[0]} levels do not fit together: {shapes}")
        if not all(np.isfinite(v).all() for v in vars(self).values()):
            raise PlanError("statistics must be finite: the network returned NaN or infinity while it was measured")

    @property
    def shape(self) -> tuple[int, ...]:
        """S, the shape of one state."""
        return tuple(self.linear.shape[1:])

    @classmethod
    def measured(cls, schedule: NoiseSchedule, half_log_snr: Floats, **arrays: Floats) -> ModelStatistics:
        """Return statistics that were measured on a schedule."""
        return cls(half_log_snr, schedule_probe=_probe(schedule), **arrays)

    def noise_power_at(self, half_log_snr: float) -> float:
        """Return E|eps|^2 per coordinate at a level, interpolated linearly; outside the levels, the value of the nearest one."""
        return float(np.interp(half_log_snr, self.half_log_snr, self.noise_power))

    def check_schedule(self, schedule: NoiseSchedule) -> None:
        """Raise PlanError if the statistics were measured on another schedule."""
        probe = _probe(schedule)
        if not np.allclose(probe, self.schedule_probe, rtol=1e-4, atol=1e-6):
            k = int(np.argmax(np.abs(probe - self.schedule_probe)))
            raise PlanError(
                f"these statistics were measured on another schedule: {k}/{_PROBES - 1} of the way from t_min to t_max it had "
                f"alpha={self.schedule_probe[k]:.6g}, {schedule!r} has alpha={probe[k]:.6g}"
            )

    def check_levels(self, half_log_snrs: Sequence[float]) -> None:
        """Raise PlanError for a level outside the measured ones."""
        low, high = float(self.half_log_snr[0]), float(self.half_log_snr[-1])
        slack = 1e-6 * (high - low)
        for level in half_log_snrs:
            if not low - slack <= level <= high + slack:
                raise PlanError(
                    f"half-log-SNR {level:.6g} lies outside the measured levels, {low:.6g} to {high:.6g}: "
                    "calibrate over the run's range, or start and end inside it"
                )

    def save(self, path: str | Path) -> None:
        """Write the statistics to a safetensors file (float32; the levels float64)."""
        from safetensors.numpy import save

        arrays = {k: v.astype(np.float32) if v.ndim > 1 else v.astype(np.float64) for k, v in vars(self).items()}
        content = save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata={"format": _FORMAT})
        with written_aside(Path(path)) as aside:
            aside.write_bytes(content)

    @classmethod
    def load(cls, path: str | Path) -> ModelStatistics:
        """Read the statistics from a file that `save` wrote. Raise PlanError for any other file."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "np") as file:
                if (file.metadata() or {}).get("format") != _FORMAT:
                    raise PlanError(f"{path} holds no statistics of this version (format {_FORMAT})")
                names = list(file.keys())
                return cls(**{name: file.get_tensor(name).astype(np.float64) for name in names})
        except (SafetensorError, TypeError) as error:
            raise PlanError(f"{path} holds no statistics: {error}") from None


def _probe(schedule: NoiseSchedule) -> Floats:
    values: Floats = schedule.alpha(np.linspace(schedule.t_min, schedule.t_max, _PROBES))
    return values
