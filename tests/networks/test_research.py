"""`Denoiser.edm`, `.score_sde`, `.guided_diffusion`, `.latent_diffusion`: each project's contract, in small stand-ins of our own."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dpmsolver as dpm
from dpmsolver.networks.research import rounded
from research_code import BETAS, VESDE, VPSDE, Diffusion, EDMNet, GuidedNet, Latent, MeanType, each, subVPSDE

X = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-6) -> bool:
    return bool((found - wanted).abs().max() <= tolerance * wanted.abs().max())


# EDM -------------------------------------------------------------------------------------------------------------------------------


def edm_heun(denoised: Any, x: Tensor, sigmas: Tensor) -> Tensor:
    """Karras et al. 2022, algorithm 1, with sigma(t) = t and s(t) = 1."""
    for sigma, to in pairwise(sigmas):
        slope = (x - denoised(x, sigma)) / sigma
        ahead = x + (to - sigma) * slope
        if to > 0:
            slope = 0.5 * slope + 0.5 * (ahead - denoised(ahead, to)) / to
        x = x + (to - sigma) * slope
    return x


def karras(low: float, high: float, n: int) -> Tensor:
    """Eq. 5, and the 0 after it."""
    ramp = torch.arange(n, dtype=torch.float64) / (n - 1)
    return torch.cat(
        [(high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7, torch.zeros(1, dtype=torch.float64)]
    )


def test_a_network_of_edm_is_sampled_as_in_its_paper() -> None:
    """Heun's method on the grid of eq. 5, written out here, and ours end in the same picture."""
    net = EDMNet(label_dim=3, sigma_min=0, sigma_max=float("inf"))
    denoiser = dpm.Denoiser.edm(net, [2, 0])
    assert (denoiser.schedule, denoiser.predicts) == (dpm.schedules.EDM(0.002, 80.0), "data")
    rows = torch.eye(3)[[2, 0]]
    wanted = edm_heun(lambda x, s: net(x, s, rows).double(), 80.0 * X, karras(0.002, 80.0, 6))
    assert close(dpm.sample(denoiser, 80.0 * X, nfe=11, solver="heun", grid="karras"), wanted)


@pytest.mark.parametrize(
    ("attributes", "low", "high"),
    [
        ({}, 0.002, 80.0),  # EDM2's networks say nothing of noise levels
        ({"sigma_min": 0.0, "sigma_max": math.inf}, 0.002, 80.0),  # EDM
        ({"sigma_min": 0.0014, "sigma_max": 152.2}, 0.002, 80.0),  # VP
        ({"sigma_min": 0.02, "sigma_max": 50.0}, 0.02, 50.0),  # VE
    ],
)
def test_runs_stay_within_what_the_network_supports(attributes: dict[str, float], low: float, high: float) -> None:
    schedule = dpm.Denoiser.edm(EDMNet(**attributes)).schedule
    assert (schedule.t_min, schedule.t_max) == (low, high)
    if attributes.get("sigma_max") == 50.0:
        assert dpm.Denoiser.edm(EDMNet(**attributes), sigma_max=30.0).schedule.t_max == 30.0


def test_noise_levels_of_a_network_that_rounds_them_are_its_own() -> None:
    """iDDPM's networks were trained on a table of sigmas: runs start and end on it, and a rounded grid stays on it."""
    table = torch.tensor([90.0, 41.0, 20.0, 9.0, 4.2, 2.1, 0.9, 0.41, 0.2, 0.09, 0.04, 0.01])

    def round_sigma(sigma: Any) -> Tensor:
        sigma = torch.as_tensor(sigma)
        return table[(sigma.reshape(-1, 1) - table).abs().argmin(1)].to(sigma.dtype).reshape(sigma.shape)

    net = EDMNet(sigma_min=0.01, sigma_max=90.0, round_sigma=round_sigma)
    denoiser = dpm.Denoiser.edm(net)
    levels = table.double().tolist()
    assert denoiser.schedule.t_max in levels
    dpm.sample(denoiser, 90.0 * X, nfe=5, solver="dpm++2m", grid=rounded(net))
    assert all(sigma in levels for _, seen, _ in net.seen for sigma in seen.double().tolist())
    assert len(net.seen) == 5


def test_half_weights_take_no_digits_from_the_state() -> None:
    """EDM2's pickles hold half weights, and their networks compute in float32: x comes to them in float32."""
    net = EDMNet().half()
    dpm.sample(dpm.Denoiser.edm(net), 80.0 * X, nfe=3)
    assert {dtype for dtype, _, _ in net.seen} == {torch.float32}


