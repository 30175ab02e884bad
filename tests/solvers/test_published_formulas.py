"""Coefficients against the published formulas, written out here by hand, with expm1 and nothing else.

The symbols are those of the papers and of the authors' code: h the step in lambda, phi_1 = e^h - 1 (noise) or e^{-h} - 1 (data),
phi_2 = phi_1/h - 1 (noise) or phi_1/h + 1 (data), phi_3 = phi_2/h - 1/2. Outputs are listed newest first, as in a Combination.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from dpmsolver.plans.plan import Combination, Plan, Point
from dpmsolver.schedules import EDM, CosineVP, Discrete, Flow, LinearVP, NoiseSchedule, SubVP
from dpmsolver.solvers import exponential_step, fast_orders, make_plan

SCHEDULES: dict[str, NoiseSchedule] = {
    "linear-vp": LinearVP(),
    "sub-vp": SubVP(),
    "edm": EDM(),
    "discrete": Discrete(betas=np.linspace(1e-4, 0.02, 1000)),
}
ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
GRID = pytest.mark.parametrize("grid", ["logsnr", "time"])


def plan_of(name: str, schedule: NoiseSchedule, nfe: int, grid: str = "logsnr", **options: float | bool) -> Plan:
    return make_plan(name, schedule, nfe, grid, start=0.9 * schedule.t_max, end=0.02 * schedule.t_max, **options)


def step(s: Point, t: Point) -> float:
    return math.log(t.alpha / t.sigma) - math.log(s.alpha / s.sigma)


def check(combination: Combination | None, state: float, *outputs: float) -> None:
    """Equal to 1e-9 of the largest coefficient: the hand-written phi_3 loses that much for the smallest steps used here."""
    assert combination is not None
    assert combination.noise == ()
    assert combination.state == pytest.approx(state, rel=1e-12)
    given = (*combination.outputs, *[0.0] * (len(outputs) - len(combination.outputs)))
    assert given == pytest.approx(outputs, abs=1e-9 * max(map(abs, outputs)), rel=1e-9)


@ALL
@GRID
def test_dpm_solver_1(schedule: NoiseSchedule, grid: str) -> None:
    """DPM-Solver, eq. 3.7: x_t = alpha_t/alpha_s x - sigma_t (e^h - 1) eps."""
    plan = plan_of("dpm-1", schedule, 5, grid)
    targets = [*(row.point for row in plan.rows[1:]), plan.end]
    for row, t in zip(plan.rows, targets, strict=True):
        s = row.point
        check(row.advance, t.alpha / s.alpha, -t.sigma * math.expm1(step(s, t)))


@ALL
@pytest.mark.parametrize("r1", [None, 0.3, 0.75, 1.0])
def test_dpm_solver_2(schedule: NoiseSchedule, r1: float | None) -> None:
    """DPM-Solver, algorithm 4: - sigma_t (e^h - 1) eps_s - sigma_t/(2 r1) (e^h - 1) (eps_s1 - eps_s), any r1 (1/2 by default)."""
    options = {} if r1 is None else {"r1": r1}
    r = 0.5 if r1 is None else r1
    plan = plan_of("dpm-2", schedule, 6, **options)
    points = [*(row.point for row in plan.rows), plan.end]
    for k in range(0, 6, 2):
        s, s1, t = points[k : k + 3]
        h = step(s, t)
        assert step(s, s1) == pytest.approx(r * h, rel=1e-9)
        check(plan.rows[k].predict, s1.alpha / s.alpha, -s1.sigma * math.expm1(r * h))
        phi_1 = math.expm1(h)
        slope = -t.sigma * phi_1 / (2 * r)
        check(plan.rows[k + 1].advance, t.alpha / s.alpha, slope, -t.sigma * phi_1 - slope)


@ALL
@pytest.mark.parametrize("r1", [None, 0.3])
def test_dpm_solver_2_exact(schedule: NoiseSchedule, r1: float | None) -> None:
    """The authors' "taylor" form: - sigma_t (e^h - 1) eps_s - sigma_t/r1 ((e^h - 1)/h - 1) (eps_s1 - eps_s)."""
    r = 0.5 if r1 is None else r1
    plan = plan_of("dpm-2-exact", schedule, 2, **({} if r1 is None else {"r1": r1}))
    s, t = plan.start, plan.end
    h = step(s, t)
    phi_1 = math.expm1(h)
    slope = -t.sigma * (phi_1 / h - 1) / r
    check(plan.rows[1].advance, t.alpha / s.alpha, slope, -t.sigma * phi_1 - slope)


