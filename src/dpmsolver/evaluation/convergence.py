"""Measure the order of convergence of a solver on data with a known exact solution. The tests and the table of solvers use these functions.

Convergence is measured inside the range, on LinearVP from t = 0.7 to 0.05: over the whole range the errors of both ends partly cancel, and
the slope is meaningless. Everything is float64, and every solver takes all steps at full order (`lower_order_final=False`).

For a solver without noise, the error is that of the final state: on Gaussian data against the closed form, on a mixture of three Gaussians
against a Runge-Kutta method of order 8. For a solver with noise, it is the error of the law; `evaluation.coupling` measures more of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from dpmsolver.errors import PlanError, unknown
from dpmsolver.models.closed_form import Gaussian, Mixture
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.sampling.runs import sample
from dpmsolver.schedules import Floats, LinearVP, NoiseSchedule
from dpmsolver.solvers import Solver, make_plan
from dpmsolver.solvers.statistics import ModelStatistics

__all__ = [
    "BUDGETS",
    "GAUSSIAN",
    "LAW_BUDGETS",
    "MIXTURE",
    "PROBLEMS",
    "RUN",
    "SCHEDULE",
    "affordable",
    "error_budgets",
    "errors",
    "full_order",
    "law_errors",
    "order_of_convergence",
    "reference",
    "short_first_steps",
    "slope",
    "some_statistics",
    "start_states",
    "trajectory_errors",
]

SCHEDULE = LinearVP()
RUN: dict[str, Any] = {"start": 0.7, "end": 0.05}
BUDGETS = (144, 288)
LAW_BUDGETS = (576, 1152)
GAUSSIAN = Gaussian(mean=[0.5, -0.3, 1.0, 0.0], variance=[0.5, 0.1, 1.5, 0.02])
MIXTURE = Mixture(
    means=[[-1.0, 0.5], [0.8, -0.2], [0.3, 1.2]],
    variances=[[0.15, 0.3], [0.2, 0.1], [0.4, 0.2]],
    weights=[0.3, 0.5, 0.2],
)
PROBLEMS: dict[str, Mixture] = {"gaussian": GAUSSIAN, "mixture": MIXTURE}


def order_of_convergence(solver: Solver, problem: str = "gaussian", **options: Any) -> float:
    """Return the measured order of a solver: the slope of its error over the network evaluations, between two budgets.

    Args:
        solver: a `Solver`. For a solver that adds noise, the error is that of the law, which is available only on Gaussian data.
        problem: "gaussian" or "mixture".
        options: options of the solver.

    Raises:
        PlanError: the problem is unknown, or it is the mixture and the solver adds noise.

    Examples:
        >>> from dpmsolver.solvers import SOLVERS
        >>> round(order_of_convergence(SOLVERS["dpm++2m"]), 1)
        2.0
    """
    return slope(errors(solver, problem, **options), error_budgets(solver, **options))


def errors(solver: Solver, problem: str, **options: Any) -> list[float]:
    """Return the errors behind `order_of_convergence`, one for each of `error_budgets`: of the law with noise, else of the final states."""
    if problem not in PROBLEMS:
        raise PlanError(unknown("problem", problem, PROBLEMS))
    if not _adds_noise(solver, **options):
        return trajectory_errors(solver, problem, error_budgets(solver, **options), **options)
    if problem != "gaussian":
        raise PlanError(f"the law of {solver.name}, which adds noise, is known exactly on problem 'gaussian' alone")
    return law_errors(solver, error_budgets(solver, **options), **options)


def error_budgets(solver: Solver, **options: Any) -> tuple[int, ...]:
    """Return the two budgets of the slope. They are larger with noise, where the law is computed without a network."""
    wanted = LAW_BUDGETS if _adds_noise(solver, **options) else BUDGETS
    return tuple(affordable(solver, nfe) for nfe in wanted)


def trajectory_errors(solver: Solver, problem: str, budgets: Sequence[int], **options: Any) -> list[float]:
    """Return the root mean square errors of the final states of `start_states`, one for each budget. `options` are the solver's."""
    multistep = solver.order >= 3 and solver.evaluations_per_step == 1 and solver.evaluations is None
    grid = short_first_steps(solver.order) if multistep else "logsnr"
    denoiser, x = PROBLEMS[problem].denoiser(SCHEDULE), start_states(problem)
    if solver.answers > 1:  # the network's output for both
        denoiser = denoiser.replace(guidance=ClassifierFree(1.0, {}))
    settings: dict[str, Any] = {"solver": solver, "grid": grid, **RUN, **full_order(solver), **options}
    results = (sample(denoiser, x, nfe=nfe, **settings) for nfe in budgets)
    return [float(np.sqrt(np.mean((result - reference(problem)) ** 2))) for result in results]


def law_errors(solver: Solver, budgets: Sequence[int], **options: Any) -> list[float]:
    """Return the exact 2-Wasserstein distances to the marginal of Gaussian data at the end (`Plan.wasserstein`), one for each budget."""
    settings: dict[str, Any] = {"grid": "logsnr", **RUN, **full_order(solver), **options}
    plans = (make_plan(solver, SCHEDULE, nfe, **settings) for nfe in budgets)
    return [plan.wasserstein(GAUSSIAN.means[0], GAUSSIAN.variances[0], to="end") for plan in plans]


