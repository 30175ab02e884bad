"""What all fits of a network share: three parts of the noises, a teacher that is found once, and names for what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from laws import END, PEAKS, SCHEDULE, labels

import dpmsolver as dpm
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.tuning.course import Course
from dpmsolver.tuning.parts import Noises

X = dpm.initial_noise(SCHEDULE, (16, 2), seed=0)


def course(denoiser: Any = None, x_T: Any = X, end: float | None = END, store: Path | None = None) -> Course:
    return Course(Noises(PEAKS.denoiser(SCHEDULE) if denoiser is None else denoiser, x_T), end, 8, range(16), store)


def test_thirds_are_all_noises_each_once() -> None:
    thirds = course().thirds()
    assert sorted([*thirds.fit, *thirds.choose, *thirds.judge]) == list(range(16))
    assert [len(each) for each in thirds] == [6, 4, 6]


def guided(scale: Any) -> dpm.Denoiser:
    conditions = {"class_labels": labels(16)}, {"class_labels": np.full(16, 3)}
    return PEAKS.denoiser(SCHEDULE).replace(guidance=ClassifierFree(scale, *conditions))


COURSES = {
    "plain": course(),
    "another network": course(dpm.models.Mixture(1.01 * PEAKS.means, PEAKS.variances).denoiser(SCHEDULE)),
    "another schedule": course(PEAKS.denoiser(dpm.schedules.LinearVP(beta_max=19.0))),
    "other noises": course(x_T=dpm.initial_noise(SCHEDULE, (16, 2), seed=1)),
    "another end": course(end=0.02),
    "labels": course(PEAKS.denoiser(SCHEDULE).replace(network_kwargs={"class_labels": labels(16)})),
    "other labels": course(PEAKS.denoiser(SCHEDULE).replace(network_kwargs={"class_labels": labels(16)[::-1].copy()})),
    "labels in a list": course(PEAKS.denoiser(SCHEDULE).replace(network_kwargs={"class_labels": [0] * 16})),
    "others in a list": course(PEAKS.denoiser(SCHEDULE).replace(network_kwargs={"class_labels": [1] * 16})),
    "guidance": course(guided(2.0)),
    "more guidance": course(guided(3.0)),
    "a scale per noise": course(guided(np.linspace(1.0, 3.0, 16))),
    "another between the same ends": course(guided(np.linspace(1.0, 3.0, 16) ** 2 / 3.0 + np.linspace(2 / 3, 0.0, 16))),
    "no weights": course(dpm.Denoiser(lambda x, t: 0.5 * x, SCHEDULE, "data")),
    "no weights either": course(dpm.Denoiser(lambda x, t: 0.4 * x, SCHEDULE, "data")),
}


def powered(power: float) -> Any:
    return lambda x, reference: np.abs(x - reference).mean(axis=1) ** power


def test_functions_differ_by_what_they_say() -> None:
    """Lambdas of one name: by their code, by numbers around them and in them, in a loss, in features, in guidance and in a hook."""
    losses = [powered(1.0), powered(2.0), lambda x, r: x[:, 0], lambda x, r: x[:, 1], lambda x, r: r[:, 0]]
    keys = [course().key(4, 1000, None, loss) for loss in losses]
    keys += [course().key(4, 1000, features, None) for features in (lambda x: x[:, :1], lambda x: x[:, :2])]
    keys += [course(guided(scale)).key(4) for scale in (lambda t: 2.0 + t, lambda t: 3.0 + t)]
    hooks = (lambda x, t: np.clip(x, -1.0, 1.0), lambda x, t: np.clip(x, -2.0, 2.0))
    keys += [course(PEAKS.denoiser(SCHEDULE).replace(data_hook=hook)).key(4) for hook in hooks]
    assert len(set(keys)) == len(keys)
    assert course().key(4, 1000, None, powered(2.0)) == keys[1]


def test_what_differs_has_another_name() -> None:
    """Network, schedule, noises, end, conditions and guidance; and functions without weights by what they answer."""
    keys = {name: each.key(4, 1000, None, None) for name, each in COURSES.items()}
    keys |= {"another budget": course().key(5, 1000, None, None), "another effort": course().key(4, 2000, None, None)}
    keys |= {"features": course().key(4, 1000, abs, None), "loss": course().key(4, 1000, None, abs)}
    assert len(set(keys.values())) == len(keys)


@pytest.mark.parametrize("name", ["plain", "guidance", "no weights"])
def test_what_is_the_same_has_one_name(name: str) -> None:
    """A denoiser made again, as another process makes it."""
    again = {"plain": course(), "guidance": course(guided(2.0))}.get(
        name, course(dpm.Denoiser(lambda x, t: 0.5 * x, SCHEDULE, "data"))
    )
    assert again.key(4, 1000, None, None) == COURSES[name].key(4, 1000, None, None)


def test_the_teacher_is_found_once(tmp_path: Path) -> None:
    """A second course evaluates nothing for it, nor for its trajectories."""
    first, second = course(store=tmp_path), course(store=tmp_path)
    first.prepare(4)
    whole, ended = first.taught(range(12), 4), first.taught(range(12, 16), 4, whole=False)
    second.prepare(4)
    assert (second.teacher_nfe, second.teacher_error) == (first.teacher_nfe, first.teacher_error)
    for there, again in zip(
        (whole, ended), (second.taught(range(12), 4), second.taught(range(12, 16), 4, whole=False)), strict=True
    ):
        assert all(np.array_equal(a.lesson.end, b.lesson.end) for a, b in zip(there, again, strict=True))
    assert second.noises.evaluations == 0


def test_a_file_of_the_teacher_that_is_cut_short_is_named(tmp_path: Path) -> None:
    course(store=tmp_path).prepare(4)
    next(tmp_path.glob("converged-*.json")).write_text("[6")
    with pytest.raises(dpm.PlanError, match=r"converged-.*\.json says no teacher .*: delete it, and it is made again"):
        course(store=tmp_path).prepare(4)


def rough(which: Any) -> dpm.Denoiser:
    """Data near two points, and for some noises whatever the last digits of the state say."""

    def network(x: Any, t: Any, rough: Any) -> Any:
        return np.tanh(x) + rough[:, None] * np.sign(np.sin(1e7 * x))

    return dpm.Denoiser(network, SCHEDULE, "data", network_kwargs={"rough": np.asarray(which, float)})


def test_one_undecided_sample_does_not_speak_for_the_teacher() -> None:
    """It carries the mean of the errors, which is told, and not their median; all of them together are no teacher."""
    one = course(rough([1.0] + [0.0] * 15))
    one.prepare(4)
    assert one.teacher_nfe == 64
    assert one.teacher_error > 0.01
    with pytest.raises(dpm.PlanError, match=r"the teacher has not converged: .* apart in the median"):
        course(rough(np.ones(16))).prepare(4)


def test_where_auto_is_exact_there_is_nothing_to_fit() -> None:
    """Data of one point, on which auto ends where every run ends: not a teacher that has not converged."""
    one = course(dpm.Denoiser(lambda x, t: 0.0 * x + 0.3, SCHEDULE, "data"))
    with pytest.raises(
        dpm.PlanError, match=r"there is nothing to fit: auto with 4 evaluations ends .* from the converged"
    ) as raised:
        one.prepare(4)
    assert "\n" not in str(raised.value)
