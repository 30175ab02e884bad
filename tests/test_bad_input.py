"""Wrong input: an error before the network is called, that names the argument, what was given and what is accepted."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm

torch = pytest.importorskip("torch")
from dpmsolver.backends.torch import BACKEND  # noqa: E402

VP = dpm.schedules.LinearVP()
DISCRETE = dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000))
X_T = np.ones((2, 3))
PLAN = dpm.make_plan("dpm++2m", VP, 4)

RUNS: dict[str, Callable[..., Any]] = {
    "sample": dpm.sample,
    "iterate": dpm.iterate,
    "torch": lambda denoiser, x, **options: dpm.sample(denoiser, torch.from_numpy(x), **options),
}

ARGUMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("no budget", {}, r"how many network evaluations.*nfe=10.*plan"),
    (
        "unknown solver",
        {"nfe": 4, "solver": "dmm++2m"},
        r"unknown solver 'dmm\+\+2m'.*did you mean 'dpm\+\+2m'.*dpm\.solvers\(\)",
    ),
    ("unknown grid", {"nfe": 4, "grid": "karas"}, r"unknown grid 'karas'.*did you mean 'karras'.*dpm\.grids\.GRIDS"),
    ("unknown option", {"nfe": 4, "lower_order_finale": 1}, "unknown option 'lower_order_finale'.*'lower_order_final'"),
    ("unknown grid option", {"nfe": 4, "grid": "karras", "roh": 5.0}, "unknown option 'roh'.*did you mean 'rho'"),
    ("another solver's option", {"nfe": 4, "eta": 1.0}, r"unknown option 'eta'.*solver unipc-2"),
    ("nfe 0", {"nfe": 0}, "nfe must be an integer >= 1, got 0"),
    ("nfe negative", {"nfe": -3}, "nfe must be an integer >= 1, got -3"),
    ("nfe a float", {"nfe": 4.5}, r"nfe must be an integer >= 1, got 4\.5"),
    ("nfe a bool", {"nfe": True}, "nfe must be an integer >= 1, got True"),
    ("nfe text", {"nfe": "ten"}, "nfe must be an integer >= 1, got 'ten'"),
    ("nfe odd", {"nfe": 7, "solver": "dpm++2s"}, "2 evaluations a step.*cannot spend nfe=7: nearest is 6 or 8"),
    ("nfe too small", {"nfe": 2, "solver": "dpm-3"}, "3 evaluations a step.*cannot spend nfe=2: nearest is 3"),
    (
        "duplicate times",
        {"nfe": 3, "grid": [1.0, 0.5, 0.5, 0.1]},
        r"fall .*strictly: 0\.5 is followed by 0\.5 at index 1",
    ),
    (
        "times that turn",
        {"nfe": 3, "grid": [1.0, 0.3, 0.5, 0.1]},
        r"fall .*strictly: 0\.3 is followed by 0\.5 at index 1",
    ),
    ("too few times", {"nfe": 4, "grid": [1.0, 0.5, 0.1]}, "4 steps need 5 times, the grid has 3"),
    ("times not a vector", {"nfe": 4, "grid": np.ones((2, 2))}, r"a vector of at least two times, got shape \(2, 2\)"),
    ("times NaN", {"nfe": 2, "grid": [1.0, math.nan, 0.1]}, "time nan is outside this schedule"),
    ("times too large", {"nfe": 2, "grid": [2.0, 1.0, 0.1]}, r"time 2\.0 is outside.*1e-05 <= t <= 1 and 0"),
    ("step numbers for times", {"nfe": 2, "grid": [999, 500, 0]}, r"time 999\.0 is outside.*1e-05 <= t <= 1"),
    ("start outside", {"nfe": 4, "start": 1.5}, r"start=1\.5 is outside.*1e-05 <= start <= 1"),
    ("end outside", {"nfe": 4, "end": 1e-7}, "end=1e-07 is outside.*1e-05 <= end <= 1"),
    ("end negative", {"nfe": 4, "end": -0.1}, r"end=-0\.1 is outside"),
    ("start is end", {"nfe": 4, "start": 0.5, "end": 0.5}, r"two different times, got start=0\.5 and end=0\.5"),
    ("start is NaN", {"nfe": 4, "start": math.nan}, "start=nan is outside"),
    ("grid array and start", {"nfe": 2, "grid": [1.0, 0.5, 0.1], "start": 1.0}, "already says where the run starts"),
    ("plan and nfe", {"plan": PLAN, "nfe": 5}, "nfe=5 but the plan spends 4"),
    ("plan and grid", {"plan": PLAN, "grid": "time"}, "already says its solver, grid"),
    ("bad eta", {"nfe": 4, "solver": "ddim", "eta": 2.0}, r"eta must lie in \[0, 1\], got 2\.0"),
    ("bad rho", {"nfe": 4, "grid": "karras", "rho": -1.0}, r"rho must be positive and finite, got -1\.0"),
    ("bad r1", {"nfe": 4, "solver": "dpm-2", "r1": 0.0}, r"0 < r1 < r2 <= 1, got r1=0\.0"),
]


def counted() -> tuple[list[Any], dpm.Denoiser]:
    """A denoiser, and the list that its calls leave a mark in."""
    calls: list[Any] = []

    def network(x: Any, t: Any) -> Any:
        calls.append(t)
        return 0.1 * x

    return calls, dpm.Denoiser(network, VP)


@pytest.mark.parametrize(("arguments", "message"), [c[1:] for c in ARGUMENTS], ids=[c[0] for c in ARGUMENTS])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_wrong_arguments_are_refused_before_the_network_is_called(
    run: Callable[..., Any], arguments: dict[str, Any], message: str
) -> None:
    """PlanError, a ValueError, with the cause and the remedy; iterate raises at once, not when its first state is asked for."""
    calls, denoiser = counted()
    with pytest.raises(dpm.PlanError, match=message):
        run(denoiser, X_T, **arguments)
    assert issubclass(dpm.PlanError, ValueError)
    assert not calls


STATES: list[tuple[str, Any, type, str]] = [
    ("integers", np.ones((2, 3), np.int64), TypeError, "state must be floating point, got int64"),
    ("bytes", np.ones((2, 3), np.uint8), TypeError, "state must be floating point, got uint8"),
    ("complex", np.ones((2, 3), np.complex128), TypeError, "state must be floating point, got complex128"),
    (
        "torch integers",
        torch.ones(2, 3, dtype=torch.int32),
        TypeError,
        r"state must be floating point, got torch\.int32",
    ),
    ("torch complex", torch.ones(2, 3, dtype=torch.complex64), TypeError, r"floating point, got torch\.complex64"),
    ("no samples", np.ones((0, 3)), ValueError, r"at least one element, got shape \(0, 3\)"),
    ("no elements", torch.ones(2, 0), ValueError, r"at least one element, got shape \(2, 0\)"),
    ("a number", np.array(1.0), ValueError, r"a batch axis and at least one element, got shape \(\)"),
    ("a torch number", torch.tensor(1.0), ValueError, r"a batch axis and at least one element, got shape \(\)"),
    ("a list", [[1.0, 2.0]], TypeError, r"must be an array of NumPy, torch or JAX, got builtins\.list"),
    ("a float", 1.0, TypeError, r"must be an array of NumPy, torch or JAX, got builtins\.float"),
    (
        "a list of samples",
        [X_T, X_T],
        TypeError,
        r"got builtins\.list: convert it first, with np\.asarray\(x\) or torch",
    ),
    ("masked", np.ma.masked_array(X_T, X_T > 0), TypeError, r"ordinary array, got a masked one: fill it first"),
    ("sparse", torch.eye(3).to_sparse(), TypeError, r"dense tensor, got a torch\.sparse_coo one: .*x\.to_dense\(\)"),
    ("NaN", np.array([[1.0, 1.0], [math.nan, 1.0]]), ValueError, r"x(_T|0) has NaN or infinity in sample 1 of 2"),
    ("infinity", torch.tensor([[math.inf], [1.0], [-math.inf]]), ValueError, r"x(_T|0) has.*in samples 0, 2 of 3"),
    ("all NaN", np.full((3, 2), math.nan), ValueError, r"x(_T|0) has NaN or infinity in all 3 samples"),
    ("two arrays", (X_T, X_T), TypeError, "the state must be one array, got a tuple: flatten and join its parts"),
    ("named arrays", {"video": X_T, "audio": X_T}, TypeError, "the state must be one array, got a dict"),
    ("nothing", None, TypeError, r"must be an array of NumPy, torch or JAX, got builtins\.NoneType"),
]


@pytest.mark.parametrize(("x", "error", "message"), [c[1:] for c in STATES], ids=[c[0] for c in STATES])
def test_wrong_states_are_refused_before_the_network_is_called(x: Any, error: type, message: str) -> None:
    """By sample, iterate, encode and the adaptive loop alike: integers are not rounded, nothing empty is computed."""
    for run in (dpm.sample, dpm.iterate, dpm.encode):
        calls, denoiser = counted()
        with pytest.raises(error, match=message):
            run(denoiser, x, nfe=4)  # type: ignore[operator]
        assert not calls
    calls, denoiser = counted()
    with pytest.raises(error, match=message):
        dpm.sample_adaptive(denoiser, x)
    assert not calls


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            dpm.schedules.LinearVP(beta_max=15.0),
            r"made for another schedule: at t=1 .*LinearVP\(beta_min=0\.1, beta_max=15",
        ),
        (dpm.schedules.EDM(), r"does not fit this denoiser's schedule: time 0\.001 is outside.*EDM\("),
        (DISCRETE, r"does not fit this denoiser's schedule: time 0\.0001.* outside.*0\.001 <= t|another schedule"),
        (dpm.schedules.LinearVP(t_min=0.01), r"does not fit.*time 0\.001 is outside.*0\.01 <= t <= 1"),
    ],
)
def test_a_plan_of_another_schedule_is_refused(schedule: Any, message: str) -> None:
    """Where the plan's points or its end are not the denoiser's: both are named, and the network is not called."""
    calls, denoiser = counted()
    with pytest.raises(dpm.PlanError, match=message):
        dpm.sample(denoiser.replace(schedule=schedule), X_T, plan=PLAN)
    assert not calls


def test_a_plan_whose_end_alone_does_not_fit_is_refused() -> None:
    """The end is checked like every evaluation, also in a plan whose marginals are free."""
    calls, denoiser = counted()
    end = replace(PLAN.end, sigma=0.5)
    with pytest.raises(dpm.PlanError, match=r"another schedule: at t=0\.001 it has.*sigma=0\.5"):
        dpm.sample(denoiser, X_T, plan=replace(PLAN, end=end, keeps_marginals=False))
    assert not calls


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            lambda network: dpm.sample(network, X_T, nfe=4),
            r"denoiser must be dpm\.Denoiser\(network, schedule.*got function",
        ),
        (lambda network: dpm.iterate(network, X_T, nfe=4), r"denoiser must be dpm\.Denoiser.*got function"),
        (lambda network: dpm.encode(network, X_T, nfe=4), r"denoiser must be dpm\.Denoiser.*got function"),
        (lambda network: dpm.sample_adaptive(network, X_T), r"denoiser must be dpm\.Denoiser.*got function"),
        (lambda network: dpm.sample(dpm.Denoiser(network, VP), X_T, plan="dpm++2m"), "plan must be a Plan.*got str"),
        (lambda network: dpm.make_plan(5, VP, 4), r"solver must be a name or a dpm\.Solver, got int"),
        (lambda network: dpm.Denoiser(network, 1000), "schedule must be a NoiseSchedule.*got int"),
    ],
)
def test_a_thing_of_another_kind_is_named(run: Callable[[Any], Any], message: str) -> None:
    """A bare network for a denoiser, a name for a plan: TypeError with what is wanted."""
    calls = []
    with pytest.raises(TypeError, match=message):
        run(lambda x, t: calls.append(t) or x)
    assert not calls


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"betas": [0.1, 0.0]}, r"betas must lie in \(0, 1\).*got \[0\.\] at step \[1\]"),
        ({"betas": [0.1, 1.2]}, r"betas must lie in \(0, 1\).*got \[1\.2\]"),
        ({"betas": [-0.1, 0.2]}, r"betas must lie in \(0, 1\).*got \[-0\.1\] at step \[0\]"),
        ({"betas": [0.1, math.nan]}, "betas must be finite"),
        ({"betas": [[0.1, 0.2]]}, r"betas must be a vector.*got shape \(1, 2\)"),
        ({"betas": [0.1]}, r"betas must be a vector of at least 2 values, got shape \(1,\)"),
        ({"alphas_cumprod": [0.5, 0.9]}, "alphas_cumprod must decrease strictly"),
        ({"alphas_cumprod": [0.5, 0.5]}, "alphas_cumprod must decrease strictly"),
        ({"alphas_cumprod": [1.5, 0.5]}, r"alphas_cumprod must lie in \(0, 1\).*got \[1\.5\]"),
        ({}, "exactly one of betas and alphas_cumprod"),
        ({"betas": [0.1, 0.2], "alphas_cumprod": [0.9, 0.5]}, "exactly one of betas and alphas_cumprod"),
    ],
)
def test_betas_that_are_no_schedule_are_refused(arguments: dict[str, Any], message: str) -> None:
    """Outside (0, 1), not finite, not a vector, not decreasing, none or both."""
    with pytest.raises(ValueError, match=message):
        dpm.schedules.Discrete(**arguments)


@pytest.mark.parametrize("solver", ["dpm++2m", "dpm-2m", "dpm-3"])
@pytest.mark.parametrize("array", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [1, 4, 6])
def test_a_network_that_is_not_finite_ends_the_run_with_the_evaluation(
    at: int, bad: float, array: Any, solver: str
) -> None:
    """One bad number in one sample is found at its evaluation, which the error names with its time, also when it is the last."""
    calls = []
    plan = dpm.make_plan(solver, VP, 6)

    def network(x: Any, t: Any) -> Any:
        calls.append(t)
        out = 0.1 * x
        if len(calls) == at:
            out[1, 2] = bad
        return out

    time = f"{plan.rows[at - 1].point.time:.6g}"
    with pytest.raises(dpm.SamplingError, match=rf"NaN or infinity at evaluation {at} of 6 \(t={time}"):
        dpm.sample(dpm.Denoiser(network, VP), array(X_T), plan=plan)
    assert len(calls) == at


def test_nested_tensors_are_refused_before_the_network_is_called() -> None:
    """One sentence with two ways out."""
    calls, denoiser = counted()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces a prototype
        x = torch.nested.nested_tensor([torch.ones(2, 2), torch.ones(3, 2)])
    for run in (lambda: dpm.sample(denoiser, x, nfe=3), lambda: dpm.sample_adaptive(denoiser, x)):
        with pytest.raises(TypeError, match=r"dense tensor, got a nested one: pad it.*a run of its own"):
            run()
    assert not calls


def test_the_start_is_named_as_the_caller_knows_it() -> None:
    """x_T of sample, x0 of encode and calibrate; longdouble is no reason to lose digits."""
    calls, denoiser = counted()
    bad = X_T * math.nan
    for run, name in (
        (lambda: dpm.sample(denoiser, bad, nfe=3), "x_T"),
        (lambda: next(dpm.iterate(denoiser, bad, nfe=3)), "x_T"),
        (lambda: dpm.sample_rk45(denoiser, bad), "x_T"),
        (lambda: dpm.encode(denoiser, bad, nfe=3), "x0"),
        (lambda: dpm.calibrate(denoiser, bad), "x0"),
    ):
        with pytest.raises(ValueError, match=f"^{name} has NaN or infinity in all 2 samples"):
            run()
    assert not calls
    assert dpm.sample(denoiser, X_T.astype(np.longdouble), nfe=3).dtype == np.float64


@pytest.mark.parametrize("array", [np.array, torch.tensor])
@pytest.mark.parametrize("run", ["plan", "adaptive", "rk45"])
def test_samples_that_a_network_spoils_are_named(run: str, array: Any) -> None:
    """By their index in the batch."""

    def network(x: Any, t: Any) -> Any:
        out = 0.1 * x
        out[1], out[3] = math.nan, math.inf
        return out

    denoiser, x = dpm.Denoiser(network, VP), array(np.ones((5, 3)))
    runs: dict[str, Callable[[], Any]] = {
        "plan": lambda: dpm.sample(denoiser, x, nfe=3),
        "adaptive": lambda: dpm.sample_adaptive(denoiser, x),
        "rk45": lambda: dpm.sample_rk45(denoiser, x),
    }
    with pytest.raises(dpm.SamplingError, match=r"NaN or infinity at evaluation 1.*in samples 1, 3 of 5: check its"):
        runs[run]()


@pytest.mark.parametrize("at", [-1, 1, 2, 4])
def test_a_device_that_is_asked_once_at_the_end_tells_the_same(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where asking would wait for the device, flags are kept to the end: x_T is still told as x_T, and evaluations as theirs."""
    asked: list[int] = []
    monkeypatch.setattr(type(BACKEND), "finite", lambda self, x: asked.append(1) or x.isfinite().all())
    calls = []

    def network(x: Any, t: Any) -> Any:
        calls.append(1)
        return 0.1 * x + (math.nan if len(calls) == at else 0.0) * torch.eye(3)[:2]

    x = torch.ones(2, 3) if at > 0 else torch.tensor([[1.0] * 3, [math.nan] * 3])
    message = (
        rf"at evaluation {at} of 4 .*\) in all 2 samples" if at > 0 else "x_T has NaN or infinity in sample 1 of 2"
    )
    with pytest.raises(dpm.SamplingError if at > 0 else ValueError, match=message):
        dpm.sample(dpm.Denoiser(network, VP), x, nfe=4)
    assert len(calls) == 4
    assert len(asked) == 6