def slope(errors: Sequence[float], budgets: Sequence[int]) -> float:
    """Return p of the line errors = C budgets^(-p) through the points in logarithms.

    Examples:
        >>> round(slope([0.16, 0.04], [10, 20]), 6)
        2.0
    """
    return -float(np.polyfit(np.log(budgets), np.log(errors), 1)[0])


def full_order(solver: Solver) -> dict[str, bool]:
    """Return the option that keeps the last steps at full order, if the solver has one."""
    return {"lower_order_final": False} if "lower_order_final" in solver.accepted_options() else {}


def affordable(solver: Solver, nfe: int) -> int:
    """Return the smallest budget of at least `nfe` that the solver can spend.

    Examples:
        >>> from dpmsolver.solvers import SOLVERS
        >>> affordable(SOLVERS["dpm-3"], 10)
        12
    """
    for budget in range(nfe, 2 * nfe + 16):
        try:
            solver.spend(budget)
        except PlanError:
            continue
        return budget
    raise PlanError(f"{solver.name} can spend no budget from nfe={nfe} to {2 * nfe + 15}")


def short_first_steps(order: int) -> Callable[..., Floats]:
    """Return the grid uniform in lambda with step h, whose j-th step is shortened to h^(order/(j + 1)) if that is less.

    A multistep solver of order p has j outputs in its j-th step, which is of order j and has a local error of (step)^(j + 1). On a uniform
    grid the h^2 of the first step is larger than the h^p of the rest of the run; shortened, its error is h^p as well.
    """

    def grid(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
        first, last = float(schedule.half_log_snr(start)), float(schedule.half_log_snr(end))
        h = (last - first) / steps
        short = [h ** (order / (j + 1)) for j in range(1, order - 1)]
        lams = np.concatenate([[first], first + np.cumsum(short)])
        times = np.array(
            schedule.time(np.concatenate([lams[:-1], np.linspace(lams[-1], last, steps - len(short) + 1)]))
        )
        times[0], times[-1] = start, end
        return times

    return grid


def start_states(problem: str) -> Floats:
    """Return six states x_T, float64 (6, D), the same in every run."""
    return np.random.default_rng(0).standard_normal((6, PROBLEMS[problem].means.shape[1]))


@cache
def reference(problem: str) -> Floats:
    """Return the states to which the exact ODE takes `start_states`.

    For the mixture, the ODE in lambda, d(x/sigma)/dlambda = (alpha/sigma) x_0(x), is solved by an explicit Runge-Kutta method of order 8
    (DOP853) at rtol 1e-12.
    """
    from scipy.integrate import solve_ivp  # here, because it is slow to import

    x = start_states(problem)
    if problem == "gaussian":
        return np.asarray(GAUSSIAN.trajectory(SCHEDULE, x, RUN["start"], RUN["end"]))
    low, high = SCHEDULE.half_log_snr(RUN["start"]), SCHEDULE.half_log_snr(RUN["end"])

    def derivative(lam: float, y: Floats) -> Floats:
        t = SCHEDULE.time(lam)
        alpha, sigma = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
        data = PROBLEMS[problem].predict_data((sigma * y).reshape(x.shape), alpha, sigma)
        return np.asarray(alpha / sigma * data).ravel()

    y = x.ravel() / SCHEDULE.sigma(RUN["start"])
    run = solve_ivp(derivative, (low, high), y, method="DOP853", rtol=1e-12, atol=1e-13)
    return np.asarray(SCHEDULE.sigma(RUN["end"]) * run.y[:, -1]).reshape(x.shape)


def some_statistics(model: Mixture) -> ModelStatistics:
    """Return statistics for calibrated solvers: smooth functions that belong to no network, and the model's true noise power.

    With the true linear part, DPM-Solver-v3 would be exact on Gaussian data and have no slope; its order holds for any statistics.
    Analytic-DPM has order 1 with the true noise power E|eps|^2 per coordinate. It is computed if the model is Gaussian or has one
    coordinate, and is 0 otherwise.
    """
    lams = np.linspace(-5.03, 4.6, 400)
    waves = np.stack([np.sin(lams + k) for k in range(model.means.shape[1])], axis=1)
    power = np.array([_noise_power(model, float(lam)) for lam in lams])
    arrays = {"linear": 0.5 + 0.3 * waves, "scale": 0.4 * waves, "bias": 0.2 * waves**2}
    return ModelStatistics.measured(SCHEDULE, lams, noise_power=power, **arrays)


def _noise_power(model: Mixture, lam: float) -> float:
    """E|eps|^2 = E(x_t - alpha x_0(x_t))^2/sigma^2 over x_t, in the units of alpha = 1, where it is the same."""
    sigma = float(np.exp(-lam))
    total = model.variances + sigma**2
    if len(model.weights) == 1:
        return float(np.mean(sigma**2 / total))
    if model.means.shape[1] > 1:
        return 0.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    power = 0.0
    for weight, mean, variance in zip(model.weights, model.means[:, 0], total[:, 0], strict=True):
        x = mean + np.sqrt(variance) * nodes[:, None]
        noise = (x - model.predict_data(x, 1.0, sigma))[:, 0] / sigma
        power += weight * float(weights @ noise**2) / float(weights.sum())
    return power


def _adds_noise(solver: Solver, **options: Any) -> bool:
    return make_plan(solver, SCHEDULE, affordable(solver, 12), **RUN, **options).stochastic