def check_stages_of_dpm_solver_3(plan: Plan) -> tuple[Point, Point, float]:
    """Algorithm 5: the two stages, at r1 = 1/3 and r2 = 2/3."""
    s, s1, s2, t = *(row.point for row in plan.rows), plan.end
    h, r1, r2 = step(s, t), 1 / 3, 2 / 3
    assert (step(s, s1), step(s, s2)) == pytest.approx((r1 * h, r2 * h), rel=1e-9)
    check(plan.rows[0].predict, s1.alpha / s.alpha, -s1.sigma * math.expm1(r1 * h))
    phi_12, phi_22 = math.expm1(r2 * h), math.expm1(r2 * h) / (r2 * h) - 1
    slope = -r2 / r1 * s2.sigma * phi_22
    check(plan.rows[1].predict, s2.alpha / s.alpha, slope, -s2.sigma * phi_12 - slope)
    return s, t, h


@ALL
def test_dpm_solver_3(schedule: NoiseSchedule) -> None:
    """DPM-Solver, algorithm 5: - sigma_t phi_1 eps_s - sigma_t/r2 phi_2 (eps_s2 - eps_s); eps_s1 is not used again."""
    plan = plan_of("dpm-3", schedule, 3)
    s, t, h = check_stages_of_dpm_solver_3(plan)
    phi_1 = math.expm1(h)
    slope = -t.sigma * (phi_1 / h - 1) / (2 / 3)
    check(plan.rows[2].advance, t.alpha / s.alpha, slope, 0.0, -t.sigma * phi_1 - slope)


def taylor_3(h: float, phi_2: float, phi_3: float) -> tuple[float, float, float]:
    """What phi_2 D1 + phi_3 D2 gives to eps_s2, eps_s1 and eps_s in the authors' "taylor" form.

    D1_0 = (eps_s1 - eps_s)/r1, D1_1 = (eps_s2 - eps_s)/r2, D1 = (r2 D1_0 - r1 D1_1)/(r2 - r1), D2 = 2 (D1_1 - D1_0)/(r2 - r1).
    """
    r1, r2 = 1 / 3, 2 / 3
    d1_0, d1_1 = np.array([0, 1, -1]) / r1, np.array([1, 0, -1]) / r2
    d1, d2 = (r2 * d1_0 - r1 * d1_1) / (r2 - r1), 2 * (d1_1 - d1_0) / (r2 - r1)
    return tuple(phi_2 * d1 + phi_3 * d2)


@ALL
def test_dpm_solver_3_exact(schedule: NoiseSchedule) -> None:
    """The "taylor" form: - sigma_t (phi_1 eps_s + phi_2 D1 + phi_3 D2)."""
    plan = plan_of("dpm-3-exact", schedule, 3)
    s, t, h = check_stages_of_dpm_solver_3(plan)
    phi_1 = math.expm1(h)
    phi_2 = phi_1 / h - 1
    two, one, zero = taylor_3(h, phi_2, phi_2 / h - 0.5)
    check(plan.rows[2].advance, t.alpha / s.alpha, -t.sigma * two, -t.sigma * one, -t.sigma * (phi_1 + zero))


