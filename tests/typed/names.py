"""What mypy says of programs that use the library: `make check` reads this file, nothing runs it.

A line with `type: ignore` is wrong and has to be refused: mypy reports an ignore that it did not need.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import assert_type

import dpmsolver as dpm
from dpmsolver.adapters.diffusers import PlanScheduler
from dpmsolver.typing import Written

Floats = NDArray[np.float64]


def names(denoiser: dpm.Denoiser, schedule: dpm.schedules.NoiseSchedule, x: Floats, rho: float) -> None:
    dpm.sample(denoiser, x, 10, solver="dpm++2m")
    dpm.sample(denoiser, x, 10, solver="dpmpp_2m", grid="karras", rho=rho)
    dpm.sample(denoiser, x, 10, solver=Written(f"dpm++2m@karras:rho={rho}"))
    dpm.sample(denoiser, x, 10, solver="dmp++2m")  # type: ignore[arg-type]
    dpm.sample(denoiser, x, 10, solver="dpm++2m", grid="karas")  # type: ignore[arg-type]
    dpm.iterate(denoiser, x, 10, solver="dmp++2m")  # type: ignore[arg-type]
    dpm.encode(denoiser, x, 10, solver="dmp-2m")  # type: ignore[arg-type]
    dpm.make_plan("ddim", schedule, 10, "logsnr", predicts="noise")
    dpm.make_plan("dimm", schedule, 10)  # type: ignore[arg-type]
    dpm.make_plan("ddim", schedule, 10, "logsnrr")  # type: ignore[arg-type]
    dpm.make_plan("ddim", schedule, 10, predicts="eps")  # type: ignore[arg-type]
    dpm.Denoiser(lambda x, t: x, schedule, predicts="epsilon")  # type: ignore[arg-type]
    dpm.generate("digits", 10, 5, out="x", solver="dpm++2m", grid="karras")
    dpm.generate("digits", 10, 5, out="x", solver="dmp++2m")  # type: ignore[arg-type]
    dpm.generate("digits", 10, 5, out="x", grid="karas")  # type: ignore[arg-type]
    dpm.options("unipc-2")
    dpm.options("karras")
    dpm.options("unipc2")  # type: ignore[arg-type]


def pipelines(config: dict[str, object]) -> None:
    PlanScheduler("unipc-3", grid="config", noise="host")
    PlanScheduler(Written("unipc-3@karras:rho=5"))
    PlanScheduler("unipc3")  # type: ignore[arg-type]
    PlanScheduler.from_config(config, solver="unipc-3", prediction_type="v_prediction")
    PlanScheduler.from_config(config, solver="unipc3")  # type: ignore[arg-type]
    PlanScheduler.from_config(config, grid="karas")  # type: ignore[arg-type]


def grids(schedule: dpm.schedules.NoiseSchedule, times: Floats, tensor: torch.Tensor) -> None:
    dpm.make_plan("ddim", schedule, 10, times)
    dpm.make_plan("ddim", schedule, 10, tensor)
    dpm.make_plan("ddim", schedule, 2, [1.0, 0.5, 0.0])
    dpm.make_plan("ddim", schedule, 10, dpm.grids.karras)


def arrays(denoiser: dpm.Denoiser, x: Floats, tensor: torch.Tensor) -> None:
    assert_type(dpm.sample(denoiser, x, 10), Floats)
    assert_type(dpm.sample(denoiser, tensor, 10), torch.Tensor)
    assert_type(dpm.encode(denoiser, tensor, 10), torch.Tensor)
    assert_type(dpm.sample_adaptive(denoiser, tensor), torch.Tensor)
    assert_type(dpm.iterate(denoiser, tensor, 10), Iterator[dpm.State[torch.Tensor]])
    assert_type(dpm.initial_noise(denoiser.schedule, (2, 3)), Floats)
    assert_type(dpm.initial_noise(denoiser.schedule, (2, 3), like=tensor), torch.Tensor)
    assert_type(dpm.add_noise(denoiser.schedule, tensor, tensor, 0.5), torch.Tensor)
    assert_type(denoiser.at(tensor, 0.5), torch.Tensor)
    assert_type(dpm.Stepper(dpm.make_plan("ddim", denoiser.schedule, 3), tensor).x, torch.Tensor)
    dpm.sample(denoiser, "x_T", 10)  # type: ignore[type-var]
    dpm.sample(denoiser, [0.0, 1.0], 10)  # type: ignore[type-var]