def test_a_network_is_guided_by_another() -> None:
    """EDM2's autoguidance: gnet + guidance (net - gnet), both with the labels; at guidance 1 the network alone."""
    net, gnet = EDMNet(3), EDMNet(3, seed=1)
    rows, sigma = torch.eye(3)[[1, 2]], torch.tensor([2.0, 5.0], dtype=torch.float64)
    plain, weak = (each_net(X, sigma, rows, gain=0.5).double() for each_net in (net, gnet))
    denoiser = dpm.Denoiser.edm(net, [1, 2], gnet=gnet, guidance=1.5, network_kwargs={"gain": 0.5})
    assert close(denoiser.at(X, sigma), weak + 1.5 * (plain - weak))
    alone = dpm.Denoiser.edm(net, rows, gnet=gnet, network_kwargs={"gain": 0.5})
    assert close(alone.at(X, sigma), plain)


# score_sde -------------------------------------------------------------------------------------------------------------------------


class Derived(VESDE):
    """An SDE of one's own."""


class ScoreNet:
    """A network of x and labels, which it keeps."""

    def __call__(self, x: Tensor, labels: Tensor) -> Tensor:
        self.labels = labels
        return torch.tanh(x) + each(labels / 1000, x) * x


T = torch.tensor([0.3, 0.8], dtype=torch.float64)


@pytest.mark.parametrize("kind", [VPSDE, subVPSDE])
def test_a_continuous_network_of_a_vp_process_returns_minus_the_score_times_its_deviation(kind: Any) -> None:
    """Labels are 999 t and the score is -output/std (get_score_fn); the schedule has the SDE's alpha and sigma."""
    sde, model = kind(0.2, 18.0), ScoreNet()
    denoiser = dpm.Denoiser.score_sde(model, sde)
    assert close(torch.as_tensor(denoiser.schedule.alpha(T)), sde.alpha(T), 1e-12)
    assert close(torch.as_tensor(denoiser.schedule.sigma(T)), sde.std(T), 1e-12)
    found = denoiser.at(X, T, "score")
    assert close(model.labels, 999 * T, 1e-12)
    assert close(found, -model(X, 999 * T) / each(sde.std(T), X), 1e-12)


def test_a_discrete_network_of_a_vp_process_is_that_of_its_betas() -> None:
    """Labels are the steps' numbers, and the deviation at step n is (1 - alphas_cumprod[n])^(1/2)."""
    sde, model, steps = VPSDE(), ScoreNet(), torch.tensor([37, 700])
    denoiser = dpm.Denoiser.score_sde(model, sde, continuous=False)
    found = denoiser.at(X, (steps + 1).double() / 1000, "score")
    std = (1 - torch.cumprod(1 - sde.discrete_betas.double(), 0)[steps]).sqrt()
    assert model.labels.tolist() == [37.0, 700.0]
    assert close(found, -model(X, steps.double()) / each(std, X), 1e-9)
    without = SimpleNamespace(beta_0=0.1, beta_1=20.0, N=1000)
    named = type("VPSDE", (SimpleNamespace,), {})(**vars(without))
    again = dpm.Denoiser.score_sde(model, named, continuous=False)
    assert close(again.at(X, (steps + 1).double() / 1000, "score"), found)


@pytest.mark.parametrize("kind", [VESDE, Derived])
def test_a_network_of_an_exploding_process_returns_the_score(kind: Any) -> None:
    """Its labels are the deviation; of a discrete network the number of the nearest step, from 0 for the most noise, as integers."""
    sde, model = kind(), ScoreNet()
    denoiser = dpm.Denoiser.score_sde(model, sde)
    assert denoiser.schedule == dpm.schedules.EDM(0.01, 50.0)
    sigmas = sde.std(T)
    assert close(denoiser.at(X, sigmas, "score"), model(X, sigmas), 1e-12)
    discrete = dpm.Denoiser.score_sde(model, sde, continuous=False)
    discrete.at(X, sigmas, "score")
    assert model.labels.dtype == torch.int64
    assert model.labels.tolist() == torch.round((1 - T) * 999).long().tolist()
    x = dpm.sample(discrete, 50.0 * X, nfe=6)
    assert bool(x.isfinite().all())


def test_samples_of_a_score_network_are_the_data() -> None:
    """The exact score of normal data of deviation 0.5, in the words of each SDE, ends in samples of deviation 0.5."""
    for sde in (VPSDE(), subVPSDE(), VESDE()):

        def model(x: Tensor, labels: Tensor, sde: Any = sde) -> Tensor:
            if isinstance(sde, VESDE):
                return -x / each(0.25 + labels**2, x)
            t = labels / 999
            return x * each(sde.std(t) / (0.25 * sde.alpha(t) ** 2 + sde.std(t) ** 2), x)

        denoiser = dpm.Denoiser.score_sde(model, sde)
        x_T = dpm.initial_noise(denoiser.schedule, (2000, 2), like=X)
        assert float(dpm.sample(denoiser, x_T, nfe=20).std()) == pytest.approx(0.5, abs=0.02)