@ALL
@pytest.mark.parametrize("r1", [None, 0.3, 1.0])
def test_dpm_solver_plus_plus_2s(schedule: NoiseSchedule, r1: float | None) -> None:
    """DPM-Solver++, algorithm 1: D = (1 - 1/(2 r1)) x_s + 1/(2 r1) x_s1, x_t = sigma_t/sigma_s x - alpha_t (e^{-h} - 1) D."""
    r = 0.5 if r1 is None else r1
    plan = plan_of("dpm++2s", schedule, 2, **({} if r1 is None else {"r1": r1}))
    s, s1, t = plan.start, plan.rows[1].point, plan.end
    h = step(s, t)
    check(plan.rows[0].predict, s1.sigma / s.sigma, -s1.alpha * math.expm1(-r * h))
    whole = -t.alpha * math.expm1(-h)
    check(plan.rows[1].advance, t.sigma / s.sigma, whole / (2 * r), whole * (1 - 1 / (2 * r)))


@ALL
def test_dpm_solver_plus_plus_2s_exact(schedule: NoiseSchedule) -> None:
    """The "taylor" form: - alpha_t phi_1 x_s + alpha_t/r1 (phi_1/h + 1) (x_s1 - x_s)."""
    plan = plan_of("dpm++2s-exact", schedule, 2)
    s, t = plan.start, plan.end
    h = step(s, t)
    phi_1 = math.expm1(-h)
    slope = t.alpha * (phi_1 / h + 1) / 0.5
    check(plan.rows[1].advance, t.sigma / s.sigma, slope, -t.alpha * phi_1 - slope)


@ALL
@pytest.mark.parametrize("exact", [False, True], ids=["published", "exact"])
def test_dpm_solver_plus_plus_3s(schedule: NoiseSchedule, exact: bool) -> None:
    """The authors' 3S: stages at 1/3 and 2/3; then - alpha_t phi_1 x_s + alpha_t/r2 phi_2 (x_s2 - x_s), or + phi_2 D1 - phi_3 D2."""
    plan = plan_of("dpm++3s-exact" if exact else "dpm++3s", schedule, 3)
    s, s1, s2, t = *(row.point for row in plan.rows), plan.end
    h, r1, r2 = step(s, t), 1 / 3, 2 / 3
    check(plan.rows[0].predict, s1.sigma / s.sigma, -s1.alpha * math.expm1(-r1 * h))
    phi_12, phi_22 = math.expm1(-r2 * h), math.expm1(-r2 * h) / (r2 * h) + 1
    slope = r2 / r1 * s2.alpha * phi_22
    check(plan.rows[1].predict, s2.sigma / s.sigma, slope, -s2.alpha * phi_12 - slope)
    phi_1 = math.expm1(-h)
    phi_2 = phi_1 / h + 1
    if exact:
        two, one, zero = taylor_3(h, phi_2, -(phi_2 / h - 0.5))
    else:
        two, one, zero = phi_2 / r2, 0.0, -phi_2 / r2
    check(plan.rows[2].advance, t.sigma / s.sigma, t.alpha * two, t.alpha * one, t.alpha * (zero - phi_1))


def second_order(h: float, h_0: float, weight: float) -> np.ndarray:
    """weight D1 with D1 = (m_0 - m_1)/r_0, r_0 = h_0/h, as coefficients of m_0, m_1."""
    return weight * np.array([1.0, -1.0]) * h / h_0


def third_order(h: float, h_0: float, h_1: float, phi_2: float, phi_3: float) -> np.ndarray:
    """phi_2 D1 + phi_3 D2 as coefficients of m_0, m_1, m_2, with the divided differences of the authors' code.

    D1_0 = (m_0 - m_1)/r_0, D1_1 = (m_1 - m_2)/r_1, D1 = D1_0 + r_0/(r_0 + r_1) (D1_0 - D1_1), D2 = (D1_0 - D1_1)/(r_0 + r_1).
    """
    r_0, r_1 = h_0 / h, h_1 / h
    d1_0, d1_1 = np.array([1, -1, 0]) / r_0, np.array([0, 1, -1]) / r_1
    d1, d2 = d1_0 + r_0 / (r_0 + r_1) * (d1_0 - d1_1), (d1_0 - d1_1) / (r_0 + r_1)
    return phi_2 * d1 + phi_3 * d2