@pytest.mark.parametrize("hook", ["state_hook", "data_hook"])
def test_a_hook_that_returns_nothing_is_named(hook: str) -> None:
    """One that works in place and forgets to return."""
    calls, denoiser = counted()
    options: dict[str, Any] = {hook: lambda x, point: None}
    if hook == "data_hook":
        denoiser, options = denoiser.replace(**options), {}
    with pytest.raises(TypeError, match=rf"{hook} must return the .*an array like its input, got NoneType"):
        dpm.sample(denoiser, X_T, nfe=3, **options)
    assert len(calls) == (1 if hook == "data_hook" else 0)


@pytest.mark.parametrize("array", [np.asarray, torch.from_numpy])
def test_large_finite_outputs_are_not_taken_for_infinite(array: Any) -> None:
    """A sum that overflows float32 over finite numbers is no reason to end a run."""
    x = np.ones((2, 4096), np.float32)
    denoiser = dpm.Denoiser(lambda x, t: 0.0 * x + 3e37, VP, "data")
    result = np.asarray(dpm.sample(denoiser, array(x), nfe=3, solver="ddim"))
    assert np.isfinite(result).all()


@pytest.mark.parametrize("nfe", [1, 5])
def test_a_wrong_output_is_refused_at_the_first_call(nfe: int) -> None:
    """A shape or a kind that cannot be known before is found after one evaluation, not after all."""
    calls: list[Any] = []
    cases: list[tuple[Callable[[Any], Any], type, str]] = [
        (lambda x: x[:, :2], ValueError, r"must return shape \(2, 3\), got shape \(2, 2\)"),
        (lambda x: x.T, ValueError, r"must return shape \(2, 3\), got shape \(3, 2\)"),
        (lambda x: x.astype(int), TypeError, "floating-point array.*int64"),
        (lambda x: x > 0, TypeError, "floating-point array.*bool"),
        (lambda x: torch.from_numpy(x), TypeError, r"floating-point array like its input, got torch\.Tensor"),
        (lambda x: x.tolist(), TypeError, r"got builtins\.list"),
    ]
    for make, error, message in cases:
        calls.clear()
        denoiser = dpm.Denoiser(lambda x, t, make=make: calls.append(t) or make(x), VP)
        with pytest.raises(error, match=message):
            dpm.sample(denoiser, X_T, nfe=nfe)
        assert len(calls) == 1


