"""Cases: the networks and laws on which the candidates of `solver="auto"` are measured, and those that judge the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import dpmsolver as dpm
from dpmsolver import backends
from dpmsolver.evaluation.measures import host
from dpmsolver.models.testbeds import Testbed, load_testbed
from dpmsolver.schedules import EDM, Discrete, Flow, LinearVP, NoiseSchedule, scaled_linear_betas

__all__ = ["CASES", "KINDS", "SCHEDULES", "Case", "in_edm"]


def _zero_terminal(betas: np.ndarray) -> NoiseSchedule:
    """Return betas rescaled to no signal at the last step (Lin et al. 2023, arXiv 2305.08891, algorithm 1)."""
    root = np.sqrt(np.cumprod(1.0 - betas))
    return Discrete(alphas_cumprod=np.square((root - root[-1]) * root[0] / (root[0] - root[-1])))


def _cosine(steps: int = 1000) -> NoiseSchedule:
    """Return the betas of Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17."""
    signal = np.cos(0.5 * np.pi * (np.linspace(0.0, 1.0, steps + 1) + 0.008) / 1.008) ** 2
    return Discrete(betas=np.minimum(1.0 - signal[1:] / signal[:-1], 0.999))


SCHEDULES: dict[str, NoiseSchedule] = {
    "linear": Discrete(betas=np.linspace(1e-4, 0.02, 1000)),
    "scaled-linear": Discrete(betas=scaled_linear_betas()),
    "zero-SNR": _zero_terminal(np.linspace(1e-4, 0.02, 1000)),
    "cosine": _cosine(),
    "LinearVP": LinearVP(),
    "EDM": EDM(),
    "flow": Flow(),
    "flow-shift-3": Flow(shift=3.0),
}


@dataclass(frozen=True)
class Case:
    """A network or a law, under a schedule, with a guidance scale, on which candidates are measured."""

    testbed: str
    schedule: str = ""
    predicts: str = ""
    guidance: float = 1.0
    judges: bool = False

    @property
    def name(self) -> str:
        """The name in the figures and on the page."""
        guided = "" if self.guidance == 1.0 else f"guidance {self.guidance:g}"
        return " ".join(part for part in (self.testbed, self.schedule, self.predicts, guided) if part)

    @property
    def trained(self) -> bool:
        """True for a trained network, False for a law in closed form."""
        return not self.schedule or self.testbed == "cifar10"

    @property
    def chooses_among_all(self) -> bool:
        """True if it measures every candidate. The dearest networks, guided or large, choose among the finalists of the others."""
        return not self.judges and self.guidance == 1.0 and self.testbed != "cifar10"

    @property
    def num(self) -> int:
        """The number of samples: few where they cost most."""
        if self.testbed == "cifar10":
            return 6  # the errors of its samples are much alike
        return 12 if self.trained and not self.testbed.startswith("moons") else 16 if "3072" in self.name else 24

    def load(self) -> Testbed:
        """Return the testbed."""
        if not self.trained:
            return load_testbed(self.testbed, schedule=SCHEDULES[self.schedule], predicts=self.predicts or None)
        testbed = load_testbed(self.testbed, features="auto" if "moons" in self.testbed else "none")
        return in_edm(testbed) if self.schedule else testbed

    def denoiser(self, testbed: Testbed) -> dpm.Denoiser:
        """Return the denoiser of its samples, guided towards their classes."""
        labels = testbed.labels(range(self.num))
        plain = testbed.denoiser(labels)
        if self.guidance == 1.0:
            return plain
        wanted = plain.network_kwargs["class_labels"]
        condition, nothing = {"class_labels": wanted}, {"class_labels": 0 * wanted + testbed.num_classes}
        return plain.replace(network_kwargs={}, guidance=dpm.guidance.ClassifierFree(self.guidance, condition, nothing))


def in_edm(testbed: Testbed) -> Testbed:
    """Return the testbed of a network that predicts noise as one of EDM, which predicts the data.

    The network is given the state divided by sqrt(1 + sigma^2). Its noise levels begin at sigma/alpha = 0.01, and so do those of the
    schedule.
    """
    own = testbed.schedule
    schedule = EDM(sigma_min=float(np.exp(-own.half_log_snr(own.t_min))))

    def denoiser(labels: Sequence[int] | None) -> dpm.Denoiser:
        plain = testbed.denoiser(labels)

        def data(x: Any, sigma: Any, **kwargs: Any) -> Any:
            level = sigma.reshape(-1, *[1] * (x.ndim - 1))
            logs = np.minimum(-np.log(host(sigma)), own.half_log_snr(own.t_min))
            labels = np.array([own.label(time) for time in own.time(logs).ravel()]).reshape(sigma.shape)
            return x - level * plain.network(
                x / (1.0 + level**2) ** 0.5, backends.of(x).from_numpy(labels, x), **kwargs
            )

        return plain.replace(network=data, schedule=schedule, predicts="data")

    return replace(testbed, schedule=schedule, network_denoiser=denoiser)


CASES = (
    # Variance preserving
    Case("digits"),
    Case("digits", guidance=3.0),
    Case("cifar10"),
    Case("moons-linear"),
    Case("cifar10-mixture", "linear"),
    Case("cifar10-gaussian", "scaled-linear"),
    Case("mixture-16", "LinearVP"),
    Case("digits", guidance=7.5, judges=True),
    Case("cifar10-small", judges=True),
    Case("cifar10-mixture", "scaled-linear", judges=True),
    Case("cifar10-mixture", "linear", guidance=3.0, judges=True),
    Case("cifar10-gaussian", "LinearVP", judges=True),
    Case("empirical", "linear", judges=True),
    # Variance exploding
    Case("digits-edm"),
    Case("digits-edm", guidance=3.0),
    Case("cifar10", "EDM"),
    Case("cifar10-mixture", "EDM"),
    Case("empirical", "EDM"),
    Case("moons-edm", judges=True),
    Case("cifar10-gaussian", "EDM", judges=True),
    Case("mixture-16", "EDM", judges=True),
    # No signal at the start
    Case("digits-flow"),
    Case("digits-flow", guidance=3.0),
    Case("digits-cosine-v"),
    Case("cifar10-mixture", "flow", "velocity"),
    Case("cifar10-gaussian", "zero-SNR", "v"),
    Case("empirical", "flow", "velocity"),
    Case("moons-flow", judges=True),
    Case("digits-cosine-v", guidance=3.0, judges=True),
    Case("cifar10-mixture", "flow-shift-3", "velocity", judges=True),
    Case("cifar10-mixture", "flow", "velocity", 7.5, judges=True),
    Case("cifar10-mixture", "cosine", "v", judges=True),
    Case("cifar10-gaussian", "flow", "velocity", judges=True),
    Case("mixture-16", "zero-SNR", "v", judges=True),
    # Noise where there is no signal
    Case("digits-cosine"),
    Case("digits-cosine", guidance=3.0),
    Case("cifar10-gaussian", "cosine", "noise"),
    Case("mixture-16", "cosine", "noise"),
    Case("cifar10-mixture", "cosine", "noise", judges=True),
    Case("cifar10-mixture", "zero-SNR", "noise", judges=True),
    # Noise on a flow
    Case("cifar10-mixture", "flow", "noise"),
    Case("mixture-16", "flow", "noise"),
    Case("cifar10-gaussian", "flow-shift-3", "noise", judges=True),
    Case("empirical", "flow", "noise", judges=True),
)
KINDS = {
    "variance preserving": "Variance preserving: linear and scaled-linear betas",
    "variance exploding": "Variance exploding: EDM",
    "no signal at the start": "No signal at the start: flows; v under cosine betas and zero SNR",
    "noise where there is no signal": "Networks of noise under cosine betas and zero SNR",
    "noise on a flow": "Networks of noise on a flow",
}