@ALL
@GRID
@pytest.mark.parametrize("exact", [False, True], ids=["published", "exact"])
@pytest.mark.parametrize("data", [False, True], ids=["noise", "data"])
@pytest.mark.parametrize("order", [2, 3])
def test_multistep(schedule: NoiseSchedule, grid: str, exact: bool, data: bool, order: int) -> None:
    """2M and 3M, noise and data: the authors' multistep updates.

    Published: 2M has 0.5 phi_1 where the integral is phi_2; 3M has phi_3 D2 where the integral is 2 phi_3 D2, because D2, the second
    divided difference, is half the second derivative. The exact forms have the integrals.
    """
    name = f"{'dpm++' if data else 'dpm-'}{order}m{'-exact' if exact else ''}"
    plan = plan_of(name, schedule, 6, grid, lower_order_final=False)
    points = [*(row.point for row in plan.rows), plan.end]
    for k, row in enumerate(plan.rows):
        s, t = points[k], points[k + 1]
        h = step(s, t)
        z, sign = (-h, 1.0) if data else (h, -1.0)
        phi_1 = math.expm1(z)
        phi_2 = phi_1 / h + sign
        phi_3 = phi_2 / h - 0.5
        state, scale = (t.sigma / s.sigma, t.alpha) if data else (t.alpha / s.alpha, t.sigma)
        if k == 0:
            outputs = np.zeros(1)
        elif k == 1 or order == 2:
            weight = (phi_2 if data else -phi_2) if exact else -0.5 * phi_1
            outputs = scale * second_order(h, step(points[k - 1], s), weight)
        else:
            weights = (phi_2, -phi_3) if data else (-phi_2, -phi_3)
            weights = (weights[0], weights[1] * (2 if exact else 1))
            outputs = scale * third_order(h, step(points[k - 1], s), step(points[k - 2], points[k - 1]), *weights)
        outputs[0] -= scale * phi_1
        check(row.advance, state, *outputs)


@pytest.mark.parametrize("name", ["dpm-3m", "dpm++3m-exact"])
def test_lower_order_final_ends_in_orders_two_and_one(name: str) -> None:
    """The last two steps take two outputs and one, as the authors' lower_order_final; that is the default."""
    used = [len(row.advance.outputs) for row in plan_of(name, LinearVP(), 7).rows if row.advance]
    assert used == [1, 2, 3, 3, 3, 2, 1]
    used = [len(r.advance.outputs) for r in plan_of(name, LinearVP(), 7, lower_order_final=False).rows if r.advance]
    assert used == [1, 2, 3, 3, 3, 3, 3]


DDPM = Discrete(betas=np.linspace(1e-3, 0.2, 50))


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("stride", [1, 7])
def test_ddim(eta: float, stride: int) -> None:
    """DDIM, eq. 12 and 16, in the paper's alpha (here abar): sigma = eta sqrt((1 - abar_p)/(1 - abar)) sqrt(1 - abar/abar_p)."""
    steps = np.arange(50, 0, -stride)
    abar = np.cumprod(1 - np.linspace(1e-3, 0.2, 50))
    plan = make_plan("ddim", DDPM, len(steps) - 1, steps / 50, eta=eta)
    for row, n, p in zip(plan.rows, steps, steps[1:], strict=False):
        now, previous = abar[n - 1], abar[p - 1]
        sigma = eta * math.sqrt((1 - previous) / (1 - now)) * math.sqrt(1 - now / previous)
        direction = math.sqrt(1 - previous - sigma**2)
        # eps = (x - sqrt(abar) x_0)/sqrt(1 - abar), so x takes direction/sqrt(1 - abar) and x_0 the rest.
        state = direction / math.sqrt(1 - now)
        assert row.advance.state == pytest.approx(state, rel=1e-10)
        assert row.advance.outputs == pytest.approx([math.sqrt(previous) - math.sqrt(now) * state], rel=1e-10)
        assert row.advance.noise == (pytest.approx([sigma], rel=1e-10) if eta else ())


