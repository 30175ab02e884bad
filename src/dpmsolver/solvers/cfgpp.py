"""CFG++: samplers that take the data from the guided output and the noise from the unconditional one.

Every evaluation of such a plan gives two outputs, the guided and the unconditional prediction. The unconditional prediction u writes the
state as x = alpha u + sigma eps_u. Each step of the plain solver starts from alpha g + sigma eps_u instead, with the guided data g in place
of u. If both outputs are equal, this is the plain solver, and the claimed order refers to that case. Otherwise the result has no limit for
many steps, because each step moves the state by alpha (g - u), however short it is. Therefore the guidance scale depends on the number of
steps, and lies between 0 and 1 or slightly above.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial, update_wrapper
from typing import Any

from dpmsolver.errors import PlanError
from dpmsolver.plans.plan import Combination, Plan, Prediction, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers import classical, ddim, multistep, pndm
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "cfgpp"]


def cfgpp(plan: Plan, *, guided: bool = True) -> Plan:
    """Return the CFG++ form of a plan: each step starts from the state with the guided data in place of the unconditional.

    Args:
        plan: a plan with one output per evaluation and one combination per row. Older outputs become the unconditional ones.
        guided: True if the newest output of a step is the guided data; False takes the unconditional output in steps that use several.
            Noise prediction always takes the unconditional noise.

    Raises:
        PlanError: the plan has several outputs per evaluation, rows with an `output` of their own, or rows that both correct and predict.

    Examples:
        >>> from dpmsolver import make_plan, schedules
        >>> print(cfgpp(make_plan("ddim", schedules.Flow(), 2, [0.8, 0.4, 0.2])).rows[0].advance)
        +0.5 x +0.6 m -0.1 m-1

    Source: Chung et al. 2024, arXiv 2406.08070, algorithm 2 (DDIM) and the appendix on other solvers; ComfyUI, the samplers in cfg_pp.
    """
    if plan.answers != 1 or plan.elementwise or plan.begin is not None or any(row.output for row in plan.rows):
        raise PlanError("CFG++ takes a plan of one output an evaluation, whose coefficients are numbers")
    rows, start = [], 0  # the evaluation of the state that a step starts from
    for k, row in enumerate(plan.rows):
        if row.advance is not None and row.predict is not None:
            raise PlanError("CFG++ takes a plan whose rows have one combination, got one that corrects and predicts")
        point = plan.rows[start].point
        shift = point.alpha if plan.prediction == "data" else -point.sigma
        made = [c and _apart(c, shift, k - start, plan.prediction, guided) for c in (row.advance, row.predict)]
        rows.append(Row(row.point, *made))
        start = start if row.advance is None else k + 1
    return replace(plan, rows=tuple(rows), answers=2)


def _apart(c: Combination, shift: float, age: int, prediction: Prediction, guided: bool) -> Combination:
    """A combination with two outputs an evaluation; the state's own evaluation is `age` evaluations old."""
    pairs = [[0.0, 0.0] for _ in range(max(len(c.outputs), age + 1))]
    pairs[age] = [c.state * shift, -c.state * shift]
    newest = 0 if prediction == "data" and (guided or len(c.outputs) == 1) else 1
    for i, weight in enumerate(c.outputs):
        pairs[i][1 if i else newest] += weight
    return replace(c, outputs=tuple(weight for pair in pairs for weight in pair))


def _solver(name: str, plain: Solver, source: str, guided: bool = True) -> Solver:
    """The CFG++ of a solver, with its options."""

    def build(schedule: NoiseSchedule, times: Floats, **options: Any) -> Plan:
        return cfgpp(plain.build(schedule, times, **options), guided=guided)

    update_wrapper(build, plain.build)  # whose parameters are the options
    newest = "" if guided else "; of two outputs the newest is unconditional"
    return replace(
        plain,
        name=f"{name}-cfg++",
        build=build,
        description=f"CFG++ of {plain.name}: the guided data and the unconditional noise{newest}",
        source=source if source.startswith("Chung") else f"Chung et al. 2024, arXiv 2406.08070; ComfyUI, {source}",
        answers=2,
        family="CFG++",
    )


_PLAIN = {solver.name: solver for family in (ddim, classical, multistep, pndm) for solver in family.SOLVERS}
# In data prediction, which starts at alpha = 0 too; the step of order 1 is the same.
_EULER = replace(
    _PLAIN["euler-ancestral"],
    build=partial(classical.ancestral, step=classical.dpmpp_2s, prediction="data"),
    prediction="data",
)
SOLVERS = (
    _solver("ddim", _PLAIN["ddim"], "Chung et al. 2024, arXiv 2406.08070, algorithm 2"),
    _solver("euler-ancestral", _EULER, "sample_euler_ancestral_cfg_pp"),
    # ComfyUI's last combination has the unconditional output of the stage for that of the state, and with equal outputs no order.
    _solver("dpm++2s-ancestral", _PLAIN["dpm++2s-ancestral"], "sample_dpmpp_2s_ancestral_cfg_pp, mended"),
    _solver("dpm++2m", _PLAIN["dpm++2m"], "sample_dpmpp_2m_cfg_pp"),
    _solver("dpm++2m-exact", _PLAIN["dpm++2m-exact"], "sample_res_multistep_cfg_pp", guided=False),
    _solver("dpm++2m-ancestral", _PLAIN["dpm++2m-ancestral"], "sample_res_multistep_ancestral_cfg_pp", guided=False),
    _solver("gradient-estimation", _PLAIN["gradient-estimation"], "sample_gradient_estimation_cfg_pp"),
)
