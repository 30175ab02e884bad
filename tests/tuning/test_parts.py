"""Parts of the noises: each with its own conditions, wherever these are written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from laws import PEAKS, SCHEDULE, labels

import dpmsolver as dpm
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.plans.rows import Point
from dpmsolver.tuning.parts import Noises

POINT = Point.at(SCHEDULE, 0.4)
X = dpm.initial_noise(SCHEDULE, (9, 2), seed=0)
CHOSEN = [7, 0, 4]


def guided(num: int, scale: Any) -> ClassifierFree:
    return ClassifierFree(scale, {"class_labels": labels(num)}, {"class_labels": np.full(num, 3)})


DENOISERS = {
    "labels": PEAKS.denoiser(SCHEDULE).replace(network_kwargs={"class_labels": labels(9)}),
    "labels in a list": PEAKS.denoiser(SCHEDULE).replace(network_kwargs={"class_labels": labels(9).tolist()}),
    "guidance": PEAKS.denoiser(SCHEDULE).replace(guidance=guided(9, 2.0)),
    "a scale per noise": PEAKS.denoiser(SCHEDULE).replace(guidance=guided(9, np.linspace(0.5, 3.0, 9))),
    "a scale of the time": PEAKS.denoiser(SCHEDULE).replace(guidance=guided(9, lambda t: 1.0 + t)),
    "no condition": PEAKS.denoiser(SCHEDULE),
}


@pytest.mark.parametrize("name", DENOISERS)
def test_a_part_is_the_rows_of_the_whole(name: str) -> None:
    """The predicted data of some noises are those that the whole batch has for them."""
    denoiser = DENOISERS[name]
    noises = Noises(denoiser, X)
    whole, part = noises.part(range(9)), noises.part(CHOSEN)
    assert np.allclose(part(part.x, POINT), whole(whole.x, POINT)[CHOSEN], rtol=0, atol=1e-13)
    assert noises.evaluations == 12
    first = part.first(2)
    assert np.allclose(first(first.x, POINT), whole(whole.x, POINT)[CHOSEN[:2]], rtol=0, atol=1e-13)


def test_a_function_of_noises_is_given_their_numbers() -> None:
    seen = []

    def made(numbers: Any) -> dpm.Denoiser:
        seen.append(numbers.tolist())
        return PEAKS.denoiser(SCHEDULE).replace(network_kwargs={"class_labels": numbers % 3})

    noises, whole = Noises(made, X), Noises(DENOISERS["labels"], X).part(range(9))
    parts = noises.parts(CHOSEN, 2)
    assert seen == [[7, 0], [4]]
    found = np.concatenate([part(part.x, POINT) for part in parts])
    assert np.allclose(found, whole(whole.x, POINT)[CHOSEN], rtol=0, atol=1e-13)


def test_what_the_function_returns_is_checked() -> None:
    with pytest.raises(TypeError, match=r"the function of noises must return dpm\.Denoiser\(…\), got int"):
        Noises(lambda numbers: 3, X).part([0])
    with pytest.raises(TypeError, match=r"the function of noises must return dpm\.Denoiser\(…\), got int"):
        dpm.tune(lambda numbers: 3, (16, 2))  # type: ignore[arg-type, return-value]


def test_scales_that_are_not_one_per_noise_are_told() -> None:
    """By the numbers that the caller knows, not by those of a part."""
    denoiser = PEAKS.denoiser(SCHEDULE).replace(guidance=guided(9, [1.0, 2.0]))
    with pytest.raises(
        dpm.PlanError, match="guidance has 2 scales, and there are 9 noises: give one scale, or one for"
    ):
        Noises(denoiser, X).part(CHOSEN)


def test_tensors_are_divided_too() -> None:
    """Torch: the state and the labels stay tensors."""
    given = torch.tensor(labels(9))

    def network(x: Any, t: Any, y: Any) -> Any:
        assert len(x) == len(t) == len(y)
        return x * y[:, None]

    denoiser = dpm.Denoiser(network, SCHEDULE, predicts="data", network_kwargs={"y": given})
    part = Noises(denoiser, torch.tensor(X)).part(CHOSEN)
    assert torch.equal(part(part.x, POINT), torch.tensor(X)[CHOSEN] * given[CHOSEN][:, None])
    assert part.flat(part.x).dtype == np.float64