def test_ddim_with_eta_1_is_the_posterior_of_ddpm() -> None:
    """DDPM, eq. 7: mean sqrt(abar_p) beta/(1 - abar) x_0 + sqrt(1 - beta) (1 - abar_p)/(1 - abar) x.

    Its variance is (1 - abar_p)/(1 - abar) beta.
    """
    betas = np.linspace(1e-3, 0.2, 50)
    abar = np.cumprod(1 - betas)
    plan = make_plan("ddim", DDPM, 49, np.arange(50, 0, -1) / 50, eta=1.0)
    for row, n in zip(plan.rows, range(49, 0, -1), strict=True):
        beta, now, previous = betas[n], abar[n], abar[n - 1]
        assert row.point.label == n
        assert row.advance.outputs == pytest.approx([math.sqrt(previous) * beta / (1 - now)], rel=1e-10)
        assert row.advance.state == pytest.approx(math.sqrt(1 - beta) * (1 - previous) / (1 - now), rel=1e-10)
        assert row.advance.noise == pytest.approx([math.sqrt((1 - previous) / (1 - now) * beta)], rel=1e-10)


@ALL
@GRID
def test_ddim_is_dpm_solver_1(schedule: NoiseSchedule, grid: str) -> None:
    """Substituting x_0 = (x - sigma eps)/alpha into DDIM's row gives DPM-Solver-1's: both are one solver (DPM-Solver, section 4.1)."""
    data, noise = plan_of("ddim", schedule, 6, grid), plan_of("dpm-1", schedule, 6, grid)
    for a, b in zip(data.rows, noise.rows, strict=True):
        (output,), s = a.advance.outputs, a.point
        check(b.advance, a.advance.state + output / s.alpha, -output * s.sigma / s.alpha)


def test_dpm_fast_orders_are_the_papers() -> None:
    """Section 3.4 and appendix B: K = floor(n/3) + 1 steps, of order 3 but for the last: (2, 1), (1) or (2) for n % 3 = 0, 1, 2."""
    for nfe in range(1, 31):
        k = nfe // 3 + 1
        expected = {0: [3] * (k - 2) + [2, 1], 1: [3] * (k - 1) + [1], 2: [3] * (k - 1) + [2]}[nfe % 3]
        assert list(fast_orders(nfe)) == expected
        assert sum(expected) == nfe
        assert len(expected) == k
    assert [fast_orders(n) for n in (1, 2, 3, 4, 10)] == [(1,), (2,), (2, 1), (3, 1), (3, 3, 3, 1)]


@pytest.mark.parametrize("nfe", [1, 2, 3, 10, 11, 12, 29])
def test_dpm_fast_is_made_of_the_published_steps_on_a_uniform_grid(nfe: int) -> None:
    """Steps of equal length in lambda, each with the coefficients of the DPM-Solver of its order."""
    schedule = LinearVP()
    plan = plan_of("dpm-fast", schedule, nfe)
    orders = fast_orders(nfe)
    ends = np.linspace(plan.start.half_log_snr, plan.end.half_log_snr, len(orders) + 1)
    row = 0
    for order, low, high in zip(orders, ends, ends[1:], strict=False):
        assert plan.rows[row].point.half_log_snr == pytest.approx(low, abs=1e-9)
        alone = make_plan(f"dpm-{order}", schedule, order, [schedule.time(low), schedule.time(high)])
        for got, expected in zip(plan.rows[row : row + order], alone.rows, strict=True):
            for mine, theirs in ((got.advance, expected.advance), (got.predict, expected.predict)):
                assert (mine is None) == (theirs is None)
                if mine is not None and theirs is not None:
                    check(mine, theirs.state, *theirs.outputs)
        row += order
    assert row == nfe


@pytest.mark.parametrize("name", ["ddim", "dpm++2m", "dpm++3m", "dpm++2m-exact", "dpm++3m-exact"])
@pytest.mark.parametrize("schedule", [EDM(), Flow(), LinearVP()], ids=["edm", "flow", "vp"])
def test_a_data_prediction_step_to_sigma_zero_returns_the_predicted_data(name: str, schedule: NoiseSchedule) -> None:
    """h = infinity: e^{-h} = 0, and the row is x <- x_0."""
    last = make_plan(name, schedule, 6, end=0.0).rows[-1].advance
    assert last is not None
    assert (last.state, *last.outputs) == (0.0, 1.0)


