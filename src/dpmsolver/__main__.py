"""`python -m dpmsolver`: the command line."""

import sys

from dpmsolver.cli import main

if __name__ == "__main__":
    sys.exit(main())
