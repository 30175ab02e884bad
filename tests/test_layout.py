"""The package as a user imports it."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import dpmsolver as dpm

MODULES = [m.name for m in pkgutil.walk_packages(dpm.__path__, "dpmsolver.") if not m.name.endswith("__main__")]


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_hidden_by_a_function_of_its_name(name: str) -> None:
    """`import dpmsolver.x as x` gives the module for every module there is."""
    module = importlib.import_module(name)
    parent, _, leaf = name.rpartition(".")
    assert getattr(importlib.import_module(parent), leaf) is module


def test_the_package_of_solvers_lists_them_when_it_is_called() -> None:
    """`dpm.solvers()` is the table of names, and `dpm.solvers.Solver` is there beside it."""
    assert dpm.solvers()["ddim"].startswith("first order")
    assert dpm.solvers.Solver is dpm.Solver


def test_what_sampling_does_not_need_is_imported_later() -> None:
    """`import dpmsolver` leaves tuning alone, and `dpm.tune` is there, named by `dir`, when it is asked for."""
    code = "import sys, dpmsolver as dpm; print([m for m in sys.modules if m.startswith('dpmsolver.tuning')], dpm.tune.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "tune"]
    assert {"tune", "select", "from_diffusers"} <= set(dir(dpm))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dpm.nothing
