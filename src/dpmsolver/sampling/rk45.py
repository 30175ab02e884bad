"""SciPy's RK45 on the diffusion ODE: the baseline with which ScoreSDE's paper samples."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpmsolver import backends
from dpmsolver.brief import brief
from dpmsolver.errors import PlanError, SamplingError
from dpmsolver.host import to_host
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.plans.plan import Point
from dpmsolver.sampling.calls import Calls
from dpmsolver.sampling.ends import run_ends

__all__ = ["RK45Result", "sample_rk45"]


class RK45Result(NamedTuple):
    """The result of `sample_rk45`.

    Args:
        x: the samples.
        nfe: the number of network evaluations of the batch.
    """

    x: Any
    nfe: int

    def __repr__(self) -> str:
        return f"RK45Result(x={brief(self.x)}, nfe={self.nfe})"


def sample_rk45(
    denoiser: Denoiser,
    x_T: Any,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    start: float | None = None,
    end: float | None = None,
    max_nfe: int = 10_000,
) -> RK45Result:
    """Solve the diffusion ODE with SciPy's RK45, `scipy.integrate.solve_ivp(method="RK45")`, and count the network evaluations.

    The equation in time is

        dx/dt = (d log alpha/dt) x - sigma (d lambda/dt) eps.

    The whole batch is one system, solved on the host in float64 with one step size, so a sample depends on the rest of the batch. Use it
    as a baseline: `sample` needs about a tenth of its evaluations.

    Args:
        denoiser: the network with its schedule.
        x_T: the start, shape (B, …), NumPy or torch. It is not changed.
        rtol, atol: SciPy's tolerances of a step.
        start, end: times, by default those of `sample_adaptive`. start < end runs the ODE backwards.
        max_nfe: the largest number of evaluations.

    Returns:
        x, with x_T's shape, framework and device (float64 if x_T is float64, else float32), and nfe.

    Raises:
        PlanError: a tolerance is not positive, or alpha or sigma is 0 at a time. SamplingError: the network returned NaN or infinity,
            the run used up max_nfe evaluations, or SciPy could not make a step small enough.

    Examples:
        >>> import numpy as np, dpmsolver as dpm
        >>> schedule, model = dpm.schedules.LinearVP(), dpm.models.Gaussian(mean=[0.0], variance=[0.25])
        >>> x, nfe = dpm.sample_rk45(model.denoiser(schedule), np.ones((1, 1)))
        >>> bool(abs(x - model.trajectory(schedule, np.ones((1, 1)), 1.0, 1e-4)).max() < 1e-3), nfe > 30
        (True, True)

    Source: Song et al. 2021, arXiv 2011.13456, appendix D; DPM-Solver, arXiv 2206.00927, section 5.
    """
    if not isinstance(denoiser, Denoiser):
        raise TypeError(f"denoiser must be dpm.Denoiser(network, schedule, …), got {type(denoiser).__name__}")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not 0 < value < math.inf:
            raise PlanError(f"{name} must be positive and finite, got {value}")
    schedule = denoiser.schedule
    ends = run_ends(denoiser, start, end)
    from scipy.integrate import solve_ivp  # here, because it is slow to import

    backend = backends.of(x_T)
    x = ends.state(backend, x_T)
    calls = Calls(denoiser, backend, "noise", max_nfe)

    def slope(t: float, y: NDArray[np.float64]) -> NDArray[np.float64]:
        point = Point.at(schedule, t)
        log_alpha, half_log_snr = schedule.rates(t)
        noise = calls(backend.from_numpy(y.reshape(x.shape), x), [point] * len(x))
        return log_alpha * y - point.sigma * half_log_snr * to_host(noise).ravel()

    with backend.autograd.no_grad():
        run = solve_ivp(slope, (ends.start, ends.end), to_host(x).ravel(), method="RK45", rtol=rtol, atol=atol)
    if not run.success:
        raise SamplingError(f"RK45 stopped at t={run.t[-1]:.6g} after {calls.nfe} evaluations: {run.message}")
    result = ends.finished(calls, backend.from_numpy(run.y[:, -1].reshape(x.shape), x))
    return RK45Result(result, calls.nfe)
