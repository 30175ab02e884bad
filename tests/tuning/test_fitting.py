"""Least squares: rows that end nearer, and stay where they were if they are pulled hard."""

from __future__ import annotations

import numpy as np
import pytest
from laws import END, SCHEDULE

from dpmsolver.solvers import make_plan
from dpmsolver.tuning.fitting import fit_rows, mean_products, pulled_least_squares
from dpmsolver.tuning.misses import Miss, end_errors
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import Taught


@pytest.fixture
def table() -> Table:
    return Table.of(make_plan("dpm++2m", SCHEDULE, 5, end=END))


def test_fitted_rows_are_nearer_on_gaussian_data(table: Table, taught: Taught) -> None:
    """By a factor of ten at least: there the network is linear, and so is the plan."""
    fitted = fit_rows(table, [taught], Miss(), 1e-6)
    assert end_errors(fitted, [taught], Miss()).mean() < 0.1 * end_errors(table, [taught], Miss()).mean()
    assert fitted.points == table.points


def test_a_hard_pull_leaves_the_rows(table: Table, taught: Taught) -> None:
    fitted = fit_rows(table, [taught], Miss(), 1e9)
    assert all(np.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(fitted.rows, table.rows, strict=True))


def test_parts_are_one_set_of_noises(table: Table, taught: Taught) -> None:
    """Two parts of eight noises give the rows of one of sixteen."""
    halves = [taught.first(8), Taught(*_rest(taught, 8))]
    one, two = (fit_rows(table, given, Miss(), 1e-4) for given in ([taught], halves))
    assert all(np.allclose(a, b, rtol=1e-8, atol=1e-10) for a, b in zip(one.rows, two.rows, strict=True))


def _rest(taught: Taught, count: int) -> tuple:
    part, lesson = taught
    rest = part._noises.part(range(count, len(part)))
    states, outputs = (tuple(x[count:] for x in arrays) for arrays in (lesson.states, lesson.outputs))
    return rest, type(lesson)(lesson.points, states, outputs)


def test_least_squares_finds_the_coefficients_that_made_the_data() -> None:
    """Five samples of 40 numbers, made of three vectors without an error."""
    rng = np.random.default_rng(0)
    vectors, wanted = rng.standard_normal((5, 3, 40)), np.array([0.5, -2.0, 1.25])
    target = np.einsum("j,bjd->bd", wanted, vectors)
    products = mean_products(np.concatenate([vectors, target[:, None]], axis=1))
    theory = np.ones(3)
    assert np.allclose(theory + pulled_least_squares(products.mean(axis=0), theory, 0.0), wanted, rtol=0, atol=1e-10)
