"""The evidence behind `solver="auto"`: which solver on which grid comes nearest to the exact trajectory, for each budget.

    python -m benchmarks.choice                  measures what is not measured yet (hours on one core, most of it networks)
    python -m benchmarks.choice --only EDM       measures what is missing on these testbeds alone, by a regular expression
    python -m benchmarks.choice --again          measures what has figures again, too
    python -m benchmarks.choice --frechet        measures Frechet distances of the choice and of some others on two networks (ten minutes)
    python -m benchmarks.choice --render         measures nothing and writes the page from the figures
    python -m benchmarks.choice --check          measures nothing; fails where figures, choice and page do not agree

The error of a candidate is the root mean square distance of its results to those of a converged run from the same noise, and its ratio
is that error over the smallest of any candidate on the same testbed. No candidate is the best everywhere, so the choice is by the
worst ratio: over trained networks, which count two thirds, and over laws in closed form. Half of the testbeds choose: most of them among
all candidates, the dearest among the finalists of the others. The other half, with other noises, judge: there the finalists alone are
measured. The figures go to benchmarks/results/choice.json, and the page to docs/choosing.md.
"""

from __future__ import annotations

import argparse
import re

from benchmarks.choice.cases import CASES
from benchmarks.choice.frechet import FRECHET, frechet
from benchmarks.choice.measuring import extended, known_figures, write
from benchmarks.choice.ranking import deviations
from benchmarks.choice.text import PAGE, render
from dpmsolver.files import written_aside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="measure these testbeds alone, where they have no figures"
    )
    parser.add_argument("--again", action="store_true", help="measure what has figures again")
    parser.add_argument("--frechet", action="store_true", help="measure the Frechet distances")
    parser.add_argument("--render", action="store_true", help="write the page from the figures")
    parser.add_argument("--check", action="store_true", help="fail where figures, choice and page do not agree")
    args = parser.parse_args()
    document = known_figures()
    if args.check:
        problems = [*deviations(document)]
        if PAGE.read_text() != render(document):
            problems.append("docs/choosing.md is not what the figures say: python -m benchmarks.choice --render")
        raise SystemExit("\n".join(problems) or 0)
    if args.frechet:
        for name in FRECHET:
            distances = frechet(name)
            document = known_figures()  # again, since other processes may have written to it
            document["frechet"][name] = distances
            write(document)
    elif not args.render:
        for case in sorted(CASES, key=lambda case: not case.chooses_among_all):
            if re.search(args.only, case.name):
                document = extended(document, case, again=args.again)
    with written_aside(PAGE) as aside:
        aside.write_text(render(document))
    print("\n".join(deviations(document)) or "the choice is what the figures say")


if __name__ == "__main__":
    main()