# guided-diffusion ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [None, range(0, 1000, 40)])
@pytest.mark.parametrize("rescale", [False, True])
def test_a_diffusion_says_the_schedule_the_labels_and_the_channels(kept: Any, rescale: bool) -> None:
    """eps is the first half of the channels; timesteps are the training's, and scaled to 1000 where the diffusion does that."""
    betas = np.linspace(2.5e-5, 5e-3, 4000) if rescale else BETAS
    diffusion, model = Diffusion(betas, kept, rescale), GuidedNet()
    denoiser = dpm.Denoiser.guided_diffusion(model, diffusion)
    indices = np.array([3, len(diffusion.betas) - 2])
    found = denoiser.at(X, (indices + 1) / len(diffusion.betas), "data")
    t = torch.tensor(np.array(diffusion.timestep_map)[indices] * (0.25 if rescale else 1.0))
    product = torch.as_tensor(diffusion.alphas_cumprod[indices])
    eps = model(X, t)[:, :3]
    assert close(found, (X - each((1 - product).sqrt(), X) * eps) / each(product.sqrt(), X), 1e-9)


def test_a_classifier_guides_as_in_condition_score() -> None:
    """eps - (1 - alphas_cumprod)^(1/2) grad log p(y | x): by their cond_fn, and by the classifier itself."""
    diffusion, model, y = Diffusion(), GuidedNet(), torch.tensor([1, 0])
    weights = torch.randn(48, 3, dtype=torch.float64)
    indices = np.array([100, 900])

    def classifier(x: Tensor, t: Tensor) -> Tensor:
        return x.flatten(1) @ weights * (1 + each(t, x[:, 0, 0]) / 1000)

    def cond_fn(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            inside = x.detach().requires_grad_(True)
            chosen = classifier(inside, t).log_softmax(-1)[range(2), y]
            return 2.5 * torch.autograd.grad(chosen.sum(), inside)[0]

    gradient = cond_fn(X, torch.as_tensor(indices), y)
    std = torch.as_tensor((1 - diffusion.alphas_cumprod[indices]) ** 0.5)
    wanted = model(X, torch.as_tensor(indices), y)[:, :3] - each(std, X) * gradient
    for given in ({"cond_fn": cond_fn}, {"classifier": classifier, "classifier_scale": 2.5}):
        denoiser = dpm.Denoiser.guided_diffusion(model, diffusion, model_kwargs={"y": y}, **given)
        assert close(denoiser.at(X, (indices + 1) / 1000, "noise"), wanted, 1e-9)


def test_a_plain_diffusion_of_improved_diffusion_is_read_too() -> None:
    """No map of timesteps, words in place of enumerations, x_0 predicted, three channels."""
    plain = SimpleNamespace(
        betas=BETAS, model_mean_type="START_X", model_var_type="FIXED_SMALL", rescale_timesteps=False
    )
    denoiser = dpm.Denoiser.guided_diffusion(lambda x, t: 0.5 * x + 0.0 * each(t, x), plain)
    assert (denoiser.predicts, denoiser.learned_variance, denoiser.label(999.0)) == ("data", False, 999.0)
    assert close(denoiser.at(X, 0.5), 0.5 * X)


# Latent diffusion ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("parameterization", "predicts"), [("eps", "noise"), ("x0", "data"), ("v", "v")])
def test_a_latent_model_is_guided_by_texts(parameterization: str, predicts: Any) -> None:
    """uncond + scale (cond - uncond), of the texts' encodings, in one call; what the model predicts is read from it."""
    model, t = Latent(parameterization), torch.tensor([300, 800])
    cond, uncond = ["a house", "a tree"], ["", ""]
    warm, cold = (model.apply_model(X, t, model.get_learned_conditioning(texts)) for texts in (cond, uncond))
    model.batches.clear()
    denoiser = dpm.Denoiser.latent_diffusion(model, cond, uncond, 3.0)
    assert close(denoiser.at(X, (t + 1) / 1000, predicts), cold + 3.0 * (warm - cold), 1e-9)
    assert model.batches == [4]
    assert denoiser.schedule.alpha(0.5) == pytest.approx(float(model.alphas_cumprod[499]) ** 0.5)


def test_a_latent_model_takes_what_it_has_encoded() -> None:
    """Dictionaries of lists as its hybrid models want them, unequal lengths in two calls, and no condition at all."""
    model, t = Latent(), 0.5
    encoded = model.get_learned_conditioning(["one", "three"])
    dictionary = dpm.Denoiser.latent_diffusion(model, {"c_crossattn": [encoded]}, {"c_crossattn": [0.0 * encoded]}, 2.0)
    longer = torch.cat([encoded, encoded], 1)
    unequal = dpm.Denoiser.latent_diffusion(model, longer, 0.0 * encoded, 2.0, batched=False)
    assert close(dictionary.at(X, t), unequal.at(X, t), 1e-12)
    assert model.batches == [4, 2, 2]
    assert close(
        dpm.Denoiser.latent_diffusion(model, encoded).at(X, t, "noise"),
        model.apply_model(X, torch.tensor([499.0]), encoded),
        1e-12,
    )
    assert bool(dpm.Denoiser.latent_diffusion(model).at(X, t).isfinite().all())


# Bad input -------------------------------------------------------------------------------------------------------------------------


def edm(**attributes: Any) -> Any:
    return lambda: dpm.Denoiser.edm(EDMNet(**attributes))


def guided(model: Any = None, diffusion: Any = None, **given: Any) -> Any:
    return lambda: dpm.Denoiser.guided_diffusion(model or GuidedNet(), diffusion or Diffusion(), **given)


def latent(*given: Any, **attributes: Any) -> Any:
    model = Latent()
    for name, value in attributes.items():
        setattr(model, name, value)
    return lambda: dpm.Denoiser.latent_diffusion(model, *given)


class WithClasses(GuidedNet):
    num_classes = 10


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: dpm.Denoiser.edm(3), TypeError, "net must be a preconditioned network of EDM or EDM2"),
        (lambda: dpm.Denoiser.edm(lambda x, s: x), dpm.PlanError, "function without the attribute 'img_resolution'"),
        (edm(sigma_min=100.0), dpm.PlanError, "leave nothing of the noise levels that net supports, 100 to inf"),
        (lambda: dpm.Denoiser.edm(EDMNet(), [1]), dpm.PlanError, "label_dim=0"),
        (lambda: dpm.Denoiser.edm(EDMNet(3), [3]), dpm.PlanError, "class numbers from 0 to 2, got"),
        (lambda: dpm.Denoiser.edm(EDMNet(3), torch.eye(2)), dpm.PlanError, r"rows \(B, 3\)"),
        (lambda: dpm.Denoiser.edm(EDMNet(), guidance=2.0), dpm.PlanError, "give gnet="),
        (lambda: rounded(EDMNet()), dpm.PlanError, "without the attribute 'round_sigma'"),
        (lambda: rounded(EDMNet(round_sigma=abs), "kaaras"), dpm.PlanError, "unknown grid 'kaaras'"),
        (lambda: dpm.Denoiser.score_sde(1.0, VPSDE()), TypeError, "model must be a network of score_sde"),
        (lambda: dpm.Denoiser.score_sde(ScoreNet(), "VPSDE"), dpm.PlanError, "VPSDE, subVPSDE, VESDE.*got str"),
        (
            lambda: dpm.Denoiser.score_sde(ScoreNet(), type("VESDE", (), {"sigma_min": 1.0})()),
            dpm.PlanError,
            "VESDE without the attribute 'sigma_max'",
        ),
        (guided(model=2), TypeError, "model must be a network of guided-diffusion"),
        (guided(diffusion=SimpleNamespace()), dpm.PlanError, "without the attribute 'betas'"),
        (guided(diffusion=Diffusion(mean=MeanType.PREVIOUS_X)), dpm.PlanError, "PREVIOUS_X"),
        (
            guided(diffusion=SimpleNamespace(betas=-BETAS, model_mean_type="EPSILON", model_var_type="LEARNED")),
            ValueError,
            r"betas must lie in \(0, 1\)",
        ),
        (guided(model=WithClasses()), dpm.PlanError, "model_kwargs={'y': classes}"),
        (guided(classifier=GuidedNet()), dpm.PlanError, "a classifier needs the classes"),
        (guided(classifier=GuidedNet(), cond_fn=GuidedNet()), dpm.PlanError, "not both"),
        (lambda: dpm.Denoiser.latent_diffusion(3), dpm.PlanError, "int without the attribute 'apply_model'"),
        (latent(parameterization="mu"), dpm.PlanError, "unknown model.parameterization 'mu'"),
        (latent("a house"), dpm.PlanError, "give \\['a house'\\] \\* batch"),
        (latent(torch.ones(2, 1), None, 3.0), dpm.PlanError, "give uncond="),
        (latent(alphas_cumprod=torch.ones(5)), ValueError, "alphas_cumprod must lie in"),
    ],
)
def test_what_is_no_such_network_is_refused_in_one_sentence(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as refused:
        make()
    assert ". " not in str(refused.value)
