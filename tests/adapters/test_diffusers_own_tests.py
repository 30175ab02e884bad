"""diffusers' own tests of schedulers, with PlanScheduler in the place of theirs. They are fetched, at one commit, and not copied.

`DPMSOLVER_DIFFUSERS_TESTS` may name a folder that holds diffusers' `tests`; without it they are downloaded.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

COMMIT = "58eb52c080"
SOURCE = f"https://codeload.github.com/huggingface/diffusers/tar.gz/{COMMIT}"
REGISTERED = """
from dpmsolver.adapters.diffusers import PlanScheduler

from . import test_scheduler_ddim, test_scheduler_deis, test_scheduler_dpm_multi, test_scheduler_dpm_single
from . import test_scheduler_euler, test_scheduler_heun, test_scheduler_unipc


def made(name, solver, chosen):
    def __init__(self, of=None, **config):
        if not config.get("_dpmsolver"):
            config = {"_class_name": name, **chosen, **config}
            of = of or solver
        PlanScheduler.__init__(self, of, **config)

    return type("PlanScheduler", (PlanScheduler,), {"__init__": __init__})


def case(module, solver, options=None, grid="config"):
    test = next(value for name, value in vars(module).items() if name.endswith("SchedulerTest"))
    scheduler = made(test.scheduler_classes[0].__name__, solver, {"grid": grid, "options": options})
    return type("Test_" + solver, (test,), {"scheduler_classes": (scheduler,)})


whole = {"lower_order_final": False}
TestDDIM = case(test_scheduler_ddim, "ddim")
TestDPM2M = case(test_scheduler_dpm_multi, "dpm++2m", whole)
TestDPM2MSDE = case(test_scheduler_dpm_multi, "dpm++2m-sde", whole)
TestDPM3 = case(test_scheduler_dpm_single, "dpm-3", grid=None)
TestUniPC = case(test_scheduler_unipc, "unipc-3")
TestDEIS = case(test_scheduler_deis, "deis-logrho1")
TestEuler = case(test_scheduler_euler, "euler")
TestHeun = case(test_scheduler_heun, "heun")
"""

# What must pass for every solver: the shape of the interface.
COMMON = {"test_from_pretrained", "test_scheduler_public_api", "test_getattr_is_correct", "test_deprecated_kwargs"}
# And the results that theirs have, to their digits.
LOOPS = {
    "TestDDIM": {"test_full_loop_no_noise", "test_full_loop_with_noise", "test_full_loop_with_v_prediction"},
    "TestDPM2M": {"test_full_loop_no_noise", "test_full_loop_with_v_prediction"},
    "TestUniPC": {"test_switch"},
    "TestDEIS": {"test_full_loop_no_noise", "test_full_loop_with_noise", "test_full_loop_with_v_prediction"},
}


def fetched(folder: Path) -> Path:
    """diffusers' tests of schedulers, with ours registered beside them."""
    given = os.environ.get("DPMSOLVER_DIFFUSERS_TESTS")
    if given:
        shutil.copytree(Path(given) / "tests", folder / "tests")
    else:
        with urllib.request.urlopen(SOURCE, timeout=120) as answer:
            content = io.BytesIO(answer.read())
        with tarfile.open(fileobj=content) as archive:
            wanted = [each for each in archive.getmembers() if each.name.partition("/")[2].startswith("tests/")]
            archive.extractall(folder, members=wanted, filter="data")
        (top,) = folder.iterdir()
        (top / "tests").rename(folder / "tests")
    (folder / "tests" / "schedulers" / "test_plan.py").write_text(REGISTERED)
    return folder


@pytest.mark.network
def test_the_tests_of_the_interface_and_the_full_loops_pass(tmp_path: Path) -> None:
    folder, report = fetched(tmp_path / "theirs"), tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "tests/schedulers/test_plan.py", "-p", "no:cacheprovider"]
    subprocess.run([*command, f"--junitxml={report}"], cwd=folder, capture_output=True, check=False)
    failed: dict[str, set[str]] = {}
    passed: dict[str, set[str]] = {}
    for test in ElementTree.parse(report).iter("testcase"):
        suite = test.attrib["classname"].rpartition(".")[2]
        broken = any(child.tag in ("failure", "error") for child in test)
        (failed if broken else passed).setdefault(suite, set()).add(test.attrib["name"])
    assert len(passed) == 8
    assert {suite: COMMON & names for suite, names in failed.items() if COMMON & names} == {}
    assert {suite: names - passed[suite] for suite, names in LOOPS.items() if names - passed[suite]} == {}
    print({suite: sorted(names) for suite, names in failed.items()})
