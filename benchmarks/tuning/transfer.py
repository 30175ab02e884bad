"""Transfer: plans fitted to one network, run on another with the same schedule, as they are and after a refit on a few noises."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tuning.ablation import refit
from benchmarks.tuning.cases import Case, Judges, case_of, fitted, known, read, update
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import Lesson, Taught

__all__ = ["NFES", "SHARED", "measure"]

SHARED = ("digits", "cifar10-mixture", "cifar10-gaussian", "mixture-3072", "mixture-16", "gaussian", "empirical")
NFES = (5, 8)
REFIT = 32  # noises: 24 to fit, 8 to choose


def measure(case: Case, nfes: Sequence[int] = ()) -> None:
    """Run the plans of all others on a case, at some budgets or all; written down after each."""
    gain = read("gain")["cases"]
    figures = known("transfer", case.name, {"judges": case.judges, "refit": REFIT})
    judges = Judges(case)
    given = case.some(judges.testbed, 0, REFIT)
    for nfe in nfes or NFES:
        best = gain.get(case.name, {}).get("untuned", {}).get(str(nfe), {}).get("ours")
        if best is None:
            continue
        of_nfe = figures.setdefault(str(nfe), {})
        end = judges.end(nfe)
        taught = [Taught(part, Lesson.given(part, end)) for part in given.parts(range(REFIT), 8)]
        for source in SHARED:
            if source in of_nfe or str(nfe) not in gain.get(source, {}).get("tuned", {}):
                continue
            table = Table.of(fitted(case_of(source), nfe).plan)
            _, again = refit(table, taught[:3], taught[3:], judges.testbed.schedule)
            of_nfe[source] = {
                name: float(f"{judges.of_table(each).mean() / best['mean']:.3g}")
                for name, each in (("plain", table), ("refit", again))
            }
            update("transfer", case.name, figures)
            print(case.name, nfe, source, of_nfe[source], flush=True)
