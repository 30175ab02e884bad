"""What a fit brings, measured: benchmarks/results/tuning-*.json, and docs/tuned.md, which shows them.

    python -m benchmarks.tuning --part gain                   measures what is not measured yet
    python -m benchmarks.tuning --part gain --only digits     of the cases that a regular expression finds
    python -m benchmarks.tuning --part ablation               then: special, stability, transfer, quality
    python -m benchmarks.tuning --render                      measures nothing and writes the page from the figures
    python -m benchmarks.tuning --check                       measures nothing; fails where figures and page do not agree

Gain comes first: the others use its fits, which are kept in runs/tuning, and its figures. A run that was stopped
resumes. Figures of tuned plans are measured again where the code of the fit has changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.tuning import parts, text
from dpmsolver.files import written_aside


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--part", default="", choices=("", *parts.PARTS), help="what to measure")
    add("--only", default="", metavar="REGEX", help="of the cases, those whose name it finds")
    add("--nfe", default="", metavar="LIST", help="of the budgets, these, such as 5,8,12")
    add("--device", default=None, help="of the networks, such as cuda")
    add("--render", action="store_true", help="write the page from the figures")
    add("--check", action="store_true", help="fail where figures and page do not agree")
    args = parser.parse_args(argv)
    if args.check:
        if text.PAGE.exists() and text.PAGE.read_text() == text.render():
            return 0
        print("docs/tuned.md is not what the figures say: python -m benchmarks.tuning --render")
        return 1
    if args.part:
        parts.run(args.part, args.only, [int(nfe) for nfe in args.nfe.split(",") if nfe], args.device)
    if args.part or args.render:
        with written_aside(text.PAGE) as aside:
            aside.write_text(text.render())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