@pytest.mark.parametrize("name", ["dpm++2s", "dpm++3s", "dpm++2s-exact", "dpm++3s-exact"])
@pytest.mark.parametrize("schedule", [EDM(), Flow(), LinearVP()], ids=["edm", "flow", "vp"])
def test_a_singlestep_step_to_sigma_zero_returns_the_newest_predicted_data(name: str, schedule: NoiseSchedule) -> None:
    """Its stages stay at or above t_min, where the network is defined; the step then is x <- newest x_0."""
    plan = make_plan(name, schedule, 6, end=0.0)
    last = plan.rows[-1].advance
    assert last is not None
    assert (last.state, last.outputs[0], *last.outputs[1:]) == (0.0, 1.0, *[0.0] * (len(last.outputs) - 1))
    assert min(row.point.time for row in plan.rows) >= schedule.t_min


@pytest.mark.parametrize("name", ["dpm-1", "dpm-2m", "dpm-3m", "dpm-2m-exact", "dpm-3m-exact", "dpm-2", "dpm-3-exact"])
@pytest.mark.parametrize("schedule", [EDM(), LinearVP()], ids=["edm", "vp"])
def test_a_noise_prediction_step_to_sigma_zero_removes_the_predicted_noise(name: str, schedule: NoiseSchedule) -> None:
    """sigma_t (e^h - 1) -> alpha_t sigma_s/alpha_s as sigma_t -> 0: x <- (x - sigma_s eps)/alpha_s, the predicted data."""
    plan = make_plan(name, schedule, 6, end=0.0)
    last = plan.rows[-1].advance
    committed = [i for i, row in enumerate(plan.rows[:-1]) if row.advance is not None][-1]
    source = plan.rows[committed + 1].point
    assert last is not None
    assert last.state == pytest.approx(1 / source.alpha, rel=1e-15)
    assert last.outputs[0] == pytest.approx(-source.sigma / source.alpha, rel=1e-15)
    assert not any(last.outputs[1:])


PURE_NOISE: list[NoiseSchedule] = [Flow(), CosineVP(t_max=1.0), Discrete(alphas_cumprod=np.linspace(0.99, 0.0, 100))]


@pytest.mark.parametrize("name", ["ddim", "dpm++2m", "dpm++3m", "dpm++2m-exact", "dpm++3m-exact"])
@pytest.mark.parametrize("schedule", PURE_NOISE, ids=["flow", "cosine", "zero-terminal"])
def test_a_step_from_pure_noise_is_ddims_and_is_not_looked_back_upon(name: str, schedule: NoiseSchedule) -> None:
    """From alpha = 0: x_t = sigma_t x/sigma_s + alpha_t x_0. The next step is of first order: that output lies infinitely far back."""
    plan = make_plan(name, schedule, 6, "time", end=0.1)
    first, second = plan.rows[0].advance, plan.rows[1].advance
    s, t, r = plan.start, plan.rows[1].point, plan.rows[2].point
    assert s.alpha == 0.0
    check(first, t.sigma / s.sigma, t.alpha)
    check(second, r.sigma / t.sigma, -r.alpha * math.expm1(-step(t, r)))


def test_a_noise_prediction_step_up_to_pure_noise_returns_the_predicted_noise() -> None:
    """Encoding on a schedule that ends at alpha = 0: the last row is x <- eps."""
    last = make_plan("dpm-2m", Flow(), 6, start=1e-4, end=1.0).rows[-1].advance
    assert last is not None
    assert (last.state, *last.outputs) == (0.0, 1.0)


@pytest.mark.parametrize("prediction", ["noise", "data"])
def test_a_step_of_no_length_changes_nothing(prediction: str) -> None:
    """h = 0: x <- x, whatever the outputs, also where two of them lie at one point."""
    here = Point.at(LinearVP(), 0.5)
    combination = exponential_step(prediction, here, here, [here, Point.at(LinearVP(), 0.6)])
    assert combination.state == 1.0
    assert not any(combination.outputs)
