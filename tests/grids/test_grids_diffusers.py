"""The spacings and the dynamic shift of diffusers, against diffusers' own schedulers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.errors import PlanError
from dpmsolver.grids import make_grid
from dpmsolver.schedules import Discrete, Flow, LinearVP

SCHEDULE = Discrete(betas=np.linspace(1e-4, 0.02, 1000))
COUNTS = [2, 3, 6, 10, 16, 25, 30, 50, 77, 100]
CONFIG = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def labels(times: np.ndarray) -> list[float]:
    return [SCHEDULE.label(float(t)) for t in times]


def peer(scheduler: type[Any], steps: int, **config: Any) -> list[int]:
    made = scheduler(**CONFIG, **config)
    made.set_timesteps(steps)
    return [int(t) for t in made.timesteps]


@pytest.mark.parametrize("steps", COUNTS)
@pytest.mark.parametrize("scheduler", [diffusers.DDIMScheduler, diffusers.DPMSolverMultistepScheduler])
def test_trailing_rounded_has_the_timesteps_of_diffusers(scheduler: type[Any], steps: int) -> None:
    """timestep_spacing="trailing" is trailing with round=True; the unrounded grid is within half a training step."""
    theirs = peer(scheduler, steps, timestep_spacing="trailing")
    times = make_grid(SCHEDULE, steps, "trailing", round=True)
    assert labels(times) == [*theirs, 0.0]
    assert np.abs(times - make_grid(SCHEDULE, steps, "trailing")).max() <= 0.5 / 1000 + 1e-12


@pytest.mark.parametrize("steps", COUNTS)
@pytest.mark.parametrize("offset", [0, 1])
def test_leading_has_the_timesteps_of_diffusers(steps: int, offset: int) -> None:
    """timestep_spacing="leading": all points with keep_last=True (DDIM), all but the last without (DPMSolverMultistep)."""
    config = {"timestep_spacing": "leading", "steps_offset": offset}
    kept = make_grid(SCHEDULE, steps, "leading", end=0.0, steps_offset=offset, keep_last=True)
    assert labels(kept) == [*peer(diffusers.DDIMScheduler, steps, **config), -1.0]
    replaced = make_grid(SCHEDULE, steps, "leading", steps_offset=offset)
    assert labels(replaced) == [*peer(diffusers.DPMSolverMultistepScheduler, steps, **config), 0.0]


@pytest.mark.parametrize("steps", COUNTS)
def test_linspace_has_the_timesteps_of_diffusers(steps: int) -> None:
    """timestep_spacing="linspace": all points with keep_last=True (DDIM), all but the last without (DPMSolverMultistep)."""
    config = {"timestep_spacing": "linspace"}
    kept = make_grid(SCHEDULE, steps, "linspace", end=0.0, keep_last=True)
    assert labels(kept) == [*peer(diffusers.DDIMScheduler, steps, **config), -1.0]
    theirs = peer(diffusers.DPMSolverMultistepScheduler, steps, **config)
    assert labels(make_grid(SCHEDULE, steps, "linspace")) == [*theirs, 0.0]
    assert labels(make_grid(SCHEDULE, steps, "linspace", end=0.0)) == [*theirs, -1.0]


def test_leading_with_stable_diffusions_settings_ends_at_the_first_training_step() -> None:
    """set_alpha_to_one=False: the run of DDIM goes on from step 1 to step 0, which is our default end."""
    times = make_grid(SCHEDULE, 50, "leading", steps_offset=1, keep_last=True)
    assert labels(times) == [981.0 - 20 * i for i in range(50)] + [0.0]
    plan = dpm.make_plan("ddim", SCHEDULE, 50, "leading", steps_offset=1, keep_last=True)
    assert [row.point.label for row in plan.rows] == labels(times)[:-1]


def test_linspace_serves_image_to_image() -> None:
    """Another start and end are kept as they are, on a training step or not; the steps between are whole and even."""
    times = make_grid(SCHEDULE, 4, "linspace", start=0.7505, end=0.0505)
    assert (times[0], times[-1]) == (0.7505, 0.0505)
    assert labels(times)[1:-1] == [574.0, 400.0, 224.0]


@pytest.mark.parametrize("kind", ["exponential", "linear"])
@pytest.mark.parametrize("tokens", [256, 1024, 4096, 9000])
def test_dynamic_shift_has_the_noise_levels_of_diffusers(kind: Any, tokens: int) -> None:
    """FlowMatchEulerDiscreteScheduler with use_dynamic_shifting, given the sigmas and the mu of the pipelines of Flux and SD3.5."""
    mu = 0.5 + 0.65 * (tokens - 256) / 3840
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type=kind)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / 28, 28), mu=mu)
    times = make_grid(Flow(), 28, "dynamic-shift", image_seq_len=tokens, kind=kind)
    np.testing.assert_allclose(Flow().sigma(times), scheduler.sigmas.numpy(), rtol=1e-6)
    np.testing.assert_allclose(make_grid(Flow(), 28, "dynamic-shift", mu=mu, kind=kind), times, rtol=1e-14)


def test_dynamic_shift_is_the_flow_shift_by_its_exponential() -> None:
    """base_shift at base_seq_len, max_shift at max_seq_len, and the default is the larger one."""
    for options, mu in (({"image_seq_len": 256}, 0.5), ({}, 1.15), ({"image_seq_len": 100, "base_seq_len": 100}, 0.5)):
        shift = make_grid(Flow(), 9, "shifted", shift=math.exp(mu))
        np.testing.assert_allclose(make_grid(Flow(), 9, "dynamic-shift", **options), shift, rtol=1e-14)


VP = LinearVP()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_grid(VP, 4, "trailing", round=True), "round=True counts training steps.*LinearVP"),
        (lambda: make_grid(VP, 4, "leading"), "leading counts training steps and needs a Discrete schedule"),
        (
            lambda: make_grid(SCHEDULE, 4, "leading", start=0.5),
            "whole runs only .t=1.0., not t=0.5: take grid='linspace'",
        ),
        (lambda: make_grid(SCHEDULE, 4, "leading", steps_offset=-1), "an integer >= 0, got -1"),
        (lambda: make_grid(SCHEDULE, 4, "leading", steps_offset=0.5), "an integer >= 0, got 0.5"),
        (lambda: make_grid(SCHEDULE, 999, "leading", steps_offset=1), "past the last training step, 999"),
        (lambda: make_grid(SCHEDULE, 10, "leading", keep_last=True), "evaluates at step 0.*give end=0.0, not 0.001"),
        (lambda: make_grid(SCHEDULE, 10, "linspace", keep_last=True), r"evaluates at step 0.*\(step 0\)"),
        (lambda: make_grid(SCHEDULE, 1000, "linspace"), "1000 steps .* do not fall on different training steps"),
        (lambda: make_grid(SCHEDULE, 2000, "leading"), "2000 steps .* do not fall on different training steps"),
        (lambda: make_grid(SCHEDULE, 999, "trailing", round=True), "do not fall on different training steps"),
        (
            lambda: make_grid(SCHEDULE, 10, "linspace", 0.105, 0.1),
            "10 steps .* do not fall on different training steps",
        ),
        (lambda: make_grid(Flow(), 4, "dynamic-shift", kind="exponent"), "unknown kind .*did you mean 'exponential'"),
        (lambda: make_grid(Flow(), 4, "dynamic-shift", image_seq_len=0), "must be positive.*got 0, 256, 4096"),
        (lambda: make_grid(Flow(), 4, "dynamic-shift", base_seq_len=4096), "must differ, got 4096, 4096, 4096"),
        (lambda: make_grid(Flow(), 4, "dynamic-shift", mu=-1.0, kind="linear"), "shift > 0.*got shift=-1.0"),
        (lambda: dpm.make_plan("ddim", SCHEDULE, 4, "leading", offset=1), "unknown option 'offset'.*steps_offset"),
    ],
)
def test_what_a_spacing_cannot_do_is_refused_with_its_cause(make: Callable[[], Any], message: str) -> None:
    """Each wrong request raises a PlanError that names what was given and what is accepted."""
    with pytest.raises(PlanError, match=message):
        make()