def test_an_output_that_cannot_be_converted_is_refused_before_the_network_is_called() -> None:
    """A noise network at alpha = 0: the message names the point and the predictions that work there."""
    calls, denoiser = counted()
    flow = denoiser.replace(schedule=dpm.schedules.Flow())
    with pytest.raises(dpm.PlanError, match=r"not determine data at alpha=0\.0, sigma=1\.0: .*v, velocity or data"):
        dpm.sample(flow, X_T, nfe=4, start=1.0)
    assert not calls


def test_a_noise_prediction_solver_at_pure_noise_is_refused() -> None:
    """The error names a solver that works."""
    calls, denoiser = counted()
    flow = denoiser.replace(schedule=dpm.schedules.Flow(), predicts="velocity")
    with pytest.raises(dpm.PlanError, match=r"cannot start at alpha = 0.*dpm\+\+2m"):
        dpm.sample(flow, X_T, nfe=4, solver="dpm-2m", start=1.0)
    assert not calls


@pytest.mark.parametrize(("name", "order"), [("dpm-12", 2), ("dpm-23", 3)])
def test_the_adaptive_solvers_point_to_their_function(name: str, order: int) -> None:
    """An adaptive solver asked for as a plan names the function and the order that run it."""
    with pytest.raises(dpm.PlanError, match=rf"{name}.*sample_adaptive\(…, order={order}\)"):
        dpm.make_plan(name, dpm.schedules.LinearVP(), nfe=10)
