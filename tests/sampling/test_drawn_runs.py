"""Runs as pictures: states or predicted data, as pictures, paths or curves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

import dpmsolver as dpm

SCHEDULE = dpm.schedules.LinearVP()


@pytest.fixture(autouse=True)
def _figures_are_closed() -> Iterator[None]:
    mpl.use("Agg")
    yield
    from matplotlib import pyplot

    pyplot.close("all")


def run(shape: tuple[int, ...], nfe: int = 5) -> list[dpm.State[Any]]:
    denoiser = dpm.Denoiser(lambda x, t: 0.0 * x + 0.5, SCHEDULE, "data")
    return list(dpm.iterate(denoiser, dpm.initial_noise(SCHEDULE, shape), nfe))


def test_pictures_stand_in_a_row_for_each_sample() -> None:
    """The first samples, every state, in the range that is asked for."""
    states = run((6, 1, 4, 4))
    axes = np.array(dpm.plot_trajectory(states, samples=2, value_range=(0.0, 1.0)).axes).reshape(2, 6)
    assert [each.get_title() for each in axes[0]] == [f"t={state.time:.3g}" for state in states]
    shown = np.asarray(axes[1, 2].images[0].get_array())
    assert shown == pytest.approx(np.clip(states[2].denoised[1, 0], 0.0, 1.0))


def test_long_runs_show_the_first_and_the_last_state_and_some_between() -> None:
    """As many columns as are asked for."""
    states = run((1, 3, 4, 4), 30)
    axes = dpm.plot_trajectory(states, "x", columns=7).axes
    assert len(axes) == 7
    assert axes[-1].get_title() == f"t={states[-1].time:.3g}"
    assert axes[0].images[0].get_array().shape == (4, 4, 3)


def test_points_are_paths_through_the_states() -> None:
    """Of each point, all of them, with a mark at the end."""
    states = run((40, 2))
    axes = dpm.plot_trajectory(states, "x", samples=1).axes[0]
    assert axes.lines[0].get_xydata() == pytest.approx(np.array([state.x[0] for state in states]))
    assert len(axes.lines) == 32 + 2


def test_numbers_are_curves_over_the_evaluations() -> None:
    """States of one number, and of more."""
    states = run((3, 1))
    lines = dpm.plot_trajectory(states, "x").axes[0].lines
    assert len(lines) == 3
    assert lines[1].get_ydata() == pytest.approx(np.array([state.x[1, 0] for state in states]))
    assert len(dpm.plot_trajectory(run((3, 5))).axes[0].lines) == 15


def test_latents_are_decoded_before_they_are_drawn() -> None:
    """By the caller's function, which gets the first samples."""
    seen = []

    def decode(z: Any) -> Any:
        seen.append(z.shape)
        return z[:, :3]

    assert len(dpm.plot_trajectory(run((5, 4, 2, 2)), decode=decode, samples=2).axes) == 12
    assert set(seen) == {(2, 4, 2, 2)}
    with pytest.raises(dpm.PlanError, match="decode must return pictures"):
        dpm.plot_trajectory(run((5, 4, 2, 2)), decode=lambda z: z)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"show": "x0"}, "unknown show 'x0'"),
        ({"samples": 0}, "samples must be an integer >= 1, got 0"),
        ({"columns": True}, "columns must be an integer >= 1"),
        ({"states": iter(())}, "not used up"),
        ({"states": [1, 2]}, "dpm.iterate"),
    ],
)
def test_what_cannot_be_drawn_is_refused(change: dict[str, Any], said: str) -> None:
    """With the argument and what is accepted."""
    with pytest.raises(dpm.PlanError, match=said):
        dpm.plot_trajectory(**{"states": run((2, 2)), **change})
