"""`solver="auto"`: the solver and the grid that measurements recommend for a budget, the default of `sample`.

No solver wins everywhere. These were chosen by their distance to the exact trajectory, in units of DDIM's, averaged over a network
and five closed forms: `benchmarks/choice.py` measures them, docs/choosing.md shows how they compare, and a test holds both together.
"""

from __future__ import annotations

from dpmsolver.schedules import NoiseSchedule

__all__ = ["recommended"]

# (largest budget, solver, grid), by kind of schedule. Few evaluations go where time is, many where log-SNR is.
_MANY = 10**9
_CHOICES: dict[str, tuple[tuple[int, str, str], ...]] = {
    "variance preserving": ((8, "unipc-2", "quadratic"), (24, "ipndm-3", "quadratic"), (_MANY, "unipc-3", "logsnr")),
    "variance exploding": ((12, "ipndm-3", "logsnr"), (24, "dpm-3m", "karras"), (_MANY, "unipc-3", "logsnr")),
    "no signal at the start": ((7, "unipc-2", "beta"), (17, "unipc-2", "quadratic"), (_MANY, "unipc-3", "quadratic")),
}


def recommended(schedule: NoiseSchedule, nfe: int) -> tuple[str, str]:
    """The solver and the grid for a budget, by the kind of schedule: alpha falls, alpha is 1, or alpha falls to 0 (flows, zero SNR).

    Examples:
        >>> from dpmsolver.schedules import EDM, LinearVP
        >>> recommended(LinearVP(), 8)
        ('unipc-2', 'quadratic')
        >>> recommended(EDM(), 50)
        ('unipc-3', 'logsnr')
    """
    return next((solver, grid) for largest, solver, grid in _CHOICES[_kind(schedule)] if nfe <= largest)


def _kind(schedule: NoiseSchedule) -> str:
    """Which of the three kinds a schedule is."""
    alpha = float(schedule.alpha(schedule.default_start()))
    if alpha == 0.0:
        return "no signal at the start"
    return "variance exploding" if alpha == 1.0 else "variance preserving"
