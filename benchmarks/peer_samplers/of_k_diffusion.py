"""k-diffusion's samplers."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch

from benchmarks.peer_samplers.common import Network, Peer, Run, cumulative_products, drawing, generator_of, seed_of
from dpmsolver.errors import PlanError
from dpmsolver.evaluation.samplers import Keys
from dpmsolver.schedules import EDM, NoiseSchedule

RTOLS = (0.5, 0.1, 0.05)  # of dpm_adaptive, whose default is the last


@contextmanager
def _stand_ins() -> Iterator[None]:
    """`k_diffusion` without what its package imports beside the samplers: torchvision, wandb and more."""
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None:
        raise ImportError("k-diffusion is not installed: pip install --no-deps k-diffusion torchdiffeq torchsde")
    package, utils = ModuleType("k_diffusion"), ModuleType("k_diffusion.utils")
    package.__path__ = list(spec.submodule_search_locations or [])
    utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]  # type: ignore[attr-defined]
    package.utils = utils  # type: ignore[attr-defined]
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "k_diffusion"}
    sys.modules.update({"k_diffusion": package, "k_diffusion.utils": utils})
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "k_diffusion"]:
            del sys.modules[name]
        sys.modules.update(before)


@cache
def k_diffusion() -> tuple[Any, Any]:
    """Its modules `sampling` and `external`."""
    with _stand_ins():
        return importlib.import_module("k_diffusion.sampling"), importlib.import_module("k_diffusion.external")


@dataclass(frozen=True)
class _OfSigma:
    """A network of EDM's schedule, which is what k-diffusion's samplers take: denoiser(x, sigma)."""

    network: Network
    sigma_min: float
    sigma_max: float

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return self.network.data(x, float(sigma.flatten()[0]))


def _wrapped(network: Network, x: torch.Tensor) -> Any:
    """k-diffusion's wrapper of a discrete model, times between the training steps included: denoiser(x, sigma)."""
    if isinstance(network.schedule, EDM):
        return _OfSigma(network, network.schedule.sigma_min, network.schedule.sigma_max)
    _, external = k_diffusion()
    wrapper = {"epsilon": external.DiscreteEpsDDPMDenoiser, "v_prediction": external.DiscreteVDDPMDenoiser}
    products = torch.from_numpy(cumulative_products(network.schedule))

    class Inner(torch.nn.Module):
        def forward(self, state: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return network(state, float(t[0]))

    return wrapper[network.prediction](Inner(), products.to(x), quantize=False)


def _sigmas(model: Any, grid: str | None, steps: int, x: torch.Tensor) -> torch.Tensor:
    """k-diffusion's sigmas, from the largest of the training steps to the smallest, and 0."""
    sampling, _ = k_diffusion()
    if grid is None:
        found: torch.Tensor = model.get_sigmas(steps)
    else:
        low, high = float(model.sigma_min), float(model.sigma_max)
        found = getattr(sampling, f"get_sigmas_{grid}")(steps, low, high)
    return found.to(x)


def _steps_of(evaluations_per_step: int, nfe: int) -> int:
    """Steps that cost at most `nfe`, the last of which, to sigma = 0, costs one. PlanError for less than two."""
    steps = (nfe + evaluations_per_step - 1) // evaluations_per_step
    if steps < 2:
        raise PlanError(f"k-diffusion's sigmas are at least two steps, which cost more than {nfe} evaluations")
    return steps


def _on_sigmas(function: str, cost: int, grid: str | None, noise: str, options: dict[str, Any]) -> Run:
    """A run on a list of sigmas. `noise`: where it comes from, "" for none."""

    def run(network: Network, x: torch.Tensor, setting: float, keys: Keys) -> torch.Tensor:
        sampling, _ = k_diffusion()
        model = _wrapped(network, x)
        sigmas = _sigmas(model, grid, _steps_of(cost, int(setting)), x)
        given = dict(options)
        if noise == "independent":
            generator = generator_of(x, keys)
            given["noise_sampler"] = lambda *_: torch.randn(
                x.shape, generator=generator, dtype=x.dtype, device=x.device
            )
        elif noise == "brownian":
            given["noise_sampler"] = sampling.BrownianTreeNoiseSampler(x, sigmas[-2], sigmas[0], seed_of(keys))
        x = x * model.sigma_max
        found: torch.Tensor = getattr(sampling, f"sample_{function}")(model, x, sigmas, disable=True, **given)
        return found

    return run


def _to_sigma_min(function: str, **options: Any) -> Run:
    """dpm_fast and dpm_adaptive, which choose their steps between two sigmas and end at the smaller."""

    def run(network: Network, x: torch.Tensor, setting: float, keys: Keys) -> torch.Tensor:
        sampling, _ = k_diffusion()
        model = _wrapped(network, x)
        spent = {"n": int(setting)} if function == "dpm_fast" else {"rtol": setting}
        limits = float(model.sigma_min), float(model.sigma_max)
        given = {**spent, **options, "noise_sampler": lambda *_: 0.0}
        found: torch.Tensor = getattr(sampling, f"sample_{function}")(
            model, x * model.sigma_max, *limits, disable=True, **given
        )
        return found

    return run


def _on_grids(function: str, cost: int, noise: str, variant: str = "", **options: Any) -> Iterator[Peer]:
    solver = f"k-diffusion {function}{variant}"
    stochastic = bool(noise) and options.get("eta") != 0.0

    def ends(schedule: NoiseSchedule, setting: float) -> float:
        _steps_of(cost, int(setting))
        return 0.0

    for grid in (None, "karras", "exponential"):
        run = _on_sigmas(function, cost, grid, noise, options)
        name = solver if grid is None else f"{solver} {grid}"
        yield Peer(name, drawing(run), stochastic=stochastic, solver=solver, grid=grid, ends=ends)


def _k_samplers() -> Iterator[Peer]:
    for function, cost in (("euler", 1), ("heun", 2), ("dpm_2", 2), ("lms", 1), ("dpmpp_2m", 1)):
        yield from _on_grids(function, cost, "")
    yield from _on_grids("dpmpp_2s_ancestral", 2, "independent", " eta=0", eta=0.0)
    for function, cost in (("euler_ancestral", 1), ("dpm_2_ancestral", 2), ("dpmpp_2s_ancestral", 2)):
        yield from _on_grids(function, cost, "independent")
    for function, cost in (("dpmpp_sde", 2), ("dpmpp_2m_sde", 1), ("dpmpp_3m_sde", 1)):
        yield from _on_grids(function, cost, "brownian")
    yield from _on_grids("dpmpp_2m_sde", 1, "brownian", " heun", solver_type="heun")
    name = "k-diffusion dpm_fast"
    yield Peer(name, drawing(_to_sigma_min("dpm_fast")), solver=name, ends=_first_step)
    for order in (2, 3):
        name = f"k-diffusion dpm_adaptive {order}"
        run = _to_sigma_min("dpm_adaptive", order=order)
        yield Peer(name, drawing(run), settings=RTOLS, solver=name, ends=_first_step)


def _first_step(schedule: NoiseSchedule, setting: float) -> float:
    return schedule.t_min


K_DIFFUSION: Sequence[Peer] = tuple(_k_samplers())
# Without the steps of equal length in the time of a discrete model.
EDM_K_DIFFUSION = [peer for peer in K_DIFFUSION if peer.grid or peer.ends is _first_step]
